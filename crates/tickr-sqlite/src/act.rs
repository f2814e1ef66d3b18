//! What operators do to messages: requeue, kill, discard, reschedule.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{OptionalExtension, params};
use tickr_core::protocol::{Recorded, Waiting};
use tickr_core::{Acted, Bits, Due, EventType, MessageId, Priority, Selection};
use tickr_sql::sqlite::{admin, claim, enqueue, purge};

use crate::error::Fault;
use crate::journal::{self, Open};
use crate::row;
use crate::scope::Scope;
use crate::settle::Fence;

/// Brings dead messages back with attempt 0. One without a body stays dead.
pub(crate) fn requeue(scope: &mut Scope<'_>, selection: &Selection, due: Due) -> Result<Acted, Fault> {
    let mut ids = selected(scope, selection, &[admin::SELECT_DEAD])?;
    // Ids carry their time: what was enqueued first runs first again.
    ids.sort_unstable();
    let mut acted = Acted::default();
    let mut ready = Vec::new();
    for id in ids {
        let Some((event_type, priority)) = lane_of(scope, id)? else {
            acted.missing.push(id);
            continue;
        };
        if scope.writes(purge::DELETE_DEAD, [id.as_bytes().as_slice()])? == 0 {
            acted.missing.push(id);
            continue;
        }
        scope.insert_transition(id, None, Recorded::Requeued, 0, None)?;
        keep_key(scope, id, due)?;
        let waiting = Waiting::fresh(priority);
        match due.later_than(scope.now()) {
            Some(at) => scope.insert_scheduled(id, at, &event_type, waiting)?,
            None => ready.push((id, event_type, waiting)),
        }
        acted.done.push(id);
    }
    scope.insert_ready(ready.iter().map(|(id, event_type, waiting)| (*id, event_type, *waiting)))?;
    Ok(finished(selection, acted))
}

/// The event type and priority of a body.
fn lane_of(scope: &Scope<'_>, id: MessageId) -> Result<Option<(EventType, Priority)>, Fault> {
    let mut statement = scope.prepare(claim::BODY)?;
    let found = statement.query_row([id.as_bytes().as_slice()], |row| Ok(row::message(row, Some(id), None))).optional()?.transpose()?;
    Ok(found.map(|salvaged| (salvaged.message.event_type, salvaged.message.priority)))
}

/// Makes messages DEAD, wherever they are.
pub(crate) fn kill(scope: &Scope<'_>, selection: &Selection, reason: &str) -> Result<Acted, Fault> {
    let ids = match selection {
        Selection::Filter { event_type, tenant, limit } => {
            let mut ids = selected(scope, selection, &[admin::SELECT_READY, admin::SELECT_SCHEDULED])?;
            ids.extend(select_leased(scope, event_type.as_deref(), tenant.as_deref())?);
            ids.sort_unstable();
            ids.truncate(*limit as usize);
            ids
        }
        _ => selected(scope, selection, &[])?,
    };
    let mut acted = Acted::default();
    let mut leased: Option<Leased> = None;
    for id in ids {
        if let Some((event_type, waiting)) = take_waiting(scope, id)? {
            bury(scope, id, None, &event_type, waiting.attempt, reason)?;
            acted.done.push(id);
            continue;
        }
        // Open claims are read once, and only when something is not waiting.
        let leased = match &mut leased {
            Some(leased) => leased,
            None => leased.insert(Leased::read(scope)?),
        };
        let known = leased.mark(id);
        if known { acted.done.push(id) } else { acted.missing.push(id) }
    }
    for (open, indices) in leased.iter().flat_map(Leased::marked) {
        revoke(scope, open, indices, reason)?;
    }
    Ok(finished(selection, acted))
}

fn bury(
    scope: &Scope<'_>,
    id: MessageId,
    token: Option<tickr_core::Token>,
    event_type: &EventType,
    attempt: u16,
    reason: &str,
) -> Result<(), Fault> {
    scope.insert_transition(id, token, Recorded::Killed, attempt, Some(reason))?;
    scope.insert_dead(id, event_type, attempt, &format!("killed: {reason}"))
}

/// Every open claim, where each leased message is, and which members are to be taken away.
struct Leased {
    open: Vec<Open>,
    places: HashMap<MessageId, (usize, u32)>,
    marked: BTreeMap<usize, Vec<u32>>,
}

impl Leased {
    fn read(scope: &Scope<'_>) -> Result<Self, Fault> {
        let open = journal::open_claims(scope)?;
        let mut places = HashMap::new();
        for (at, claim) in open.iter().enumerate() {
            places.extend(claim.leased().iter().map(|index| (claim.claim.ids[index as usize], (at, index))));
        }
        Ok(Self { open, places, marked: BTreeMap::new() })
    }

    /// Marks a member; `false` when the message is not leased.
    fn mark(&mut self, id: MessageId) -> bool {
        let place = self.places.remove(&id);
        if let Some((at, index)) = place {
            self.marked.entry(at).or_default().push(index);
        }
        place.is_some()
    }

    fn marked(&self) -> impl Iterator<Item = (&Open, &[u32])> {
        self.marked.iter().map(|(at, indices)| (&self.open[*at], indices.as_slice()))
    }
}

