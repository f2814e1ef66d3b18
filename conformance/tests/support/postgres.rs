//! tickr-postgres under the suite: a schema of its own per case, in a scratch database.
#![allow(clippy::unwrap_used, reason = "a harness is part of a test")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tickr_conformance::{Harness, Sabotage, TxReport, TxStep};
use tickr_core::{AnyAdmin, BoxError, BoxFuture, ClockOffset, EnqueueIn, Error, ErrorKind, InspectIn, MessageId, Result, Retry, Storage};
use tickr_postgres::PostgresStorage;
use tokio_postgres::{Client, NoTls, Transaction};

/// Where a server usually is.
#[allow(dead_code, reason = "servers of another kind are nowhere usually")]
pub(crate) const USUAL: &[&str] = &[
    "postgres://postgres@%2Fvar%2Frun%2Fpostgresql/postgres",
    "postgres://postgres@%2Ftmp/postgres",
    "postgres://postgres@127.0.0.1/postgres",
];

/// How to start one.
#[allow(dead_code, reason = "servers of another kind are started otherwise")]
pub(crate) const HOW: &str = "start one and name a scratch database of it, such as \
                              TICKR_TEST_POSTGRES_URL=postgres://postgres@localhost/scratch, or let `cargo xtask services up postgres` do it";

/// Where the server under test is, and how the storage uses it.
pub(crate) trait Server: Send + Sync + 'static {
    /// The environment variable with the URL of a scratch database.
    const VARIABLE: &'static str;
    /// Where to look when the variable is not set.
    const USUAL: &'static [&'static str] = &[];
    /// How to start one.
    const HOW: &'static str;

    /// What differs from the defaults.
    fn configure(builder: tickr_postgres::Builder) -> tickr_postgres::Builder {
        builder
    }
}

/// One case: a schema with a name that needs quoting.
pub(crate) struct Postgres<S> {
    storage: PostgresStorage,
    clock: ClockOffset,
    url: String,
    schema: String,
    keep: AtomicBool,
    server: std::marker::PhantomData<S>,
}

/// The first URL that answers.
async fn url<S: Server>() -> Result<String, BoxError> {
    if let Ok(url) = std::env::var(S::VARIABLE) {
        return Ok(url);
    }
    for url in S::USUAL {
        if connect(url).await.is_ok() {
            return Ok((*url).to_owned());
        }
    }
    Err(format!("no server: {} is not set; {}", S::VARIABLE, S::HOW).into())
}

/// A connection of the application.
async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    drop(tokio::runtime::Handle::current().spawn(connection));
    Ok(client)
}

impl<S: Server> Postgres<S> {
    fn open(url: &str, schema: &str, clock: &ClockOffset) -> Result<PostgresStorage> {
        // Which TLS library is compiled in, and what the server's certificate is worth, is no matter of the suite.
        let builder = PostgresStorage::builder().url(url)?.tls(tickr_postgres::Tls::Off);
        let builder = builder.schema(schema).pool_size(4).clock_offset(clock.clone());
        S::configure(builder).build()
    }

    async fn application(&self) -> Result<Client> {
        connect(&self.url).await.map_err(refused)
    }

    fn business(&self) -> String {
        format!("\"{}\".business", self.schema)
    }
}

impl<S> Drop for Postgres<S> {
    /// On a runtime and a thread of its own: the one of the case may be gone.
    fn drop(&mut self) {
        if self.keep.load(Ordering::SeqCst) {
            return;
        }
        let (url, schema) = (self.url.clone(), self.schema.clone());
        let remove = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                if let Ok(client) = connect(&url).await {
                    drop(client.batch_execute(&format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE")).await);
                }
            });
        };
        drop(std::thread::spawn(remove).join());
    }
}

impl<S: Server> Harness for Postgres<S> {
    async fn create() -> Result<Self, BoxError> {
        let postgres = Self::create_unmigrated().await?;
        postgres.storage.migrate().await?;
        Ok(postgres)
    }

    async fn create_unmigrated() -> Result<Self, BoxError> {
        let url = url::<S>().await?;
        let schema = format!("Case {}", MessageId::new());
        let clock = ClockOffset::default();
        let storage = Self::open(&url, &schema, &clock)?;
        let postgres = Self { storage, clock, url, schema, keep: AtomicBool::new(false), server: std::marker::PhantomData };
        let script = format!("CREATE SCHEMA \"{}\"; CREATE TABLE {} (row text NOT NULL)", postgres.schema, postgres.business());
        postgres.application().await?.batch_execute(&script).await?;
        Ok(postgres)
    }

