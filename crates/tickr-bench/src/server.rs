//! What a PostgreSQL server spends: log, commits, statements, CPU.

use anyhow::{Context as _, Result};
use serde::Serialize;
use tickr::postgres::tokio_postgres::{Client, NoTls};

use crate::process;

/// An observer of a server, with a connection of its own; of nothing on other databases.
#[derive(Debug)]
pub(crate) struct Server(Option<Observed>);

#[derive(Debug)]
struct Observed {
    client: Client,
    /// The server's first process, if it runs on this machine.
    postmaster: Option<u32>,
    walinspect: bool,
    statements: bool,
}

/// Where the counters stand.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    lsn: String,
    wal: i64,
    images: i64,
    commits: i64,
    statements: Option<i64>,
    cpu: Option<f64>,
}

/// What was spent between two positions. Whatever the whole server does counts: measure on one that is idle but for the benchmark.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spent {
    /// Bytes of log, full-page images included.
    pub(crate) wal_bytes: u64,
    /// How many full-page images are among them.
    pub(crate) full_page_images: u64,
    /// Their bytes, where `pg_walinspect` can be had.
    pub(crate) full_page_image_bytes: Option<u64>,
    /// Transactions of the benchmark's database.
    pub(crate) commits: u64,
    /// Statements without transaction control and SET, where `pg_stat_statements` can be had.
    pub(crate) statements: Option<u64>,
    /// Seconds of CPU of all of the server's processes.
    pub(crate) cpu_seconds: Option<f64>,
}

impl Spent {
    /// Bytes of log without full-page images, as far as their size is known.
    pub(crate) fn records_bytes(&self) -> u64 {
        self.wal_bytes - self.full_page_image_bytes.unwrap_or(0).min(self.wal_bytes)
    }
}

/// A connection beside the storage's.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tickr::postgres::tokio_postgres::connect(url, NoTls).await.context("cannot connect")?;
    drop(tokio::runtime::Handle::current().spawn(connection));
    Ok(client)
}

impl Server {
    pub(crate) async fn observe(url: &str) -> Result<Self> {
        if crate::queue::scheme(url) != "postgres" {
            return Ok(Self(None));
        }
        let client = connect(url).await?;
        // Both come with PostgreSQL; making them takes the rights of a superuser, and the second a setting of the server.
        let walinspect = client.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect").await.is_ok();
        let statements = client.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset()").await;
        let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
        let postmaster = process::parent(backend.unsigned_abs()).filter(|pid| process::name(*pid).as_deref() == Some("postgres"));
        Ok(Self(Some(Observed { client, postmaster, walinspect, statements: statements.is_ok() })))
    }

    /// Runs statements; does nothing on other databases.
    pub(crate) async fn script(&self, sql: &str) -> Result<()> {
        if let Some(observed) = &self.0 {
            observed.client.batch_execute(sql).await?;
        }
        Ok(())
    }

    /// A number that the server knows.
    pub(crate) async fn number(&self, sql: &str) -> Result<Option<i64>> {
        let Some(observed) = &self.0 else { return Ok(None) };
        Ok(Some(observed.client.query_one(sql, &[]).await?.get(0)))
    }

    /// A text that the server knows.
    pub(crate) async fn text(&self, sql: &str) -> Result<Option<String>> {
        let Some(observed) = &self.0 else { return Ok(None) };
        Ok(Some(observed.client.query_one(sql, &[]).await?.get(0)))
    }

    pub(crate) async fn position(&self) -> Result<Option<Position>> {
        let Some(observed) = &self.0 else { return Ok(None) };
        let sql = "SELECT pg_current_wal_insert_lsn()::text, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
                   (SELECT wal_fpi FROM pg_stat_wal)::bigint, (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())";
        let row = observed.client.query_one(sql, &[]).await?;
        let statements = if observed.statements {
            let sql = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
                       WHERE query !~* '^\\s*(begin|commit|rollback|start|set|savepoint|release|create|drop|alter|select pg_)'";
            Some(observed.client.query_one(sql, &[]).await?.get(0))
        } else {
            None
        };
        let cpu = observed.postmaster.map(process::family_cpu_seconds);
        Ok(Some(Position { lsn: row.get(0), wal: row.get(1), images: row.get(2), commits: row.get(3), statements, cpu }))
    }

    /// What was spent since a position.
    pub(crate) async fn since(&self, before: Option<&Position>) -> Result<Option<Spent>> {
        let (Some(observed), Some(before)) = (&self.0, before) else { return Ok(None) };
        let Some(now) = self.position().await? else { return Ok(None) };
        let full_page_image_bytes = if observed.walinspect {
            let sql = "SELECT coalesce(sum(fpi_size), 0)::bigint FROM pg_get_wal_stats($1::text::pg_lsn, $2::text::pg_lsn)";
            // Parts of the log may be gone already.
            observed.client.query_one(sql, &[&before.lsn, &now.lsn]).await.ok().map(|row| row.get::<_, i64>(0).unsigned_abs())
        } else {
            None
        };
        let grown = |now: i64, before: i64| u64::try_from(now - before).unwrap_or(0);
        Ok(Some(Spent {
            wal_bytes: grown(now.wal, before.wal),
            full_page_images: grown(now.images, before.images),
            full_page_image_bytes,
            commits: grown(now.commits, before.commits),
            statements: now.statements.zip(before.statements).map(|(now, before)| grown(now, before)),
            cpu_seconds: now.cpu.zip(before.cpu).map(|(now, before)| now - before),
        }))
    }
}
