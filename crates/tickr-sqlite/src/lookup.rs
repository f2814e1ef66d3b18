//! Looking messages up: one, lists, histories.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};
use tickr_core::protocol::{Recorded, Waiting};
use tickr_core::{
    Bits, ClaimEntry, DeadLetter, DeadQuery, Error, ErrorKind, ListQuery, MessageId, MessageRecord, OutcomeEntry, Page, Status, Timestamp,
    Token, Transition, WorkerRecord, assemble_history,
};
use tickr_sql::sqlite::{admin, claim, settle};
use tickr_sql::{Salvaged, json};

use crate::error::Fault;
use crate::journal::{self, ClaimRow};
use crate::purge::Position;
use crate::row;
use crate::scope::Scope;

/// Greater than every id: where a list begins.
const ABOVE_ALL: [u8; 17] = [0xFF; 17];

/// One message with its status, from one snapshot.
pub(crate) fn get(scope: &Scope<'_>, id: MessageId) -> Result<Option<MessageRecord>, Fault> {
    let Some(stored) = body(scope, id)? else { return Ok(None) };
    let leased = Leased::read(scope)?;
    let mut records = vec![record(scope, &leased, stored)?];
    add_successes(scope, &mut records)?;
    match records.pop() {
        Some(Placed::Record(record)) => Ok(Some(record)),
        _ => {
            Err(Error::new(ErrorKind::Corrupt, format!("message {id} has a body but no state and no recorded success; run an audit"))
                .into())
        }
    }
}

fn body(scope: &Scope<'_>, id: MessageId) -> Result<Option<Salvaged>, Fault> {
    let mut statement = scope.prepare(claim::BODY)?;
    statement.query_row([id.as_bytes().as_slice()], |row| Ok(row::message(row, Some(id), None))).optional()?.transpose()
}

/// A message on its way into a list.
enum Placed {
    Record(MessageRecord),
    /// In no table of live or dead messages: a success, if the journal proves it.
    Absent(Salvaged),
}

/// Every leased member, with its worker.
struct Leased(HashMap<MessageId, (u16, String)>);

impl Leased {
    fn read(scope: &Scope<'_>) -> Result<Self, Fault> {
        let mut leased = HashMap::new();
        for open in journal::open_claims(scope)? {
            for at in open.leased().iter().map(|index| index as usize) {
                leased.insert(open.claim.ids[at], (open.claim.attempts[at], open.claim.worker_name.clone()));
            }
        }
        Ok(Self(leased))
    }
}

/// A record of what could be read.
fn new_record(Salvaged { message, unreadable }: Salvaged, status: Status, attempt: u16) -> MessageRecord {
    let mut record = MessageRecord::new(message, status, attempt);
    record.unreadable = unreadable;
    record
}

fn record(scope: &Scope<'_>, leased: &Leased, stored: Salvaged) -> Result<Placed, Fault> {
    let id = stored.message.id;
    let mut record = if let Some((waiting, due_at)) = find_waiting(scope, id)? {
        let mut record = new_record(stored, waiting.status(), waiting.attempt);
        record.due_at = due_at;
        record
    } else if let Some((attempt, worker)) = leased.0.get(&id) {
        let mut record = new_record(stored, Status::Handling, *attempt);
        record.worker = Some(worker.clone());
        record
    } else if let Some(dead) = find_dead(scope, id)? {
        let mut record = new_record(stored, Status::Dead, dead.attempt);
        record.finished_at = Some(dead.died_at);
        record.last_error = Some(dead.reason);
        return Ok(Placed::Record(record));
    } else {
        return Ok(Placed::Absent(stored));
    };
    record.last_error = scope.last_text(id)?;
    Ok(Placed::Record(record))
}

