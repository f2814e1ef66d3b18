//! What workers do beside their work: promote and reclaim.

use std::time::Duration;

use rusqlite::params;
use tickr_core::protocol::{self, Recorded, Waiting};
use tickr_core::{BodyFault, EventType, MessageId, Promoted, ReclaimRequest, Reclaimed, ReclaimedMessage, Timestamp};
use tickr_sql::sqlite::upkeep;

use crate::error::Fault;
use crate::journal::{self, ClaimRow};
use crate::row;
use crate::scope::Scope;
use crate::settle::Fence;
use crate::worker;

/// The answer when nothing is due.
pub(crate) fn probe_promote(scope: &Scope<'_>) -> Result<Option<Promoted>, Fault> {
    let next_due = next_due(scope)?;
    Ok((next_due != Some(Duration::ZERO)).then(|| promoted(0, next_due)))
}

/// Moves due messages to ready, those first that are due longest.
pub(crate) fn promote(scope: &mut Scope<'_>, limit: u32) -> Result<Promoted, Fault> {
    let mut due = take_due(scope, limit)?;
    due.sort_unstable_by_key(|(at, id, ..)| (*at, *id));
    let moved = u32::try_from(due.len()).unwrap_or(u32::MAX);
    scope.insert_ready(due.iter().map(|(_, id, event_type, waiting)| (*id, event_type, *waiting)))?;
    Ok(promoted(moved, next_due(scope)?))
}

fn promoted(moved: u32, next_due: Option<Duration>) -> Promoted {
    let mut promoted = Promoted::new(moved);
    promoted.next_due = next_due;
    promoted
}

fn take_due(scope: &Scope<'_>, limit: u32) -> Result<Vec<(Timestamp, MessageId, EventType, Waiting)>, Fault> {
    let mut statement = scope.prepare(upkeep::TAKE_DUE)?;
    let mut rows = statement.query(params![scope.now().as_micros(), limit])?;
    let (mut due, mut nameless) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let event_type = row::event_type(row, 2)?;
        match row::message_id(row, 1) {
            Ok(id) => due.push((row::timestamp(row, 0)?, id, event_type, row::waiting(row, 3)?)),
            Err(_) => nameless.push((row::blob(row, 1)?.to_vec(), event_type)),
        }
    }
    drop(rows);
    nameless.iter().try_for_each(|(id, event_type)| scope.bury_nameless(id, event_type))?;
    Ok(due)
}

/// How long until the next scheduled message is due; zero when one is.
pub(crate) fn next_due(scope: &Scope<'_>) -> Result<Option<Duration>, Fault> {
    let next: Option<i64> = scope.prepare(upkeep::NEXT_DUE)?.query_row([], |row| row.get(0))?;
    Ok(next.map(|at| Timestamp::from_micros(at).since(scope.now())))
}

/// The answer when no worker is to be condemned, none was, and no claim lacks its worker.
pub(crate) fn probe_reclaim(scope: &Scope<'_>, request: &ReclaimRequest) -> Result<Option<Reclaimed>, Fault> {
    let expired = request.condemn && scope.asks(upkeep::ANY_EXPIRED, [scope.now().as_micros()])?;
    let pending = expired || scope.asks(upkeep::ANY_LOST, [])?;
    Ok((!pending).then(Reclaimed::default))
}

/// Condemns expired workers, takes their claims back, and removes those that hold nothing more.
pub(crate) fn reclaim(scope: &mut Scope<'_>, request: &ReclaimRequest) -> Result<Reclaimed, Fault> {
    let mut reclaimed = Reclaimed::default();
    if request.condemn {
        if scope.writes(upkeep::SHORTEN, [scope.now().as_micros()])? > 0 {
            tracing::warn!("the database's clock was set back; leases end one lease from now at the latest");
        }
        let condemned = scope.writes(upkeep::CONDEMN, [scope.now().as_micros()])?;
        reclaimed.condemned = u32::try_from(condemned).unwrap_or(u32::MAX);
    }
    let unowned = scope.writes(upkeep::CONDEMN_UNOWNED, [scope.now().as_micros()])?;
    if unowned > 0 {
        tracing::warn!(workers = unowned, "open claims had workers without a row; they are taken back");
    }
    for (fence, claim) in condemned_claims(scope, request.limit)? {
        take_back(scope, &fence, &claim, &mut reclaimed.messages)?;
        reclaimed.claims += 1;
    }
    scope.writes(upkeep::REMOVE_CONDEMNED, [])?;
    Ok(reclaimed)
}

/// At most `limit` claims to take back. One that cannot be read stays open, and hides none behind it.
fn condemned_claims(scope: &Scope<'_>, limit: u32) -> Result<Vec<(Fence, ClaimRow)>, Fault> {
    let mut statement = scope.prepare(upkeep::CONDEMNED_CLAIMS)?;
    let mut rows = statement.query([])?;
    let mut claims = Vec::new();
    while claims.len() < limit as usize
        && let Some(row) = rows.next()?
    {
        let fence = worker::fence(row)?;
        if let Some(claim) = journal::sound_claim_of(scope, &fence)? {
            claims.push((fence, claim));
        }
    }
    Ok(claims)
}

/// Takes one claim back: its members become suspects, or die.
fn take_back(scope: &mut Scope<'_>, fence: &Fence, claim: &ClaimRow, messages: &mut Vec<ReclaimedMessage>) -> Result<(), Fault> {
    let leased = fence.leased();
    // Closes the row: settled, revoked and what is taken back are all members.
    fence.write_revoked(scope, &leased)?;
    scope.insert_settlement(fence.token, Recorded::Reclaimed, &leased)?;
    let mut suspects = Vec::new();
    for at in leased.iter().map(|index| index as usize) {
        let (id, attempt) = (claim.ids[at], claim.attempts[at]);
        let has_body = scope.message_exists(id)?;
        let event_type = if has_body { claim.returning_type(scope, at)? } else { EventType::from_stored("?") };
        let fate = protocol::reclaimed(claim.solo, attempt, claim.crashes[at], claim.maxes[at]).filter(|_| has_body);
        let mut message = ReclaimedMessage::new(id, event_type.clone(), attempt);
        message.dead = fate.is_none();
        messages.push(message);
        match fate {
            Some(waiting) => {
                scope.insert_transition(id, Some(fence.token), Recorded::Reclaimed, attempt, None)?;
                suspects.push((id, event_type, waiting));
            }
            None => {
                scope.insert_transition(id, Some(fence.token), Recorded::Crashed, attempt, None)?;
                scope.insert_dead(id, &event_type, attempt, if has_body { "crashed" } else { BodyFault::MISSING })?;
            }
        }
    }
    scope.insert_ready(suspects.iter().map(|(id, event_type, waiting)| (*id, event_type, *waiting)))
}