    fn storage(&self) -> AnyAdmin {
        AnyAdmin::new(self.storage.clone())
    }

    async fn connect(&self) -> Result<AnyAdmin, BoxError> {
        Ok(AnyAdmin::new(Self::open(&self.url, &self.schema, &self.clock)?))
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn set_back(&self, by: Duration) {
        self.clock.set_back(by);
    }

    async fn version(&self) -> String {
        let client = self.application().await.unwrap();
        let rows = client.simple_query("SHOW server_version").await.unwrap();
        let version = rows.iter().find_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        version.unwrap()
    }

    fn keep(&self) -> Option<String> {
        self.keep.store(true, Ordering::SeqCst);
        Some(format!("schema {:?}", self.schema))
    }

    async fn run_tx(&self, steps: Vec<TxStep>) -> Result<Vec<TxReport>> {
        let mut client = self.application().await?;
        let mut tx = client.transaction().await.map_err(refused)?;
        tx.batch_execute("SET LOCAL lock_timeout = '2s'").await.map_err(refused)?;
        let mut script = Script { storage: self.storage.clone(), business: self.business(), steps: steps.into(), reports: Vec::new() };
        if script.run(&mut tx).await? {
            tx.commit().await.map_err(refused)?;
        } else {
            tx.rollback().await.map_err(refused)?;
        }
        Ok(script.reports)
    }

    async fn business_rows(&self) -> Result<Vec<String>> {
        let client = self.application().await?;
        let rows = client.query_typed(&format!("SELECT row FROM {}", self.business()), &[]).await.map_err(refused)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn sabotage(&self, damage: Sabotage) -> Result<()> {
        let found = match damage {
            Sabotage::RemoveReady(id) => self.storage.sabotage_remove_ready(id).await?,
            Sabotage::RemoveBody(id) => self.storage.sabotage_remove_body(id).await?,
            Sabotage::MakeUnreadable(id) => self.storage.sabotage_make_unreadable(id).await?,
            other => return Err(Error::new(ErrorKind::Unsupported, format!("{other:?} is not known here"))),
        };
        if found { Ok(()) } else { Err(Error::new(ErrorKind::NotFound, format!("{damage:?}: there is no such row"))) }
    }
}

/// What PostgreSQL says to the application itself.
fn refused(error: tokio_postgres::Error) -> Error {
    Error::new(ErrorKind::Unavailable, error.to_string()).with_retry(Retry::Transaction).with_source(error)
}

struct Script {
    storage: PostgresStorage,
    business: String,
    steps: VecDeque<TxStep>,
    reports: Vec<TxReport>,
}

impl Script {
    /// Runs to the end of a transaction or a savepoint; says whether to keep it.
    fn run<'a>(&'a mut self, tx: &'a mut Transaction<'_>) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            while let Some(step) = self.steps.pop_front() {
                match step {
                    TxStep::Enqueue(batch) => self.reports.push(TxReport::Enqueued(self.storage.enqueue_in(tx, &batch).await?)),
                    TxStep::Inspect(name) => self.reports.push(TxReport::Seen(self.storage.messages_in(tx, &name).await?)),
                    TxStep::Business(row) => {
                        let insert = format!("INSERT INTO {} VALUES ($1)", self.business);
                        tx.query_typed(&insert, &[(&row, tokio_postgres::types::Type::TEXT)]).await.map_err(refused)?;
                    }
                    TxStep::Pause(point) => point.pause().await,
                    TxStep::Savepoint => {
                        let mut savepoint = tx.savepoint("application").await.map_err(refused)?;
                        if self.run(&mut savepoint).await? {
                            savepoint.commit().await.map_err(refused)?;
                        } else {
                            savepoint.rollback().await.map_err(refused)?;
                        }
                    }
                    TxStep::Commit | TxStep::ReleaseSavepoint => return Ok(true),
                    TxStep::Rollback | TxStep::RollbackToSavepoint => return Ok(false),
                }
            }
            Ok(false)
        })
    }
}