fn find_waiting(scope: &Scope<'_>, id: MessageId) -> Result<Option<(Waiting, Option<Timestamp>)>, Fault> {
    let key = [id.as_bytes().as_slice()];
    let waiting = |row: &rusqlite::Row<'_>| row::waiting(row, 1);
    if let Some(ready) = scope.prepare(admin::FIND_READY)?.query_row(key, waiting).optional()? {
        return Ok(Some((ready, None)));
    }
    let scheduled = scope.prepare(admin::FIND_SCHEDULED)?.query_row(key, |row| Ok((waiting(row)?, row.get(4)?))).optional()?;
    Ok(scheduled.map(|(waiting, due_at)| (waiting, Some(Timestamp::from_micros(due_at)))))
}

struct Dead {
    attempt: u16,
    reason: String,
    died_at: Timestamp,
}

fn find_dead(scope: &Scope<'_>, id: MessageId) -> Result<Option<Dead>, Fault> {
    let mut statement = scope.prepare(admin::FIND_DEAD)?;
    let dead = statement.query_row([id.as_bytes().as_slice()], |row| {
        Ok(Dead {
            attempt: row::number(row, 1)?,
            reason: row::shown(row, 2)?.unwrap_or_default(),
            died_at: Timestamp::from_micros(row.get(3)?),
        })
    });
    Ok(dead.optional()?)
}

/// Turns what is absent into successes where the journal proves it: one look over the claims for all of them.
fn add_successes(scope: &Scope<'_>, records: &mut [Placed]) -> Result<(), Fault> {
    let mut absent: Vec<MessageId> = records
        .iter()
        .filter_map(|placed| match placed {
            Placed::Absent(stored) => Some(stored.message.id),
            Placed::Record(_) => None,
        })
        .collect();
    absent.sort_unstable();
    let purged = Position::read(scope)?;
    let mut proofs: HashMap<MessageId, (u16, Timestamp)> = HashMap::new();
    for claim in journal::claims_with(scope, &absent)? {
        for row in settlements_of(scope, &claim)?.into_iter().filter(|row| row.recorded.is_success()) {
            for index in row.mask.iter().filter(|index| purged.leaves(row.n, *index)) {
                let id = claim.ids[index as usize];
                if absent.binary_search(&id).is_ok() {
                    proofs.insert(id, (claim.attempts[index as usize], row.at));
                }
            }
        }
    }
    for placed in records.iter_mut() {
        let Placed::Absent(stored) = placed else { continue };
        let Some((attempt, at)) = proofs.get(&stored.message.id) else { continue };
        let mut record = new_record(stored.clone(), Status::Success, *attempt);
        record.finished_at = Some(*at);
        record.last_error = scope.last_text(record.stored.id)?;
        *placed = Placed::Record(record);
    }
    Ok(())
}

/// A row of settlements.
struct SettlementRow {
    n: i64,
    recorded: Recorded,
    mask: Bits,
    at: Timestamp,
}

fn settlements_of(scope: &Scope<'_>, claim: &ClaimRow) -> Result<Vec<SettlementRow>, Fault> {
    let mut statement = scope.prepare(settle::READ_SETTLEMENTS)?;
    let mut rows = statement.query([claim.token.as_bytes().as_slice()])?;
    let mut settlements = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(recorded) = recorded(row, 0)? else { continue };
        let mask = row::bits(row, 1, claim.members())?;
        settlements.push(SettlementRow { n: row.get(3)?, recorded, mask, at: row::timestamp(row, 2)? });
    }
    Ok(settlements)
}

/// `None` for an outcome that this library does not know, written by a newer version.
fn recorded(row: &rusqlite::Row<'_>, column: usize) -> Result<Option<Recorded>, Fault> {
    Ok(Recorded::parse(&row::lossy(row.get_ref(column)?)))
}

