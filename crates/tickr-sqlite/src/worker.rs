//! Workers and their leases.

use rusqlite::params;
use tickr_core::protocol::{self, Recorded};
use tickr_core::{Beat, Bits, BodyFault, Error, ErrorKind, Heartbeat, Registration, Retired, Token, WorkerId};
use tickr_sql::json;
use tickr_sql::sqlite::worker;

use crate::error::Fault;
use crate::journal::{self, ClaimRow};
use crate::row::{self, micros};
use crate::scope::Scope;
use crate::settle::Fence;

pub(crate) fn register(scope: &Scope<'_>, registration: &Registration) -> Result<(), Fault> {
    let rows = scope.writes(
        worker::REGISTER,
        params![
            registration.worker.as_bytes().as_slice(),
            registration.name,
            json::encode_names(&registration.event_types),
            scope.now().as_micros(),
            scope.now().after(registration.lease).as_micros(),
            micros(registration.lease),
        ],
    )?;
    if rows == 1 { Ok(()) } else { Err(lost(registration.worker)) }
}

/// Extends the lease, and reads what the worker has open.
pub(crate) fn beat(scope: &Scope<'_>, heartbeat: &Heartbeat) -> Result<Beat, Fault> {
    let worker = heartbeat.worker;
    let expires_at = scope.now().after(heartbeat.lease);
    if scope.writes(worker::BEAT, params![worker.as_bytes().as_slice(), expires_at.as_micros(), micros(heartbeat.lease), heartbeat.idle])?
        == 0
    {
        return Err(lost(worker));
    }
    let open = open_of(scope, worker)?;
    let mut beat = Beat::new(open.into_iter().map(Fence::into_open_claim).collect());
    beat.suspects = scope
        .prepare(worker::FIRST_SUSPECTS)?
        .query_row(params![worker.as_bytes().as_slice(), scope.now().as_micros()], |row| row.get(0))?;
    Ok(beat)
}

/// Ends the exclusivity of an open claim of a worker that is not condemned.
pub(crate) fn end_exclusive(scope: &Scope<'_>, token: Token) -> Result<bool, Fault> {
    Ok(scope.writes(worker::END_EXCLUSIVE, [token.as_bytes().as_slice()])? == 1)
}

/// Nothing to do for a worker that is not there.
pub(crate) fn is_unknown(scope: &Scope<'_>, worker: WorkerId) -> Result<bool, Fault> {
    Ok(!scope.asks(worker::EXISTS, [worker.as_bytes().as_slice()])?)
}

/// Gives back whatever the worker still holds, and removes it.
pub(crate) fn retire(scope: &mut Scope<'_>, worker: WorkerId, reason: &str) -> Result<Retired, Fault> {
    let (mut released, mut stays) = (0, false);
    for fence in open_of(scope, worker)? {
        match journal::sound_claim_of(scope, &fence)? {
            Some(claim) => released += release(scope, &fence, &claim, reason)?,
            None => stays = true,
        }
    }
    // With a claim that cannot be given back its row has to stay; it expires as if the worker had died.
    if !stays {
        scope.writes(worker::REMOVE, [worker.as_bytes().as_slice()])?;
    }
    Ok(Retired::new(released))
}

/// Gives a whole claim back, attempts included. What has no body cannot run again, and nobody may forget it: it is dead.
fn release(scope: &mut Scope<'_>, fence: &Fence, claim: &ClaimRow, reason: &str) -> Result<u32, Fault> {
    let leased = fence.leased();
    let mut returning = Bits::new(leased.len());
    let mut rows = Vec::new();
    for index in leased.iter() {
        let at = index as usize;
        let (id, attempt) = (claim.ids[at], claim.attempts[at]);
        if scope.message_exists(id)? {
            returning.insert(index);
            scope.insert_transition(id, Some(fence.token), Recorded::Released, attempt, Some(reason))?;
            rows.push((id, claim.returning_type(scope, at)?, protocol::released(attempt, claim.crashes[at])));
        } else {
            scope.insert_transition(id, Some(fence.token), Recorded::Dead, attempt, Some(BodyFault::MISSING))?;
            scope.insert_dead(id, &claim.event_type(at), attempt, BodyFault::MISSING)?;
        }
    }
    fence.write_settled(scope, &leased)?;
    for (recorded, mask) in [(Recorded::Released, &returning), (Recorded::Dead, &leased.difference(&returning))] {
        if !mask.is_empty() {
            scope.insert_settlement(fence.token, recorded, mask)?;
        }
    }
    scope.insert_ready(rows.iter().map(|(id, event_type, waiting)| (*id, event_type, *waiting)))?;
    Ok(returning.count())
}

fn open_of(scope: &Scope<'_>, worker: WorkerId) -> Result<Vec<Fence>, Fault> {
    let mut statement = scope.prepare(worker::OPEN_CLAIMS)?;
    let mut rows = statement.query([worker.as_bytes().as_slice()])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        open.push(fence(row)?);
    }
    Ok(open)
}

/// Reads token, members, settled, revoked.
pub(crate) fn fence(row: &rusqlite::Row<'_>) -> Result<Fence, Fault> {
    let members = row::members(row, 1)?;
    Ok(Fence { token: row::token(row, 0)?, settled: row::bits(row, 2, members)?, revoked: row::bits(row, 3, members)? })
}

fn lost(worker: WorkerId) -> Fault {
    Error::new(ErrorKind::LeaseLost, format!("worker {worker} is unknown or was condemned; go on under a new incarnation")).into()
}
