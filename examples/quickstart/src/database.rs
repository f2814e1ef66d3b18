//! What differs between the databases, so that the story can be told once. An application has one database and needs none of
//! this: it calls its driver, as `database/sqlite.rs` and `database/postgres.rs` do.

#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;

use std::fmt::Display;
use std::sync::Arc;

use tickr::{Admin, BoxError, BoxFuture, EnqueueIn};

#[cfg(feature = "postgres")]
pub(crate) use postgres::Postgres;
pub(crate) use sqlite::Sqlite;

/// An order as it is placed.
pub(crate) struct Order {
    pub(crate) customer: &'static str,
    pub(crate) item: &'static str,
    pub(crate) address: Option<&'static str>,
    pub(crate) wants_mail: bool,
}

/// An order as the database has it.
pub(crate) struct Placed {
    pub(crate) id: i64,
    pub(crate) customer: String,
    pub(crate) item: String,
    pub(crate) address: Option<String>,
    pub(crate) wants_mail: bool,
}

/// A database with the table `orders`, and the queue beside it. Shown as what and where it is.
pub(crate) trait Database: Display {
    /// Knows the transactions of the driver.
    type Storage: Admin + Clone + for<'t> EnqueueIn<<Self::Connection as Connection>::Transaction<'t>>;
    /// The driver's own.
    type Connection: Connection;

    /// The queue. Its tables are made by `migrate`.
    fn storage(&self) -> Self::Storage;
    /// A connection of the application.
    async fn connect(&self) -> Result<Self::Connection, BoxError>;
    /// A further connection, which handlers share.
    async fn orders(&self) -> Result<Arc<dyn Orders>, BoxError>;
    /// Removes what was made, unless it shall be kept.
    async fn close(self) -> Result<(), BoxError>;
}

/// What the application does outside of transactions.
pub(crate) trait Connection: 'static {
    /// The driver's own.
    type Transaction<'t>: Transaction;

    async fn begin(&mut self) -> Result<Self::Transaction<'_>, BoxError>;
    async fn set_address(&self, order: i64, address: &str) -> Result<(), BoxError>;
    /// The newest orders, the last one first.
    async fn latest(&self, limit: i64) -> Result<Vec<Placed>, BoxError>;
    async fn count(&self) -> Result<u64, BoxError>;
}

/// The application's own transaction, which messages join by `client.enqueue_in(&mut tx, message)`.
pub(crate) trait Transaction {
    /// Writes an order, and returns its number.
    async fn insert(&mut self, order: &Order) -> Result<i64, BoxError>;
    async fn commit(self) -> Result<(), BoxError>;
    async fn rollback(self) -> Result<(), BoxError>;
}

/// What handlers read.
pub(crate) trait Orders: Send + Sync {
    fn find(&self, order: i64) -> BoxFuture<'_, Result<Placed, BoxError>>;
}
