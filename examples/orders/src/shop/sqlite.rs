//! SQLite: a file, and rusqlite.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use opentelemetry::Context;
use tickr::sqlite::SqliteStorage;
use tickr::sqlite::rusqlite::{Connection, Transaction, TransactionBehavior};
use tickr::{AnyAdmin, BoxFuture, Client};
use tokio::runtime::Handle;

use super::{Ledger, NewOrder, Paid, Shop, placed, receipt};
use crate::telemetry::Telemetry;

pub(super) struct Sqlite {
    path: PathBuf,
    client: Client<SqliteStorage>,
    db: Arc<Mutex<Connection>>,
    receipt_after: Duration,
}

impl Sqlite {
    pub(super) fn open(path: &str, telemetry: &Telemetry, receipt_after: Duration) -> Result<Self> {
        let storage = SqliteStorage::open(path)?;
        let mut db = Connection::open(path)?;
        // One writer at a time: whoever is going to write takes its turn when it begins.
        db.set_transaction_behavior(TransactionBehavior::Immediate);
        db.busy_timeout(Duration::from_secs(10))?;
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS orders (
                id      INTEGER PRIMARY KEY,
                item    TEXT NOT NULL,
                state   TEXT NOT NULL DEFAULT 'placed',
                tries   INTEGER NOT NULL DEFAULT 0,
                receipt BOOLEAN NOT NULL DEFAULT false
            )",
        )?;
        Ok(Self { path: path.into(), client: super::client(storage, telemetry), db: Arc::new(Mutex::new(db)), receipt_after })
    }

    /// Does `work` in a transaction, where blocking harms nobody, in the trace that the caller is in.
    fn transaction<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Transaction<'_>, &Client<SqliteStorage>) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T>> {
        let (db, client, trace) = (Arc::clone(&self.db), self.client.clone(), Context::current());
        let done = tokio::task::spawn_blocking(move || {
            let _trace = trace.attach();
            let mut db = db.lock().unwrap_or_else(PoisonError::into_inner);
            let mut tx = db.transaction()?;
            let result = work(&mut tx, &client)?;
            tx.commit()?;
            client.wake();
            Ok(result)
        });
        Box::pin(async move { done.await? })
    }
}

impl Shop for Sqlite {
    fn name(&self) -> String {
        format!("SQLite in {}", self.path.display())
    }

    fn queue(&self) -> AnyAdmin {
        AnyAdmin::new(self.client.storage().clone())
    }

    fn place(&self, order: NewOrder) -> BoxFuture<'_, Result<i64>> {
        self.transaction(move |tx, client| {
            let id = tx.prepare_cached("INSERT INTO orders (item) VALUES (?1)")?.insert([&order.item])?;
            Handle::current().block_on(client.enqueue_in(tx, placed(id, order.card)?))?;
            Ok(id)
        })
    }

    fn tries(&self, order: i64) -> BoxFuture<'_, Result<()>> {
        self.transaction(move |tx, _| {
            tx.execute("UPDATE orders SET tries = tries + 1 WHERE id = ?1", [order])?;
            Ok(())
        })
    }

    fn pay(&self, order: i64) -> BoxFuture<'_, Result<Paid>> {
        let after = self.receipt_after;
        self.transaction(move |tx, client| {
            // At least once: the row says whether this was done before.
            if tx.execute("UPDATE orders SET state = 'paid' WHERE id = ?1 AND state <> 'paid'", [order])? == 0 {
                return Ok(Paid::Before);
            }
            Handle::current().block_on(client.enqueue_in(tx, receipt(order, after)?))?;
            Ok(Paid::Now)
        })
    }

    fn decline(&self, order: i64) -> BoxFuture<'_, Result<()>> {
        self.transaction(move |tx, _| {
            tx.execute("UPDATE orders SET state = 'declined' WHERE id = ?1", [order])?;
            Ok(())
        })
    }

    fn send_receipts(&self, orders: Vec<i64>) -> BoxFuture<'_, Result<()>> {
        self.transaction(move |tx, _| {
            let mut update = tx.prepare_cached("UPDATE orders SET receipt = true WHERE id = ?1")?;
            orders.iter().try_for_each(|order| update.execute([order]).map(drop))?;
            Ok(())
        })
    }

    fn ledger(&self) -> BoxFuture<'_, Result<Ledger>> {
        self.transaction(|tx, _| {
            let count = "SELECT count(*), coalesce(sum(state = 'paid'), 0), coalesce(sum(state = 'declined'), 0),
                                coalesce(sum(tries), 0), coalesce(sum(receipt), 0)
                         FROM orders";
            Ok(tx.query_row(count, [], |row| {
                let (placed, paid, declined) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(Ledger { placed, paid, declined, tries: row.get(3)?, receipts: row.get(4)? })
            })?)
        })
    }
}
