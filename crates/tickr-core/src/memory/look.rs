//! What an operator sees: messages with their status, histories, dead letters, workers.

use std::collections::HashSet;

use super::state::{Body, State, UNREADABLE};
use crate::error::{Error, ErrorKind, Result};
use crate::id::MessageId;
use crate::status::{ClaimEntry, OutcomeEntry, Status, Transition, assemble_history};
use crate::storage::{DeadLetter, DeadQuery, ListQuery, MessageRecord, Page, WorkerRecord};
use crate::time::Timestamp;

impl State {
    /// A body without a state is corrupt, never a success.
    pub(super) fn get(&self, id: MessageId) -> Result<Option<MessageRecord>> {
        let Some(body) = self.messages.get(&id) else { return Ok(None) };
        let corrupt = || Error::new(ErrorKind::Corrupt, format!("message {id} has a body but no state; run the audit"));
        self.record(id, body).map(Some).ok_or_else(corrupt)
    }

    fn unreadable(&self, id: MessageId) -> Option<String> {
        self.unreadable.contains(&id).then(|| UNREADABLE.to_owned())
    }

    /// Bodies without a state are left out; the audit names them.
    pub(super) fn list(&self, query: &ListQuery) -> Page<MessageRecord> {
        let older = (std::ops::Bound::Unbounded, before(query.before));
        let wanted = |id: &MessageId, body: &Body| {
            let stored = &body.stored;
            let matches = query.event_type.as_ref().is_none_or(|event_type| stored.event_type.as_str() == event_type)
                && query.tenant.as_ref().is_none_or(|tenant| stored.tenant.as_ref() == Some(tenant))
                && query.since.is_none_or(|since| stored.created_at >= since);
            let record = if matches { self.record(*id, body) } else { None };
            record.filter(|record| query.status.is_none_or(|status| record.status == status))
        };
        let scan_max = query.scan_max.max(1) as usize;
        let mut scanned = self.messages.range(older).rev();
        let records = scanned.by_ref().take(scan_max).map(|(id, body)| (*id, wanted(id, body)));
        let limit = query.limit.clamp(1, ListQuery::LIMIT_MAX) as usize;
        let (mut items, mut last) = (Vec::new(), None);
        for (id, record) in records {
            last = Some(id);
            items.extend(record);
            if items.len() == limit {
                break;
            }
        }
        let more = scanned.next().is_some();
        Page::new(items, last.filter(|_| more))
    }

    pub(super) fn list_dead(&self, query: &DeadQuery) -> Page<DeadLetter> {
        let older = (std::ops::Bound::Unbounded, before(query.before));
        let wanted = self.dead.range(older).rev();
        let wanted = wanted.filter(|(_, row)| query.event_type.as_ref().is_none_or(|event_type| row.event_type.as_str() == event_type));
        let letters = wanted.map(|(id, row)| {
            let stored = self.messages.get(id).map(|body| body.stored.clone());
            let mut letter = DeadLetter::new(*id, row.event_type.clone(), row.attempt, row.reason.clone(), row.died_at);
            letter.stored = stored;
            letter.unreadable = self.unreadable(*id);
            letter
        });
        page(letters, query.limit, |letter| letter.id)
    }

    /// Looks for a message where the live are before it looks at the journal.
    fn record(&self, id: MessageId, body: &Body) -> Option<MessageRecord> {
        let new = |status, attempt| {
            let mut record = MessageRecord::new(body.stored.clone(), status, attempt);
            record.last_error = self.last_error(id);
            record.unreadable = self.unreadable(id);
            record
        };
        if let Some(row) = self.ready_ids.get(&id).and_then(|key| self.ready.get(key)) {
            return Some(new(row.waiting.status(), row.waiting.attempt));
        }
        if let Some(key) = self.scheduled_ids.get(&id)
            && let Some(row) = self.scheduled.get(key)
        {
            let mut record = new(row.waiting.status(), row.waiting.attempt);
            record.due_at = Some(key.0);
            return Some(record);
        }
        if let Some(row) = self.dead.get(&id) {
            let mut record = new(Status::Dead, row.attempt);
            record.last_error = Some(row.reason.clone());
            record.finished_at = Some(row.died_at);
            return Some(record);
        }
        if let Some((token, index)) = self.claimed(id) {
            let claim = self.claims.get(&token)?;
            let mut record = new(Status::Handling, claim.members[index as usize].attempt);
            record.worker = Some(claim.worker_name.clone());
            return Some(record);
        }
        let (token, index, proof) = self.success(id, body)?;
        let mut record = new(Status::Success, self.claims.get(&token)?.members[index as usize].attempt);
        record.finished_at = Some(proof.at);
        Some(record)
    }

