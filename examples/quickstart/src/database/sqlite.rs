//! SQLite: a file, and rusqlite.

use std::fmt;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use tickr::sqlite::SqliteStorage;
use tickr::sqlite::rusqlite::{self, Row, TransactionBehavior};
use tickr::{BoxError, BoxFuture};

use super::{Connection, Database, Order, Orders, Placed, Transaction};

/// A file that the queue and the application each open for themselves.
pub(crate) struct Sqlite {
    storage: SqliteStorage,
    path: PathBuf,
    /// Removed with the file in it when dropped.
    temporary: Option<TempDir>,
}

impl Sqlite {
    pub(crate) fn open(path: Option<PathBuf>, keep: bool) -> Result<Self, BoxError> {
        let mut temporary = None;
        let path = match path {
            Some(path) => path,
            None => {
                let folder = tempfile::Builder::new().prefix("tickr-quickstart-").disable_cleanup(keep).tempdir()?;
                temporary.insert(folder).path().join("shop.db")
            }
        };
        let storage = SqliteStorage::open(&path)?;
        connect(&path)?.execute_batch(
            "CREATE TABLE IF NOT EXISTS orders (
                id         INTEGER PRIMARY KEY,
                customer   TEXT NOT NULL,
                item       TEXT NOT NULL,
                address    TEXT,
                wants_mail BOOLEAN NOT NULL
            )",
        )?;
        Ok(Self { storage, path, temporary })
    }
}

impl fmt::Display for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQLite in {}", self.path.display())
    }
}

fn connect(path: &Path) -> rusqlite::Result<rusqlite::Connection> {
    let mut db = rusqlite::Connection::open(path)?;
    // SQLite has one writer at a time. A transaction that is going to write takes its turn when it begins: one that has
    // only read so far is refused, rather than made to wait, if somebody else wrote meanwhile.
    db.set_transaction_behavior(TransactionBehavior::Immediate);
    db.busy_timeout(Duration::from_secs(10))?;
    Ok(db)
}

impl Database for Sqlite {
    type Storage = SqliteStorage;
    type Connection = rusqlite::Connection;

    fn storage(&self) -> SqliteStorage {
        self.storage.clone()
    }

    async fn connect(&self) -> Result<rusqlite::Connection, BoxError> {
        Ok(connect(&self.path)?)
    }

    async fn orders(&self) -> Result<Arc<dyn Orders>, BoxError> {
        Ok(Arc::new(Mutex::new(connect(&self.path)?)))
    }

    async fn close(self) -> Result<(), BoxError> {
        drop(self.storage);
        Ok(self.temporary.map_or(Ok(()), TempDir::close)?)
    }
}

impl Connection for rusqlite::Connection {
    type Transaction<'t> = rusqlite::Transaction<'t>;

    async fn begin(&mut self) -> Result<rusqlite::Transaction<'_>, BoxError> {
        Ok(self.transaction()?)
    }

    async fn set_address(&self, order: i64, address: &str) -> Result<(), BoxError> {
        self.execute("UPDATE orders SET address = ?2 WHERE id = ?1", (order, address))?;
        Ok(())
    }

    async fn latest(&self, limit: i64) -> Result<Vec<Placed>, BoxError> {
        let mut select = self.prepare("SELECT id, customer, item, address, wants_mail FROM orders ORDER BY id DESC LIMIT ?1")?;
        Ok(select.query_map([limit], placed)?.collect::<Result<_, _>>()?)
    }

    async fn count(&self) -> Result<u64, BoxError> {
        let rows: i64 = self.query_row("SELECT count(*) FROM orders", [], |row| row.get(0))?;
        Ok(rows.try_into()?)
    }
}

impl Transaction for rusqlite::Transaction<'_> {
    async fn insert(&mut self, order: &Order) -> Result<i64, BoxError> {
        let mut insert = self.prepare_cached("INSERT INTO orders (customer, item, address, wants_mail) VALUES (?1, ?2, ?3, ?4)")?;
        Ok(insert.insert((order.customer, order.item, order.address, order.wants_mail))?)
    }

    async fn commit(self) -> Result<(), BoxError> {
        Ok(self.commit()?)
    }

    async fn rollback(self) -> Result<(), BoxError> {
        Ok(self.rollback()?)
    }
}

impl Orders for Mutex<rusqlite::Connection> {
    fn find(&self, order: i64) -> BoxFuture<'_, Result<Placed, BoxError>> {
        let db = self.lock().unwrap_or_else(PoisonError::into_inner);
        let found = db.query_row("SELECT id, customer, item, address, wants_mail FROM orders WHERE id = ?1", [order], placed);
        Box::pin(ready(found.map_err(Into::into)))
    }
}

fn placed(row: &Row<'_>) -> rusqlite::Result<Placed> {
    Ok(Placed { id: row.get(0)?, customer: row.get(1)?, item: row.get(2)?, address: row.get(3)?, wants_mail: row.get(4)? })
}