/// Messages, newest first. What has neither state nor proof (an audit names it) is in no list.
pub(crate) fn list(scope: &Scope<'_>, query: &ListQuery) -> Result<Page<MessageRecord>, Fault> {
    let leased = Leased::read(scope)?;
    let wanted = |placed: &Placed| match (query.status, placed) {
        (None, _) | (Some(Status::Success), Placed::Absent(_)) => true,
        (Some(status), Placed::Record(record)) => record.status == status,
        (Some(_), Placed::Absent(_)) => false,
    };
    let limit = query.limit.clamp(1, ListQuery::LIMIT_MAX) as usize;
    let mut page = Vec::new();
    let mut take = |stored: Salvaged| -> Result<bool, Fault> {
        let placed = record(scope, &leased, stored)?;
        if wanted(&placed) {
            page.push(placed);
        }
        Ok(page.len() < limit)
    };
    let next = match query.status {
        Some(Status::Failed) => None,
        Some(Status::Handling) => each_leased(scope, &leased, query, &mut take)?,
        Some(Status::Created | Status::Retrying) => each_body(scope, admin::LIST_WAITING, query, &mut take)?,
        Some(Status::Dead) => each_body(scope, admin::LIST_DEAD_MESSAGES, query, &mut take)?,
        Some(Status::Success) | None => each_body(scope, admin::LIST_ALL, query, &mut take)?,
    };
    add_successes(scope, &mut page)?;
    let records = page.into_iter().filter_map(|placed| match placed {
        Placed::Record(record) => Some(record),
        Placed::Absent(_) => None,
    });
    Ok(Page::new(records.collect(), next))
}

/// Walks bodies until `take` has enough, or as many were scanned as a page may. Gives the last one, if there are more behind it.
fn each_body(
    scope: &Scope<'_>,
    sql: &str,
    query: &ListQuery,
    take: &mut dyn FnMut(Salvaged) -> Result<bool, Fault>,
) -> Result<Option<MessageId>, Fault> {
    let before = query.before.as_ref().map_or(ABOVE_ALL.as_slice(), |id| id.as_bytes().as_slice());
    let mut statement = scope.prepare(sql)?;
    let mut rows = statement.query([before])?;
    let (mut scanned, mut last, mut full) = (0, None, false);
    while let Some(row) = rows.next()? {
        // Nobody can name a message whose id is none.
        let Ok(id) = row::message_id(row, 13) else { continue };
        if full || scanned == query.scan_max.max(1) {
            return Ok(last);
        }
        scanned += 1;
        last = Some(id);
        if matches(row, query)? {
            full = !take(row::message(row, Some(id), None)?)?;
        }
    }
    Ok(None)
}

/// Whether a row is what a query asks for, but for its status. Reads no payload.
fn matches(row: &rusqlite::Row<'_>, query: &ListQuery) -> rusqlite::Result<bool> {
    let is = |column, wanted: &Option<String>| {
        let Some(wanted) = wanted else { return Ok(true) };
        Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_bytes().is_ok_and(|bytes| bytes == wanted.as_bytes()))
    };
    let late_enough = match query.since {
        Some(since) => row.get::<_, i64>(11)? >= since.as_micros(),
        None => true,
    };
    Ok(late_enough && is(12, &query.event_type)? && is(5, &query.tenant)?)
}

/// Leased messages are few: all are read.
fn each_leased(
    scope: &Scope<'_>,
    leased: &Leased,
    query: &ListQuery,
    take: &mut dyn FnMut(Salvaged) -> Result<bool, Fault>,
) -> Result<Option<MessageId>, Fault> {
    let mut ids: Vec<MessageId> = leased.0.keys().copied().filter(|id| query.before.is_none_or(|before| *id < before)).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let (mut last, mut full) = (None, false);
    for id in ids {
        if full {
            return Ok(last);
        }
        last = Some(id);
        let Some(stored) = body(scope, id)? else { continue };
        let fits = query.event_type.as_deref().is_none_or(|wanted| stored.message.event_type.as_str() == wanted)
            && (query.tenant.is_none() || stored.message.tenant == query.tenant)
            && query.since.is_none_or(|since| stored.message.created_at >= since);
        if fits {
            full = !take(stored)?;
        }
    }
    Ok(None)
}