    pub(super) fn history(&self, id: MessageId) -> Vec<Transition> {
        let mut claims: Vec<(u64, ClaimEntry)> = Vec::new();
        let mut outcomes: Vec<(u64, OutcomeEntry)> = Vec::new();
        let mut told = HashSet::new();
        for (number, row) in self.transitions_of(id) {
            told.extend(row.token);
            let entry =
                OutcomeEntry { token: row.token, recorded: row.recorded, attempt: row.attempt, error: row.error.clone(), at: row.at };
            outcomes.push((number, entry));
        }
        for (token, index) in self.claims_of.get(&id).into_iter().flatten() {
            let Some(claim) = self.claims.get(token) else { continue };
            let attempt = claim.members[*index as usize].attempt;
            claims.push((claim.number, ClaimEntry::new(*token, attempt, claim.worker_name.clone(), claim.at)));
            // A success has no transition of its own; with the history off, nothing has.
            let untold = self.settlements_of(*token).filter(|(_, row)| row.mask.contains(*index) && !told.contains(token));
            outcomes.extend(untold.map(|(number, row)| {
                (number, OutcomeEntry { token: Some(*token), recorded: row.recorded, attempt, error: None, at: row.at })
            }));
        }
        let times = claims.iter_mut().map(|(number, entry)| (*number, &mut entry.at));
        spread(times.chain(outcomes.iter_mut().map(|(number, entry)| (*number, &mut entry.at))).collect());
        let created_at = self.messages.get(&id).map(|body| body.stored.created_at);
        let claims = claims.into_iter().map(|(_, entry)| entry).collect();
        let outcomes = outcomes.into_iter().map(|(_, entry)| entry).collect();
        assemble_history(id, created_at, claims, outcomes)
    }

    pub(super) fn worker_records(&self) -> Vec<WorkerRecord> {
        let records = self.workers.iter().map(|(id, row)| {
            let mut record = WorkerRecord::new(*id, row.name.clone(), row.event_types.clone(), row.started_at, row.expires_at);
            record.idle = row.idle;
            record.lost = row.lost;
            record.open_claims = u32::try_from(self.open_of(*id).count()).unwrap_or(u32::MAX);
            record
        });
        let mut records: Vec<_> = records.collect();
        records.sort_by_key(|record| (record.started_at, record.id));
        records
    }
}

/// Makes times increase in the order of the journal: under a test's clock many steps share one moment, and the
/// history is put in order by time.
fn spread(mut times: Vec<(u64, &mut Timestamp)>) {
    times.sort_unstable_by_key(|(number, _)| *number);
    let mut least = Timestamp::from_micros(i64::MIN);
    for (_, at) in times {
        *at = (*at).max(least);
        least = Timestamp::from_micros(at.as_micros().saturating_add(1));
    }
}

fn before(cursor: Option<MessageId>) -> std::ops::Bound<MessageId> {
    cursor.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded)
}

/// Looks one entry past the page, to know whether it is the last.
fn page<T>(entries: impl Iterator<Item = T>, limit: u32, id: impl Fn(&T) -> MessageId) -> Page<T> {
    let limit = limit.clamp(1, ListQuery::LIMIT_MAX) as usize;
    let mut items: Vec<T> = entries.take(limit + 1).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().map(id).filter(|_| more);
    Page::new(items, next)
}
