//! Where a run takes place: its files; of PostgreSQL also a server, a schema, and the lines to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tickr_servers::{Address, Cluster};

use crate::options::{On, Place, Run};
use crate::outages::Outages;
use crate::postgres;
use crate::proxy::Proxy;

/// The database of a server of one's own.
const DATABASE: &str = "crash";

/// How many lines lead to a server.
const LINES: usize = 2;

/// How long an operation may take on the first line: less than the line may stall, so that some are given up. On the
/// others they wait.
const HASTE: Duration = Duration::from_secs(2);

/// The setting under which nothing but an isolation that tickr says itself is any other.
const ISOLATION: &str = "default_transaction_isolation";

/// A place, the roads to it, and what can happen there.
pub(crate) struct Ground {
    /// As the supervisor sees it.
    pub(crate) place: Place,
    /// As processes see it, in turns.
    pub(crate) roads: Vec<Place>,
    pub(crate) logs: PathBuf,
    pub(crate) outages: Outages,
    temporary: Option<TempDir>,
    /// Whether to remove the schema in the end, because the server stays.
    is_guest: bool,
}

impl Ground {
    /// Makes everything that has to be there.
    pub(crate) async fn prepare(options: &Run, seed: u64) -> Result<Self> {
        match options.on() {
            On::Sqlite => Self::file(options),
            On::Postgres => Self::server(options, seed).await,
        }
    }

    fn file(options: &Run) -> Result<Self> {
        let (db, temporary) = match &options.db {
            Some(path) => (PathBuf::from(path), None),
            None => {
                let folder = temporary()?;
                (folder.path().join("queue.sqlite"), Some(folder))
            }
        };
        ensure!(!db.exists(), "{} exists", db.display());
        let (ledger, logs) = folders(&db)?;
        let db = db.into_os_string().into_string().ok().context("the name of the file is not UTF-8")?;
        let place = Place { on: On::Sqlite, db, schema: None, operation_timeout_ms: None, ledger, durable: options.durable };
        Ok(Self { roads: vec![place.clone()], place, logs, outages: Outages::default(), temporary, is_guest: false })
    }

    async fn server(options: &Run, seed: u64) -> Result<Self> {
        let folder = temporary()?;
        let (ledger, logs) = folders(&folder.path().join("queue"))?;
        let (cluster, address, database, setting) = match &options.db {
            Some(url) => {
                let (address, database) = Address::parse(url)?;
                // The database is somebody's: its settings stay as they are, and the connections say it.
                (None, address, database, format!("?options=-c%20{ISOLATION}%3Dserializable"))
            }
            None => {
                let cluster = Cluster::builder().setting("fsync", if options.durable { "on" } else { "off" }).start()?;
                let server = postgres::connect(&cluster.url("postgres")).await?;
                server.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
                server.batch_execute(&format!("ALTER DATABASE {DATABASE} SET {ISOLATION} TO serializable")).await?;
                let address = cluster.address();
                (Some(cluster), address, DATABASE.to_owned(), String::new())
            }
        };
        ensure!(!address.host.starts_with('/'), "the network can only be broken when it is TCP: {}", address.host);
        let schema = Some(format!("tickr_crash_{seed}_{}", std::process::id()));
        let durable = options.durable;
        let url = address.url(&database) + &setting;
        let place = Place { on: On::Postgres, db: url, schema, operation_timeout_ms: None, ledger, durable };
        let proxy = Proxy::start(&address.host, address.port, LINES, options.cut_one_in, seed)?;
        let roads = proxy.ports().enumerate().map(|(line, port)| {
            let address = Address { host: "127.0.0.1".to_owned(), port, ..address.clone() };
            let operation_timeout_ms = (line == 0).then_some(HASTE.as_millis() as u64);
            Place { db: address.url(&database) + &setting, operation_timeout_ms, ..place.clone() }
        });
        let roads = roads.collect();
        let is_guest = cluster.is_none();
        Ok(Self { place, roads, logs, outages: Outages::new(cluster, proxy), temporary: Some(folder), is_guest })
    }

    /// Leaves nothing behind.
    pub(crate) async fn remove(self) -> Result<()> {
        if let (true, Some(schema)) = (self.is_guest, &self.place.schema) {
            let server = postgres::connect(&self.place.db).await?;
            server.batch_execute(&format!("DROP SCHEMA \"{schema}\" CASCADE")).await?;
        }
        Ok(())
    }

    /// Keeps the evidence of a failure, and says where it is. A server of one's own ends: its database is written to a file.
    pub(crate) fn keep(self) -> String {
        let folder = self.temporary.map_or_else(|| self.place.ledger.clone(), TempDir::keep);
        let Some(cluster) = self.outages.cluster() else {
            let schema = self.place.schema.map(|schema| format!(", schema {schema}")).unwrap_or_default();
            return format!("{} ({}{schema})", folder.display(), self.place.db);
        };
        let dump = folder.join("queue.sql");
        let dumped = Command::new(cluster.binaries().program("pg_dump")).arg("-f").arg(&dump).arg(&self.place.db).status();
        match dumped {
            Ok(status) if status.success() => format!("{} and {}", folder.display(), dump.display()),
            other => format!("{} (the database could not be written there: {other:?})", folder.display()),
        }
    }
}

fn temporary() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("tickr-crash-").tempdir()?)
}

/// Makes the folders of the ledger and of the logs.
fn folders(beside: &Path) -> Result<(PathBuf, PathBuf)> {
    let (ledger, logs) = (beside.with_extension("ledger"), beside.with_extension("logs"));
    for folder in [&ledger, &logs] {
        fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    Ok((ledger, logs))
}
