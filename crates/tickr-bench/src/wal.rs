//! How much PostgreSQL writes to its log.

use anyhow::{Context as _, Result};
use tickr::postgres::tokio_postgres::{Client, NoTls};

/// Where the log of a server stands; nothing on other databases.
pub(crate) struct Log(Option<Client>);

/// A position in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position(Option<Written>);

/// What was written up to a position, or between two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) full_page_images: u64,
}

/// A connection beside the storage's.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tickr::postgres::tokio_postgres::connect(url, NoTls).await.context("cannot connect")?;
    drop(tokio::runtime::Handle::current().spawn(connection));
    Ok(client)
}

impl Log {
    pub(crate) async fn open(url: &str, scheme: &str) -> Result<Self> {
        Ok(Self(if scheme == "postgres" { Some(connect(url).await?) } else { None }))
    }

    /// Whatever the whole server writes counts: measure on one that is idle but for the benchmark.
    pub(crate) async fn position(&self) -> Result<Position> {
        let Some(client) = &self.0 else { return Ok(Position(None)) };
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, (SELECT wal_fpi FROM pg_stat_wal)::bigint";
        let row = client.query_one(sql, &[]).await?;
        Ok(Position(Some(Written { bytes: row.get::<_, i64>(0).unsigned_abs(), full_page_images: row.get::<_, i64>(1).unsigned_abs() })))
    }
}

impl Position {
    pub(crate) fn since(self, before: Self) -> Option<Written> {
        let (now, before) = (self.0?, before.0?);
        Some(Written { bytes: now.bytes - before.bytes, full_page_images: now.full_page_images.saturating_sub(before.full_page_images) })
    }
}
