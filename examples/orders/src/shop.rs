//! The application's own tables, in the database in which the queue is: an order and its message are one transaction.

#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tickr::{AnyAdmin, BoxFuture, Client, Event, Message, Storage, json};

use crate::telemetry::Telemetry;

/// What a customer sends.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct NewOrder {
    pub(crate) item: String,
    pub(crate) card: Card,
}

/// How the payment of an order goes: what a payment provider would decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Card {
    /// It is paid.
    Good,
    /// The provider does not answer at the first try.
    Flaky,
    /// The bank says no, for good.
    Declined,
}

/// An order was placed: its payment is due.
#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "order.placed")]
pub(crate) struct OrderPlaced {
    pub(crate) order: i64,
    pub(crate) card: Card,
}

/// An order was paid: its receipt is due a little later.
#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "receipt.due")]
pub(crate) struct ReceiptDue {
    pub(crate) order: i64,
}

/// What the application's own tables say. The metrics of the queue must agree.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Ledger {
    /// Orders.
    pub(crate) placed: i64,
    /// Orders whose payment went through.
    pub(crate) paid: i64,
    /// Orders whose card was refused for good.
    pub(crate) declined: i64,
    /// How often a payment was tried.
    pub(crate) tries: i64,
    /// Receipts sent.
    pub(crate) receipts: i64,
}

/// What a payment came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paid {
    /// It is booked, and the receipt is enqueued.
    Now,
    /// It was booked before: this attempt repeats one whose outcome was lost.
    Before,
}

/// The application's database. Each method is one transaction.
pub(crate) trait Shop: Send + Sync + 'static {
    /// What and where it is, without secrets.
    fn name(&self) -> String;
    /// The queue in it.
    fn queue(&self) -> AnyAdmin;
    /// Writes an order and its message.
    fn place(&self, order: NewOrder) -> BoxFuture<'_, Result<i64>>;
    /// Notes that a payment is tried, whatever comes of it.
    fn tries(&self, order: i64) -> BoxFuture<'_, Result<()>>;
    /// Books a payment, and enqueues the receipt.
    fn pay(&self, order: i64) -> BoxFuture<'_, Result<Paid>>;
    /// Books that a card was refused.
    fn decline(&self, order: i64) -> BoxFuture<'_, Result<()>>;
    /// Books receipts.
    fn send_receipts(&self, orders: Vec<i64>) -> BoxFuture<'_, Result<()>>;
    /// Counts everything.
    fn ledger(&self) -> BoxFuture<'_, Result<Ledger>>;
}

/// The tables are there, and so is the queue. What it returns besides is removed when it is dropped.
pub(crate) async fn open(url: Option<&str>, telemetry: &Telemetry, receipt_after: Duration) -> Result<(Arc<dyn Shop>, Option<TempDir>)> {
    let (url, temporary) = match url {
        Some(url) => (url.to_owned(), None),
        None => {
            let folder = tempfile::Builder::new().prefix("tickr-orders-").tempdir()?;
            (format!("sqlite:{}", folder.path().join("orders.db").display()), Some(folder))
        }
    };
    let shop: Arc<dyn Shop> = match url.split_once(':') {
        Some(("sqlite", path)) => Arc::new(sqlite::Sqlite::open(path, telemetry, receipt_after).await?),
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => Arc::new(postgres::Postgres::open(&url, telemetry, receipt_after).await?),
        #[cfg(not(feature = "postgres"))]
        Some(("postgres" | "postgresql", _)) => {
            bail!("this is built without PostgreSQL: cargo run -p orders --features postgres -- --url ...")
        }
        _ => bail!("the URL is sqlite:PATH or postgres://USER@HOST/DATABASE"),
    };
    shop.queue().migrate().await?;
    Ok((shop, temporary))
}

/// A client of which metrics and traces know.
fn client<S: Storage>(storage: S, telemetry: &Telemetry) -> Client<S> {
    let builder = Client::builder(storage).metrics(telemetry.metrics());
    match telemetry.tracer() {
        Some(tracer) => builder.tracer(tracer).build(),
        None => builder.build(),
    }
}

fn placed(order: i64, card: Card) -> tickr::Result<Message> {
    json::message(&OrderPlaced { order, card })
}

fn receipt(order: i64, after: Duration) -> tickr::Result<Message> {
    Ok(json::message(&ReceiptDue { order })?.after(after))
}