/// Takes members away from their claim. Its worker learns of it by the next heartbeat, or when it settles.
fn revoke(scope: &Scope<'_>, open: &Open, indices: &[u32], reason: &str) -> Result<(), Fault> {
    let claim = &open.claim;
    let mask = Bits::from_indices(claim.members(), indices.iter().copied());
    let fence = Fence { token: claim.token, settled: open.settled.clone(), revoked: open.revoked.clone() };
    fence.write_revoked(scope, &mask)?;
    scope.insert_settlement(claim.token, Recorded::Killed, &mask)?;
    for at in mask.iter().map(|index| index as usize) {
        bury(scope, claim.ids[at], Some(claim.token), &claim.event_type(at), claim.attempts[at], reason)?;
    }
    Ok(())
}

/// Deletes dead letters with their bodies.
pub(crate) fn discard(scope: &Scope<'_>, selection: &Selection) -> Result<Acted, Fault> {
    let mut acted = Acted::default();
    for id in selected(scope, selection, &[admin::SELECT_DEAD])? {
        if scope.writes(purge::DELETE_DEAD, [id.as_bytes().as_slice()])? == 0 {
            acted.missing.push(id);
            continue;
        }
        scope.writes(purge::DELETE_BODY, [id.as_bytes().as_slice()])?;
        acted.done.push(id);
    }
    Ok(finished(selection, acted))
}

/// Moves waiting messages to another time. Their rows are deleted and inserted, never updated.
pub(crate) fn reschedule(scope: &mut Scope<'_>, selection: &Selection, at: Due) -> Result<Acted, Fault> {
    let mut acted = Acted::default();
    let mut ready = Vec::new();
    for id in selected(scope, selection, &[admin::SELECT_SCHEDULED])? {
        let due = at.later_than(scope.now());
        // What is ready and due now keeps its place.
        if due.is_none() && is_ready(scope, id)? {
            acted.done.push(id);
            continue;
        }
        let Some((event_type, waiting)) = take_waiting(scope, id)? else {
            acted.missing.push(id);
            continue;
        };
        keep_key(scope, id, at)?;
        match due {
            Some(at) => scope.insert_scheduled(id, at, &event_type, waiting)?,
            None => ready.push((id, event_type, waiting)),
        }
        acted.done.push(id);
    }
    scope.insert_ready(ready.iter().map(|(id, event_type, waiting)| (*id, event_type, *waiting)))?;
    Ok(finished(selection, acted))
}

/// Keeps the key of a message for as long after its new due time; never for less than before.
fn keep_key(scope: &Scope<'_>, id: MessageId, due: Due) -> Result<(), Fault> {
    let expires_at = due.later_than(scope.now()).unwrap_or(scope.now()).after(scope.settings().dedupe_retention);
    scope.writes(enqueue::EXTEND_KEY, params![id.as_bytes().as_slice(), expires_at.as_micros()])?;
    Ok(())
}

fn is_ready(scope: &Scope<'_>, id: MessageId) -> Result<bool, Fault> {
    Ok(scope.prepare(admin::FIND_READY)?.exists([id.as_bytes().as_slice()])?)
}

/// Takes a row out of ready or scheduled.
fn take_waiting(scope: &Scope<'_>, id: MessageId) -> Result<Option<(EventType, Waiting)>, Fault> {
    for sql in [admin::TAKE_READY, admin::TAKE_SCHEDULED] {
        let taken = scope.prepare(sql)?.query_row([id.as_bytes().as_slice()], |row| Ok((row::event_type(row, 0)?, row::waiting(row, 1)?)));
        if let Some(taken) = taken.optional()? {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

/// The ids that a selection means, each once; a filter's oldest first, from these statements.
fn selected(scope: &Scope<'_>, selection: &Selection, statements: &[&str]) -> Result<Vec<MessageId>, Fault> {
    let mut ids = Vec::new();
    match selection {
        Selection::Ids(given) => {
            let mut seen = HashSet::new();
            ids.extend(given.iter().copied().filter(|id| seen.insert(*id)));
        }
        Selection::Filter { event_type, tenant, limit } => {
            for sql in statements {
                let mut statement = scope.prepare(sql)?;
                let mut rows = statement.query(params![event_type, tenant, limit])?;
                while let Some(row) = rows.next()? {
                    ids.push(row::message_id(row, 0)?);
                }
            }
            ids.sort_unstable();
            ids.truncate(*limit as usize);
        }
        _ => return Err(tickr_core::Error::config("this selection is newer than the adapter").into()),
    }
    Ok(ids)
}

fn select_leased(scope: &Scope<'_>, event_type: Option<&str>, tenant: Option<&str>) -> Result<Vec<MessageId>, Fault> {
    let mut ids = Vec::new();
    for open in journal::open_claims(scope)? {
        for at in open.leased().iter().map(|index| index as usize) {
            let id = open.claim.ids[at];
            let of_type = event_type.is_none_or(|wanted| open.claim.event_type(at).as_str() == wanted);
            if of_type && (tenant.is_none() || tenant_of(scope, id)?.as_deref() == tenant) {
                ids.push(id);
            }
        }
    }
    Ok(ids)
}

fn tenant_of(scope: &Scope<'_>, id: MessageId) -> Result<Option<String>, Fault> {
    let mut statement = scope.prepare(claim::BODY)?;
    let tenant: Option<Option<String>> = statement.query_row([id.as_bytes().as_slice()], |row| row::shown(row, 5)).optional()?;
    Ok(tenant.flatten())
}

/// A filter asks for no message by name, so it misses none.
fn finished(selection: &Selection, mut acted: Acted) -> Acted {
    if !matches!(selection, Selection::Ids(_)) {
        acted.missing.clear();
    }
    acted
}
