//! Retention: deleting what has been kept for long enough.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tickr_core::{PurgeRequest, Purged, Timestamp};
use tickr_sql::postgres::{Statement, purge};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::config::Settings;
use crate::error::Fault;
use crate::executor::{Executor, Param, Plan};
use crate::row::{self, At};

/// The longest retention that is told from no end: no database is that old, and PostgreSQL knows no moment much earlier.
const MILLENNIUM_US: i64 = 1_000 * 365 * 24 * 3_600 * 1_000_000;

fn micros(keep: Duration) -> i64 {
    crate::enqueue::micros(keep).min(MILLENNIUM_US)
}

/// Where the last purge of this handle stopped looking. What must stay (transitions of messages that live, keys that still
/// serve) is passed over page by page instead of hiding what is behind it.
#[derive(Clone, Debug)]
pub(crate) struct Cursors {
    /// The server that they are of.
    generation: u64,
    transition: i64,
    key: (Timestamp, String, String),
}

impl Default for Cursors {
    fn default() -> Self {
        Self { generation: 0, transition: 0, key: start_of_keys() }
    }
}

impl Cursors {
    /// Begins again at another server.
    fn follow(&mut self, generation: u64) {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
    }
}

fn start_of_keys() -> (Timestamp, String, String) {
    (Timestamp::from_micros(i64::MIN), String::new(), String::new())
}

/// Each kind is deleted in a transaction of its own: none waits for another, and all can be repeated. A kind that fails does not keep
/// the others; its error is the answer when they are done.
pub(crate) async fn purge(
    executor: &Executor,
    settings: &Settings,
    cursors: &Mutex<Cursors>,
    request: &PurgeRequest,
) -> Result<Purged, Fault> {
    let (offset, limit) = (settings.clock.as_micros(), i64::from(request.limit));
    let (mut purged, generation) = (Purged::default(), executor.generation());
    lock(cursors).follow(generation);
    let success = micros(request.retention.success);
    let mut results = vec![bodies(executor, offset, success, limit, &mut purged).await];
    if let Some(keep) = request.retention.dead.map(micros) {
        results.push(dead(executor, offset, keep, limit, &mut purged).await);
    }
    if let Some(keep) = request.retention.history.map(micros) {
        results.push(claims(executor, offset, keep, limit, &mut purged).await);
        results.push(transitions(executor, offset, keep, limit, cursors, &mut purged).await);
    }
    results.push(keys(executor, offset, limit, cursors, &mut purged).await);
    results.into_iter().collect::<Result<(), Fault>>()?;
    Ok(purged)
}

/// Bodies of what succeeded.
async fn bodies(executor: &Executor, offset: i64, keep: i64, limit: i64, purged: &mut Purged) -> Result<(), Fault> {
    let row = portion(executor, purge::BODIES, &[(&offset, Type::INT8), (&keep, Type::INT8), (&limit, Type::INT8)]).await?;
    purged.bodies = row::count(&row, 0)?;
    purged.more |= row.try_get::<_, bool>(1)?;
    Ok(())
}

/// Dead letters, with their bodies.
async fn dead(executor: &Executor, offset: i64, keep: i64, limit: i64, purged: &mut Purged) -> Result<(), Fault> {
    let row = portion(executor, purge::DEAD, &[(&offset, Type::INT8), (&keep, Type::INT8), (&limit, Type::INT8)]).await?;
    purged.dead = row::count(&row, 0)?;
    purged.more |= purged.dead >= limit.unsigned_abs();
    Ok(())
}

/// Closed claims with their settlements.
async fn claims(executor: &Executor, offset: i64, keep: i64, limit: i64, purged: &mut Purged) -> Result<(), Fault> {
    let row = portion(executor, purge::CLAIMS, &[(&offset, Type::INT8), (&keep, Type::INT8), (&limit, Type::INT8)]).await?;
    purged.journal += row::count(&row, 0)?;
    purged.more |= row.try_get::<_, bool>(1)?;
    Ok(())
}

async fn portion(executor: &Executor, statement: Statement, params: &[Param<'_>]) -> Result<Row, Fault> {
    let rows = executor.once(Plan::Indexed, statement, params).await?;
    rows.into_iter().next().ok_or_else(|| row::corrupt("a purge answered nothing"))
}

/// Old transitions of messages whose body is gone.
async fn transitions(
    executor: &Executor,
    offset: i64,
    keep: i64,
    limit: i64,
    cursors: &Mutex<Cursors>,
    purged: &mut Purged,
) -> Result<(), Fault> {
    let after = lock(cursors).transition;
    let params: [Param<'_>; 4] = [(&offset, Type::INT8), (&keep, Type::INT8), (&after, Type::INT8), (&limit, Type::INT8)];
    let row = portion(executor, purge::TRANSITIONS, &params).await?;
    purged.journal += row::count(&row, 0)?;
    let last: Option<i64> = row.try_get(1)?;
    purged.more |= last.is_some();
    lock(cursors).transition = last.unwrap_or_default();
    Ok(())
}

/// Expired idempotency keys of messages that do not live.
async fn keys(executor: &Executor, offset: i64, limit: i64, cursors: &Mutex<Cursors>, purged: &mut Purged) -> Result<(), Fault> {
    let (expires_at, event_type, key) = lock(cursors).key.clone();
    let expires_at = At(expires_at);
    let params: [Param<'_>; 5] =
        [(&offset, Type::INT8), (&expires_at, Type::TIMESTAMPTZ), (&event_type, Type::TEXT), (&key, Type::TEXT), (&limit, Type::INT8)];
    let row = portion(executor, purge::KEYS, &params).await?;
    purged.keys = row::count(&row, 0)?;
    let last = match row.try_get::<_, Option<At>>(1)? {
        Some(At(expires_at)) => Some((expires_at, row.try_get(2)?, row.try_get(3)?)),
        None => None,
    };
    purged.more |= last.is_some();
    lock(cursors).key = last.unwrap_or_else(start_of_keys);
    Ok(())
}

fn lock(cursors: &Mutex<Cursors>) -> std::sync::MutexGuard<'_, Cursors> {
    cursors.lock().unwrap_or_else(PoisonError::into_inner)
}
