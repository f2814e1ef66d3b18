//! PostgreSQL: a schema, and tokio-postgres.

use std::fmt;
use std::sync::Arc;

use tickr::postgres::PostgresStorage;
use tickr::postgres::tokio_postgres::types::Type;
use tickr::postgres::tokio_postgres::{self, Client, Config, NoTls, Row};
use tickr::{BoxError, BoxFuture, MessageId};

use super::{Connection, Database, Order, Orders, Placed, Transaction};

/// A schema of its own, in a database that may be anybody's.
pub(crate) struct Postgres {
    storage: PostgresStorage,
    config: Config,
    /// Made the schema, and drops it.
    owner: Client,
    server: String,
    schema: String,
    keep: bool,
}

impl Postgres {
    pub(crate) async fn open(url: &str, keep: bool) -> Result<Self, BoxError> {
        let schema = format!("tickr_quickstart_{}", &MessageId::new().as_uuid().simple().to_string()[20..]);
        // Connects once: a wrong URL, address or password is found here.
        let storage = PostgresStorage::builder().url(url)?.schema(&schema).connect().await?;
        let config: Config = url.parse()?;
        let owner = connect(&config, &schema).await?;
        let row = owner.query_one("SELECT current_setting('server_version'), current_database()", &[]).await?;
        let (version, database): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let server = format!("PostgreSQL {}, database {database}", version.split(' ').next().unwrap_or_default());
        // One transaction, as every batch without a BEGIN of its own.
        let tables = format!(
            "CREATE SCHEMA {schema};
             CREATE TABLE orders (
                 id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 customer   TEXT NOT NULL,
                 item       TEXT NOT NULL,
                 address    TEXT,
                 wants_mail BOOLEAN NOT NULL
             )"
        );
        if let Err(error) = owner.batch_execute(&tables).await {
            let why = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
            return Err(format!("cannot make a schema of its own: {why}; name a database in which the role may create one").into());
        }
        Ok(Self { storage, config, owner, server, schema, keep })
    }
}

impl fmt::Display for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = if self.keep { "kept" } else { "dropped at the end" };
        write!(f, "{}, in the schema {} ({fate})", self.server, self.schema)
    }
}

/// A connection whose tables, `orders` and those of the queue, are in the schema.
async fn connect(config: &Config, schema: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    #[expect(clippy::disallowed_methods, reason = "the driver's connection needs a task, as long as there is a client")]
    tokio::spawn(connection);
    client.batch_execute(&format!("SET search_path TO {schema}")).await?;
    Ok(client)
}

impl Database for Postgres {
    type Storage = PostgresStorage;
    type Connection = Client;

    fn storage(&self) -> PostgresStorage {
        self.storage.clone()
    }

    async fn connect(&self) -> Result<Client, BoxError> {
        Ok(connect(&self.config, &self.schema).await?)
    }

    async fn orders(&self) -> Result<Arc<dyn Orders>, BoxError> {
        Ok(Arc::new(connect(&self.config, &self.schema).await?))
    }

    async fn close(self) -> Result<(), BoxError> {
        if !self.keep {
            // Nobody else uses the schema; if something of an interrupted run still does, it ends within this time.
            let drop = format!("SET lock_timeout TO '10s'; DROP SCHEMA {} CASCADE", self.schema);
            self.owner.batch_execute(&drop).await?;
        }
        Ok(())
    }
}

impl Connection for Client {
    type Transaction<'t> = tokio_postgres::Transaction<'t>;

    async fn begin(&mut self) -> Result<tokio_postgres::Transaction<'_>, BoxError> {
        Ok(self.transaction().await?)
    }

    async fn set_address(&self, order: i64, address: &str) -> Result<(), BoxError> {
        self.execute("UPDATE orders SET address = $2 WHERE id = $1", &[&order, &address]).await?;
        Ok(())
    }

    async fn latest(&self, limit: i64) -> Result<Vec<Placed>, BoxError> {
        let select = "SELECT id, customer, item, address, wants_mail FROM orders ORDER BY id DESC LIMIT $1";
        Ok(self.query(select, &[&limit]).await?.iter().map(placed).collect::<Result<_, _>>()?)
    }

    async fn count(&self) -> Result<u64, BoxError> {
        let rows: i64 = self.query_one("SELECT count(*) FROM orders", &[]).await?.try_get(0)?;
        Ok(rows.try_into()?)
    }
}

impl Transaction for tokio_postgres::Transaction<'_> {
    async fn insert(&mut self, order: &Order) -> Result<i64, BoxError> {
        let insert = "INSERT INTO orders (customer, item, address, wants_mail) VALUES ($1, $2, $3, $4) RETURNING id";
        // With the types at hand it takes one round trip, without preparing.
        let Order { customer, item, address, wants_mail } = order;
        let values = [(customer as _, Type::TEXT), (item as _, Type::TEXT), (address as _, Type::TEXT), (wants_mail as _, Type::BOOL)];
        Ok(self.query_typed_one(insert, &values).await?.try_get(0)?)
    }

    async fn commit(self) -> Result<(), BoxError> {
        Ok(self.commit().await?)
    }

    async fn rollback(self) -> Result<(), BoxError> {
        Ok(self.rollback().await?)
    }
}

impl Orders for Client {
    fn find(&self, order: i64) -> BoxFuture<'_, Result<Placed, BoxError>> {
        Box::pin(async move {
            let select = "SELECT id, customer, item, address, wants_mail FROM orders WHERE id = $1";
            Ok(placed(&self.query_one(select, &[&order]).await?)?)
        })
    }
}

fn placed(row: &Row) -> Result<Placed, tokio_postgres::Error> {
    Ok(Placed {
        id: row.try_get(0)?,
        customer: row.try_get(1)?,
        item: row.try_get(2)?,
        address: row.try_get(3)?,
        wants_mail: row.try_get(4)?,
    })
}
