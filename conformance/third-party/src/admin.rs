//! [`Admin`]: what operators ask and do.

use tickr_core::protocol::{Recorded, Waiting};
use tickr_core::{
    Acted, Admin, Audit, ClaimEntry, DeadLetter, DeadQuery, Due, Error, Finding, ListQuery, MessageId, MessageRecord, Page, Pause,
    PauseScope, Result, Selection, Status, Storage as _, Timestamp, Transition, WorkerRecord, assemble_history, check_reason,
};

use crate::MapStorage;
use crate::table::{Entry, Place, Table};

impl Admin for MapStorage {
    async fn get(&self, id: MessageId) -> Result<Option<MessageRecord>> {
        let table = self.lock();
        Ok(table.messages.get(&id).map(|entry| table.record(id, entry)))
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<MessageRecord>> {
        let table = self.lock();
        let wanted = |entry: &Entry| {
            query.status.is_none_or(|status| entry.place.status() == status)
                && query.event_type.as_ref().is_none_or(|name| entry.stored.event_type.as_str() == name)
                && query.tenant.as_ref().is_none_or(|tenant| entry.stored.tenant.as_ref() == Some(tenant))
                && query.since.is_none_or(|since| entry.stored.created_at >= since)
        };
        let limit = query.limit.clamp(1, ListQuery::LIMIT_MAX) as usize;
        let older = |(id, _): &(&MessageId, &Entry)| query.before.is_none_or(|before| **id < before);
        let mut scanned = table.messages.iter().rev().filter(older);
        let (mut items, mut last) = (Vec::new(), None);
        for (id, entry) in scanned.by_ref().take(query.scan_max.max(1) as usize) {
            last = Some(*id);
            if wanted(entry) {
                items.push(table.record(*id, entry));
            }
            if items.len() == limit {
                break;
            }
        }
        let more = scanned.next().is_some();
        Ok(Page::new(items, last.filter(|_| more)))
    }

    async fn history(&self, id: MessageId) -> Result<Vec<Transition>> {
        let table = self.lock();
        let tokens = table.claims_of.get(&id).map(Vec::as_slice).unwrap_or_default();
        let claims = tokens.iter().filter_map(|token| {
            let claim = table.claims.get(token)?;
            let member = claim.members.iter().find(|member| member.id == id)?;
            Some(ClaimEntry::new(*token, member.attempt, claim.worker_name.clone(), claim.at))
        });
        let outcomes = table.outcomes.get(&id).cloned().unwrap_or_default();
        let created_at = table.messages.get(&id).map(|entry| entry.stored.created_at);
        Ok(assemble_history(id, created_at, claims.collect(), outcomes))
    }

    async fn list_dead(&self, query: &DeadQuery) -> Result<Page<DeadLetter>> {
        let table = self.lock();
        let dead = table.messages.iter().rev().filter_map(|(id, entry)| {
            let Place::Dead { attempt, reason, at } = &entry.place else { return None };
            let wanted = query.before.is_none_or(|before| *id < before)
                && query.event_type.as_ref().is_none_or(|name| entry.stored.event_type.as_str() == name);
            let mut letter = DeadLetter::new(*id, entry.stored.event_type.clone(), *attempt, reason.clone(), *at);
            letter.stored = Some(entry.stored.clone());
            wanted.then_some((*id, letter))
        });
        Ok(page(dead, query.limit))
    }

    async fn requeue(&self, selection: &Selection, due: Due) -> Result<Acted> {
        let is_dead = |place: &Place| matches!(place, Place::Dead { .. });
        self.act(selection, is_dead, is_dead, |table, id, now| {
            let Some(priority) = table.messages.get(&id).map(|entry| entry.stored.priority) else { return };
            table.note(id, None, Recorded::Requeued, 0, None, now);
            table.put_waiting(id, due.later_than(now), Waiting::fresh(priority));
            table.keep_key(id, due.later_than(now).unwrap_or(now));
        })
    }

    async fn kill(&self, selection: &Selection, reason: &str) -> Result<Acted> {
        check_reason(reason)?;
        let lives = |place: &Place| matches!(place, Place::Ready { .. } | Place::Scheduled { .. } | Place::Leased { .. });
        self.act(selection, lives, lives, |table, id, now| table.kill(id, reason, now))
    }

    async fn discard(&self, selection: &Selection) -> Result<Acted> {
        let is_dead = |place: &Place| matches!(place, Place::Dead { .. });
        self.act(selection, is_dead, is_dead, |table, id, _| table.remove_message(id))
    }

    async fn reschedule(&self, selection: &Selection, due: Due) -> Result<Acted> {
        let waits = |place: &Place| matches!(place, Place::Ready { .. } | Place::Scheduled { .. });
        let is_scheduled = |place: &Place| matches!(place, Place::Scheduled { .. });
        self.act(selection, waits, is_scheduled, |table, id, now| {
            let (place, later) = (table.messages.get(&id).map(|entry| entry.place.clone()), due.later_than(now));
            match place {
                // Ready already, and to run now: it keeps its place.
                Some(Place::Ready { .. }) if later.is_none() => {}
                Some(Place::Ready { waiting, .. } | Place::Scheduled { waiting, .. }) => table.put_waiting(id, later, waiting),
                _ => return,
            }
            table.keep_key(id, later.unwrap_or(now));
        })
    }

    async fn resume(&self, scope: &PauseScope) -> Result<bool> {
        let key = scope.key()?;
        let resumed = self.operate(|table, now| {
            if let PauseScope::Type(event_type) = scope {
                table.made_ready.push(event_type.clone());
            }
            Ok(table.pauses.remove(key).is_some_and(|pause| !pause.is_over(now)))
        })?;
        if *scope == PauseScope::Everything {
            self.wakeups().wake_all();
        }
        Ok(resumed)
    }

    async fn paused(&self) -> Result<Vec<Pause>> {
        self.operate(|table, now| Ok(table.pauses_in_force(now)))
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>> {
        let table = self.lock();
        let mut workers: Vec<WorkerRecord> = table
            .workers
            .iter()
            .map(|(id, row)| {
                let registration = &row.registration;
                let mut record =
                    WorkerRecord::new(*id, registration.name.clone(), registration.event_types.clone(), row.started_at, row.expires_at);
                (record.idle, record.lost) = (row.idle, row.lost);
                record.open_claims = u32::try_from(table.open_claims_of(*id).len()).unwrap_or(u32::MAX);
                record
            })
            .collect();
        workers.sort_by_key(|worker| (worker.started_at, worker.id));
        Ok(workers)
    }

    async fn audit(&self) -> Result<Audit> {
        Ok(self.lock().audit())
    }
}

impl MapStorage {
    /// Acts on the messages of a selection that are in a place which `allowed` names; a filter looks for those that `filtered` names.
    fn act(
        &self,
        selection: &Selection,
        allowed: impl Fn(&Place) -> bool,
        filtered: impl Fn(&Place) -> bool,
        act: impl Fn(&mut Table, MessageId, Timestamp),
    ) -> Result<Acted> {
        self.operate(|table, now| {
            let ids = match selection {
                Selection::Ids(ids) => ids.clone(),
                Selection::Filter { event_type, tenant, limit } => table.filter(event_type.as_deref(), tenant.as_deref(), *limit, filtered),
                _ => return Err(Error::config("this kind of selection is not known here")),
            };
            let mut acted = Acted::default();
            let mut ids = ids;
            let mut seen = std::collections::HashSet::new();
            ids.retain(|id| seen.insert(*id));
            for id in ids {
                if table.messages.get(&id).is_some_and(|entry| allowed(&entry.place)) {
                    act(table, id, now);
                    acted.done.push(id);
                } else {
                    acted.missing.push(id);
                }
            }
            Ok(acted)
        })
    }
}

/// The first `limit` entries, and the cursor if there are more.
fn page<T>(mut newest_first: impl Iterator<Item = (MessageId, T)>, limit: u32) -> Page<T> {
    let limit = limit.clamp(1, ListQuery::LIMIT_MAX) as usize;
    let (ids, items): (Vec<MessageId>, Vec<T>) = newest_first.by_ref().take(limit).unzip();
    let next = newest_first.next().and_then(|_| ids.last().copied());
    Page::new(items, next)
}

impl Table {
    fn record(&self, id: MessageId, entry: &Entry) -> MessageRecord {
        let mut record = MessageRecord::new(entry.stored.clone(), entry.place.status(), 0);
        let outcomes = self.outcomes.get(&id).map(Vec::as_slice).unwrap_or_default();
        record.last_error = outcomes.iter().rev().find_map(|outcome| outcome.error.clone());
        match &entry.place {
            Place::Ready { waiting, .. } => record.attempt = waiting.attempt,
            Place::Scheduled { due, waiting } => {
                record.attempt = waiting.attempt;
                record.due_at = Some(*due);
            }
            Place::Leased { token, index } => {
                let claim = self.claims.get(token);
                record.attempt = claim.and_then(|claim| claim.members.get(*index as usize)).map_or(0, |member| member.attempt);
                record.worker = claim.map(|claim| claim.worker_name.clone());
            }
            Place::Dead { attempt, reason, at } => {
                record.attempt = *attempt;
                record.last_error = Some(reason.clone());
                record.finished_at = Some(*at);
            }
            Place::Succeeded { attempt, at } => {
                record.attempt = *attempt;
                record.finished_at = Some(*at);
            }
        }
        record
    }

    fn filter(&self, event_type: Option<&str>, tenant: Option<&str>, limit: u32, wanted: impl Fn(&Place) -> bool) -> Vec<MessageId> {
        let matches = |entry: &Entry| {
            wanted(&entry.place)
                && event_type.is_none_or(|name| entry.stored.event_type.as_str() == name)
                && tenant.is_none_or(|tenant| entry.stored.tenant.as_deref() == Some(tenant))
        };
        self.messages.iter().filter(|(_, entry)| matches(entry)).take(limit as usize).map(|(id, _)| *id).collect()
    }

    fn kill(&mut self, id: MessageId, reason: &str, now: Timestamp) {
        let Some(place) = self.messages.get(&id).map(|entry| entry.place.clone()) else { return };
        let (token, attempt) = match place {
            Place::Ready { waiting, .. } | Place::Scheduled { waiting, .. } => (None, waiting.attempt),
            Place::Leased { token, index } => {
                let attempt =
                    self.claims.get(&token).and_then(|claim| claim.members.get(index as usize)).map_or(0, |member| member.attempt);
                self.end(token, index, Recorded::Killed, now);
                (Some(token), attempt)
            }
            Place::Dead { .. } | Place::Succeeded { .. } => return,
        };
        self.note(id, token, Recorded::Killed, attempt, Some(reason), now);
        self.bury(id, attempt, &format!("killed: {reason}"), now);
    }

    /// A message has one place by construction; what can differ is the claims' side of it, and the order of the queue.
    fn audit(&self) -> Audit {
        let mut findings = Vec::new();
        for (id, entry) in &self.messages {
            let agrees = match &entry.place {
                Place::Leased { token, index } => {
                    let member = self.claims.get(token).and_then(|claim| claim.members.get(*index as usize));
                    member.is_some_and(|member| member.id == *id && member.ended.is_none())
                }
                Place::Ready { seq, waiting } => self.front(&entry.stored.event_type, waiting.lane, u32::MAX).contains(id) && *seq > 0,
                Place::Scheduled { due, .. } => self.due.contains(&(*due, *id)),
                Place::Dead { .. } | Place::Succeeded { .. } => true,
            };
            if !agrees {
                findings.push(Finding::Lost(*id));
            }
        }
        for (token, claim) in &self.claims {
            for index in claim.leased() {
                let id = claim.members[index as usize].id;
                match self.messages.get(&id).map(|entry| &entry.place) {
                    Some(Place::Leased { token: holder, .. }) if holder == token => {}
                    Some(place) => findings.push(Finding::Doubled { id, places: vec!["claimed", name(place.status())] }),
                    None => findings.push(Finding::MissingBody(id)),
                }
            }
        }
        let mut audit = Audit::default();
        audit.messages = self.messages.len() as u64;
        audit.claims = self.claims.len() as u64;
        audit.findings = findings;
        audit
    }
}

fn name(status: Status) -> &'static str {
    match status {
        Status::Dead => "dead",
        Status::Success => "success",
        Status::Handling => "claimed",
        Status::Created | Status::Retrying | Status::Failed => "ready",
    }
}