/// Every step of a message that the journal still has.
pub(crate) fn history(scope: &Scope<'_>, id: MessageId) -> Result<Vec<Transition>, Fault> {
    let created_at = body(scope, id)?.map(|stored| stored.message.created_at);
    let mut outcomes = transitions(scope, id)?;
    let mut claims = Vec::new();
    for claim in journal::claims_with(scope, &[id])? {
        for (index, _) in (0_u32..).zip(&claim.ids).filter(|(_, member)| **member == id) {
            let attempt = claim.attempts[index as usize];
            claims.push(ClaimEntry::new(claim.token, attempt, claim.worker_name.clone(), claim.at));
            // A transition says more than the settlement of the same token.
            if outcomes.iter().any(|outcome| outcome.token == Some(claim.token)) {
                continue;
            }
            for row in settlements_of(scope, &claim)?.into_iter().filter(|row| row.mask.contains(index)) {
                let mut outcome = OutcomeEntry::new(row.recorded, attempt, row.at);
                outcome.token = Some(claim.token);
                outcomes.push(outcome);
            }
        }
    }
    Ok(assemble_history(id, created_at, claims, outcomes))
}

fn transitions(scope: &Scope<'_>, id: MessageId) -> Result<Vec<OutcomeEntry>, Fault> {
    let mut statement = scope.prepare(admin::TRANSITIONS)?;
    let mut rows = statement.query([id.as_bytes().as_slice()])?;
    let mut outcomes = Vec::new();
    while let Some(row) = rows.next()? {
        let token: Option<Vec<u8>> = row.get(0)?;
        let Some(recorded) = recorded(row, 1)? else { continue };
        let mut outcome = OutcomeEntry::new(recorded, row::number(row, 2)?, row::timestamp(row, 4)?);
        outcome.token = token.and_then(|token| Token::from_slice(&token).ok());
        outcome.error = row::shown(row, 3)?;
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Dead letters, newest message first.
pub(crate) fn list_dead(scope: &Scope<'_>, query: &DeadQuery) -> Result<Page<DeadLetter>, Fault> {
    let before = query.before.as_ref().map_or(ABOVE_ALL.as_slice(), |id| id.as_bytes().as_slice());
    let limit = query.limit.clamp(1, ListQuery::LIMIT_MAX);
    let mut letters = Vec::new();
    let mut statement = match query.event_type {
        Some(_) => scope.prepare(admin::DEAD_LETTERS_OF_TYPE)?,
        None => scope.prepare(admin::DEAD_LETTERS)?,
    };
    let mut rows = match &query.event_type {
        Some(event_type) => statement.query(params![before, limit + 1, event_type])?,
        None => statement.query(params![before, limit + 1])?,
    };
    while let Some(row) = rows.next()? {
        let Ok(id) = row::message_id(row, 0) else { continue };
        let (event_type, attempt, reason) = (row::event_type(row, 1)?, row::number(row, 2)?, row::shown(row, 3)?.unwrap_or_default());
        let (stored, unreadable) = body(scope, id)?.map(|salvaged| (salvaged.message, salvaged.unreadable)).unzip();
        let mut letter = DeadLetter::new(id, event_type, attempt, reason, row::timestamp(row, 4)?);
        letter.stored = stored;
        letter.unreadable = unreadable.flatten();
        letters.push(letter);
    }
    let more = letters.len() > limit as usize;
    letters.truncate(limit as usize);
    let next = letters.last().map(|letter| letter.id).filter(|_| more);
    Ok(Page::new(letters, next))
}

/// Every registered worker, oldest first.
pub(crate) fn workers(scope: &Scope<'_>) -> Result<Vec<WorkerRecord>, Fault> {
    let mut statement = scope.prepare(admin::WORKERS)?;
    let mut rows = statement.query([])?;
    let mut workers = Vec::new();
    while let Some(row) = rows.next()? {
        let id = tickr_core::WorkerId::from_slice(row::blob(row, 0)?)?;
        // What is no list names no type; it must not hide the other workers.
        let event_types = json::decode_names(&row::lossy(row.get_ref(2)?)).unwrap_or_default();
        let name = row::shown(row, 1)?.unwrap_or_default();
        let mut worker = WorkerRecord::new(id, name, event_types, row::timestamp(row, 4)?, row::timestamp(row, 5)?);
        worker.idle = row.get(3)?;
        worker.lost = row.get(6)?;
        worker.open_claims = row.get(7)?;
        workers.push(worker);
    }
    Ok(workers)
}
