//! SQLite: a file, and transactions on a thread of the storage.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use opentelemetry::Context;
use tickr::sqlite::{SqliteStorage, Transactions as _, Tx};
use tickr::{AnyAdmin, BoxFuture, Client};

use super::{Ledger, NewOrder, Paid, Shop, placed, receipt};
use crate::telemetry::Telemetry;

pub(super) struct Sqlite {
    path: PathBuf,
    client: Client<SqliteStorage>,
    receipt_after: Duration,
}

impl Sqlite {
    pub(super) async fn open(path: &str, telemetry: &Telemetry, receipt_after: Duration) -> Result<Self> {
        let client = super::client(SqliteStorage::open(path)?, telemetry);
        let table = "CREATE TABLE IF NOT EXISTS orders (
                         id      INTEGER PRIMARY KEY,
                         item    TEXT NOT NULL,
                         state   TEXT NOT NULL DEFAULT 'placed',
                         tries   INTEGER NOT NULL DEFAULT 0,
                         receipt BOOLEAN NOT NULL DEFAULT false
                     )";
        client.transaction(move |tx| Ok::<_, anyhow::Error>(tx.execute_batch(table)?)).await?;
        Ok(Self { path: path.into(), client, receipt_after })
    }

    /// Does `work` in a transaction on the storage's thread, in the trace that the caller is in.
    fn transaction<T: Send + 'static>(&self, work: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static) -> BoxFuture<'_, Result<T>> {
        let trace = Context::current();
        Box::pin(self.client.transaction(move |tx| {
            let _trace = trace.attach();
            work(tx)
        }))
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
        self.transaction(move |tx| {
            let id = tx.prepare_cached("INSERT INTO orders (item) VALUES (?1)")?.insert([&order.item])?;
            tx.enqueue(placed(id, order.card)?)?;
            Ok(id)
        })
    }

    fn tries(&self, order: i64) -> BoxFuture<'_, Result<()>> {
        self.transaction(move |tx| {
            tx.execute("UPDATE orders SET tries = tries + 1 WHERE id = ?1", [order])?;
            Ok(())
        })
    }

    fn pay(&self, order: i64) -> BoxFuture<'_, Result<Paid>> {
        let after = self.receipt_after;
        self.transaction(move |tx| {
            // At least once: the row says whether this was done before.
            if tx.execute("UPDATE orders SET state = 'paid' WHERE id = ?1 AND state <> 'paid'", [order])? == 0 {
                return Ok(Paid::Before);
            }
            tx.enqueue(receipt(order, after)?)?;
            Ok(Paid::Now)
        })
    }

    fn decline(&self, order: i64) -> BoxFuture<'_, Result<()>> {
        self.transaction(move |tx| {
            tx.execute("UPDATE orders SET state = 'declined' WHERE id = ?1", [order])?;
            Ok(())
        })
    }

    fn send_receipts(&self, orders: Vec<i64>) -> BoxFuture<'_, Result<()>> {
        self.transaction(move |tx| {
            let mut update = tx.prepare_cached("UPDATE orders SET receipt = true WHERE id = ?1")?;
            orders.iter().try_for_each(|order| update.execute([order]).map(drop))?;
            Ok(())
        })
    }

    fn ledger(&self) -> BoxFuture<'_, Result<Ledger>> {
        self.transaction(|tx| {
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
