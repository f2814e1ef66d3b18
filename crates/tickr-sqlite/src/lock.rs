//! Named leases.

use std::time::Duration;

use rusqlite::{OptionalExtension, params};
use tickr_core::protocol::lease_end;
use tickr_core::{Lock, Timestamp, WorkerId};
use tickr_sql::sqlite::lock;

use crate::error::Fault;
use crate::row::{self, micros};
use crate::scope::Scope;

/// Answers no when another holds the lock, without writing.
pub(crate) fn probe_acquire(scope: &Scope<'_>, name: &str, holder: WorkerId) -> Result<Option<Option<Lock>>, Fault> {
    let held = read(scope, name)?.is_some_and(|held| {
        let shortened = lease_end(held.expires_at, held.ttl, scope.now()) < held.expires_at;
        held.holder != holder && held.expires_at > scope.now() && !shortened
    });
    Ok(held.then_some(None))
}

pub(crate) fn acquire(scope: &Scope<'_>, name: &str, holder: WorkerId, ttl: Duration) -> Result<Option<Lock>, Fault> {
    let held = read(scope, name)?;
    let term = match &held {
        None => 1,
        Some(held) if held.expires_at > scope.now() && held.holder != holder => {
            // What another holds for longer than it asked for was written before the clock was set back.
            let end = lease_end(held.expires_at, held.ttl, scope.now());
            write(scope, name, held.holder, held.term, end, held.ttl)?;
            return Ok(None);
        }
        Some(held) if held.expires_at > scope.now() => held.term,
        Some(held) => held.term.saturating_add(1),
    };
    write(scope, name, holder, term, scope.now().after(ttl), ttl)?;
    Ok(Some(Lock::new(name, holder, term.unsigned_abs())))
}

/// Extends a lease of that term. `false` when it is gone.
pub(crate) fn renew(scope: &Scope<'_>, lock: &Lock, ttl: Duration) -> Result<bool, Fault> {
    write_end(scope, lock, scope.now().after(ttl), ttl)
}

/// Gives a lease of that term back. `false` when it is gone.
pub(crate) fn release(scope: &Scope<'_>, lock: &Lock) -> Result<bool, Fault> {
    write_end(scope, lock, Timestamp::from_micros(0), Duration::ZERO)
}

fn write(scope: &Scope<'_>, name: &str, holder: WorkerId, term: i64, end: Timestamp, ttl: Duration) -> Result<(), Fault> {
    scope.writes(lock::WRITE, params![name, holder.as_bytes().as_slice(), term, end.as_micros(), micros(ttl)])?;
    Ok(())
}

fn write_end(scope: &Scope<'_>, lock: &Lock, end: Timestamp, ttl: Duration) -> Result<bool, Fault> {
    let term = i64::try_from(lock.term).unwrap_or(i64::MAX);
    let (holder, now) = (lock.holder.as_bytes().as_slice(), scope.now().as_micros());
    Ok(scope.writes(lock::EXTEND, params![lock.name, holder, term, now, end.as_micros(), micros(ttl)])? == 1)
}

/// A named lease that was taken once, whether it holds or not.
struct Held {
    holder: WorkerId,
    term: i64,
    expires_at: Timestamp,
    ttl: Duration,
}

fn read(scope: &Scope<'_>, name: &str) -> Result<Option<Held>, Fault> {
    let mut statement = scope.prepare(lock::READ)?;
    let found = statement.query_row([name], |row| Ok((row::blob(row, 0).map(<[u8]>::to_vec), row.get(1)?, row.get(2)?, row.get(3)?)));
    let Some((holder, term, expires_at, ttl)): Option<(_, _, _, i64)> = found.optional()? else { return Ok(None) };
    let ttl = Duration::from_micros(u64::try_from(ttl).unwrap_or(0));
    Ok(Some(Held { holder: WorkerId::from_slice(&holder?)?, term, expires_at: Timestamp::from_micros(expires_at), ttl }))
}
