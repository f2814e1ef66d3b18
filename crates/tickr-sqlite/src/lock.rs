//! Named leases.

use std::time::Duration;

use rusqlite::{OptionalExtension, params};
use tickr_core::{Lock, Timestamp, WorkerId};
use tickr_sql::sqlite::lock;

use crate::error::Fault;
use crate::row;
use crate::scope::Scope;

/// Says no when another holds it, without writing.
pub(crate) fn probe_acquire(scope: &Scope<'_>, name: &str, holder: WorkerId) -> Result<Option<Option<Lock>>, Fault> {
    let held = read(scope, name)?.is_some_and(|(other, _, expires_at)| other != holder && expires_at > scope.now());
    Ok(held.then_some(None))
}

pub(crate) fn acquire(scope: &Scope<'_>, name: &str, holder: WorkerId, ttl: Duration) -> Result<Option<Lock>, Fault> {
    let term = match read(scope, name)? {
        None => 1,
        Some((other, _, expires_at)) if expires_at > scope.now() && other != holder => return Ok(None),
        Some((_, term, expires_at)) if expires_at > scope.now() => term,
        Some((_, term, _)) => term.saturating_add(1),
    };
    let expires_at = scope.now().after(ttl);
    scope.writes(lock::WRITE, params![name, holder.as_bytes().as_slice(), term, expires_at.as_micros()])?;
    Ok(Some(Lock::new(name, holder, term.unsigned_abs())))
}

/// Extends a lease of that term. `false` when it is gone.
pub(crate) fn renew(scope: &Scope<'_>, lock: &Lock, ttl: Duration) -> Result<bool, Fault> {
    write_end(scope, lock, scope.now().after(ttl))
}

/// Gives a lease of that term back. `false` when it is gone.
pub(crate) fn release(scope: &Scope<'_>, lock: &Lock) -> Result<bool, Fault> {
    write_end(scope, lock, Timestamp::from_micros(0))
}

fn write_end(scope: &Scope<'_>, lock: &Lock, end: Timestamp) -> Result<bool, Fault> {
    let term = i64::try_from(lock.term).unwrap_or(i64::MAX);
    let (holder, now) = (lock.holder.as_bytes().as_slice(), scope.now().as_micros());
    Ok(scope.writes(lock::EXTEND, params![lock.name, holder, term, now, end.as_micros()])? == 1)
}

fn read(scope: &Scope<'_>, name: &str) -> Result<Option<(WorkerId, i64, Timestamp)>, Fault> {
    let mut statement = scope.prepare(lock::READ)?;
    let found = statement.query_row([name], |row| Ok((row::blob(row, 0).map(<[u8]>::to_vec), row.get(1)?, row.get(2)?))).optional()?;
    let Some((holder, term, expires_at)) = found else { return Ok(None) };
    Ok(Some((WorkerId::from_slice(&holder?)?, term, Timestamp::from_micros(expires_at))))
}
