//! PostgreSQL: the storage's pool, which the application and the queue share.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tickr::postgres::PostgresStorage;
use tickr::postgres::deadpool_postgres::Object;
use tickr::postgres::tokio_postgres::Config;
use tickr::{AnyAdmin, BoxFuture, Client};

use super::{Ledger, NewOrder, Paid, Shop, placed, receipt};
use crate::telemetry::Telemetry;

pub(super) struct Postgres {
    database: String,
    client: Client<PostgresStorage>,
    receipt_after: Duration,
}

impl Postgres {
    pub(super) async fn open(url: &str, telemetry: &Telemetry, receipt_after: Duration) -> Result<Self> {
        let config: Config = url.parse().context("the URL of the database")?;
        let database = config.get_dbname().or(config.get_user()).unwrap_or("postgres").to_owned();
        let shop = Self { database, client: super::client(PostgresStorage::connect(url).await?, telemetry), receipt_after };
        let table = "CREATE TABLE IF NOT EXISTS orders (
                         id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                         item    text NOT NULL,
                         state   text NOT NULL DEFAULT 'placed',
                         tries   bigint NOT NULL DEFAULT 0,
                         receipt boolean NOT NULL DEFAULT false
                     )";
        shop.connection().await?.batch_execute(table).await?;
        Ok(shop)
    }

    async fn connection(&self) -> Result<Object> {
        Ok(self.client.storage().pool().get().await?)
    }

    async fn update(&self, statement: &str, order: i64) -> Result<()> {
        self.connection().await?.execute(statement, &[&order]).await?;
        Ok(())
    }
}

impl Shop for Postgres {
    fn name(&self) -> String {
        format!("PostgreSQL, database {}", self.database)
    }

    fn queue(&self) -> AnyAdmin {
        AnyAdmin::new(self.client.storage().clone())
    }

    fn place(&self, order: NewOrder) -> BoxFuture<'_, Result<i64>> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            let mut tx = connection.transaction().await?;
            let id = tx.query_one("INSERT INTO orders (item) VALUES ($1) RETURNING id", &[&order.item]).await?.try_get(0)?;
            self.client.enqueue_in(&mut tx, placed(id, order.card)?).await?;
            tx.commit().await?;
            self.client.wake();
            Ok(id)
        })
    }

    fn tries(&self, order: i64) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.update("UPDATE orders SET tries = tries + 1 WHERE id = $1", order))
    }

    fn pay(&self, order: i64) -> BoxFuture<'_, Result<Paid>> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            let mut tx = connection.transaction().await?;
            // At least once: the row says whether this was done before.
            if tx.execute("UPDATE orders SET state = 'paid' WHERE id = $1 AND state <> 'paid'", &[&order]).await? == 0 {
                return Ok(Paid::Before);
            }
            self.client.enqueue_in(&mut tx, receipt(order, self.receipt_after)?).await?;
            tx.commit().await?;
            Ok(Paid::Now)
        })
    }

    fn decline(&self, order: i64) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.update("UPDATE orders SET state = 'declined' WHERE id = $1", order))
    }

    fn send_receipts(&self, orders: Vec<i64>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.connection().await?.execute("UPDATE orders SET receipt = true WHERE id = ANY ($1)", &[&orders]).await?;
            Ok(())
        })
    }

    fn ledger(&self) -> BoxFuture<'_, Result<Ledger>> {
        Box::pin(async move {
            let count = "SELECT count(*), count(*) FILTER (WHERE state = 'paid'), count(*) FILTER (WHERE state = 'declined'),
                                coalesce(sum(tries), 0)::bigint, count(*) FILTER (WHERE receipt)
                         FROM orders";
            let row = self.connection().await?.query_one(count, &[]).await?;
            let (placed, paid, declined) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(Ledger { placed, paid, declined, tries: row.try_get(3)?, receipts: row.try_get(4)? })
        })
    }
}
