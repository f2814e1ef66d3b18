//! What an operator does: requeue, kill, discard, reschedule, resume.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::MemoryStorage;
use super::state::{State, TransitionRow, WaitingRow};
use super::tx::stored_key;
use crate::bits::Bits;
use crate::error::Result;
use crate::event_type::EventType;
use crate::id::{MessageId, Token};
use crate::message::{Due, StoredMessage};
use crate::protocol::{Recorded, Waiting};
use crate::status::Transition;
use crate::storage::{
    Acted, Admin, Audit, DeadLetter, DeadQuery, ListQuery, MessageRecord, Page, Pause, PauseScope, Selection, Storage, WorkerRecord,
    check_reason,
};
use crate::time::Timestamp;

impl Admin for MemoryStorage {
    async fn get(&self, id: MessageId) -> Result<Option<MessageRecord>> {
        self.run(|state, _| state.get(id))
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<MessageRecord>> {
        Ok(self.run(|state, _| state.list(query)))
    }

    async fn history(&self, id: MessageId) -> Result<Vec<Transition>> {
        Ok(self.run(|state, _| state.history(id)))
    }

    async fn list_dead(&self, query: &DeadQuery) -> Result<Page<DeadLetter>> {
        Ok(self.run(|state, _| state.list_dead(query)))
    }

    async fn requeue(&self, selection: &Selection, due: Due) -> Result<Acted> {
        let (acted, types) = self.run(|state, now| {
            let ids = state.select(selection, State::dead_ids);
            state.requeue(now, ids, due)
        });
        self.wakeups().wake(&types);
        Ok(acted)
    }

    async fn kill(&self, selection: &Selection, reason: &str) -> Result<Acted> {
        check_reason(reason)?;
        Ok(self.run(|state, now| {
            let ids = state.select(selection, State::killable_ids);
            state.kill(now, ids, reason)
        }))
    }

    async fn discard(&self, selection: &Selection) -> Result<Acted> {
        Ok(self.run(|state, _| {
            let ids = state.select(selection, State::dead_ids);
            state.discard(ids)
        }))
    }

    async fn reschedule(&self, selection: &Selection, due: Due) -> Result<Acted> {
        let (acted, types) = self.run(|state, now| {
            let ids = state.select(selection, |state| state.scheduled_ids.keys().copied().collect());
            state.reschedule(now, ids, due)
        });
        self.wakeups().wake(&types);
        Ok(acted)
    }

    async fn resume(&self, scope: &PauseScope) -> Result<bool> {
        let key = scope.key()?;
        let resumed = self.run(|state, now| state.pauses.remove(key).is_some_and(|pause| !pause.is_over(now)));
        match scope {
            PauseScope::Everything => self.wakeups().wake_all(),
            PauseScope::Type(event_type) => self.wakeups().wake([event_type]),
        }
        Ok(resumed)
    }

    async fn paused(&self) -> Result<Vec<Pause>> {
        Ok(self.run(|state, now| state.pauses_in_force(now)))
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>> {
        Ok(self.run(|state, _| state.worker_records()))
    }

    async fn audit(&self) -> Result<Audit> {
        Ok(self.run(|state, _| state.audit()))
    }
}

impl State {
    /// The ids that an operation is asked to act on, each once; a filter looks at what `candidates` names, oldest first.
    fn select(&self, selection: &Selection, candidates: impl FnOnce(&Self) -> Vec<MessageId>) -> Vec<MessageId> {
        match selection {
            Selection::Ids(ids) => {
                let mut seen = HashSet::new();
                ids.iter().copied().filter(|id| seen.insert(*id)).collect()
            }
            Selection::Filter { event_type, tenant, limit } => {
                let wanted = |stored: &StoredMessage| {
                    event_type.as_ref().is_none_or(|event_type| stored.event_type.as_str() == event_type)
                        && tenant.as_ref().is_none_or(|tenant| stored.tenant.as_ref() == Some(tenant))
                };
                let mut ids = candidates(self);
                ids.sort_unstable();
                ids.retain(|id| self.messages.get(id).is_some_and(|body| wanted(&body.stored)));
                ids.truncate(*limit as usize);
                ids
            }
        }
    }

    fn dead_ids(&self) -> Vec<MessageId> {
        self.dead.keys().copied().collect()
    }

    fn killable_ids(&self) -> Vec<MessageId> {
        let mut ids: Vec<MessageId> = self.ready_ids.keys().chain(self.scheduled_ids.keys()).copied().collect();
        for (token, open) in &self.open_claims {
            if let Some(claim) = self.claims.get(token) {
                ids.extend(open.unset().iter().map(|index| claim.members[index as usize].id));
            }
        }
        ids
    }

    fn requeue(&mut self, now: Timestamp, mut ids: Vec<MessageId>, due: Due) -> (Acted, BTreeSet<EventType>) {
        // Ids carry their time: what was enqueued first runs first again.
        ids.sort_unstable();
        let due = due.later_than(now);
        let mut types = BTreeSet::new();
        let acted = act(ids, |id| {
            let Some(body) = self.messages.get(&id) else { return false };
            let (event_type, waiting) = (body.stored.event_type.clone(), Waiting::fresh(body.stored.priority));
            if self.dead.remove(&id).is_none() {
                return false;
            }
            self.log_transition(TransitionRow { id, token: None, recorded: Recorded::Requeued, attempt: 0, error: None, at: now });
            if due.is_none() {
                types.insert(event_type.clone());
            }
            self.put(WaitingRow { id, event_type, waiting }, due);
            self.keep_key(now, id, due);
            true
        });
        (acted, types)
    }

    pub(super) fn kill(&mut self, now: Timestamp, ids: Vec<MessageId>, reason: &str) -> Acted {
        let mut revoked: BTreeMap<Token, Bits> = BTreeMap::new();
        let acted = act(ids, |id| {
            let (event_type, attempt, token) = if let Some(row) = self.take_waiting(id) {
                (row.event_type, row.waiting.attempt, None)
            } else if let Some((token, index)) = self.claimed(id)
                && let Some(open) = self.open_claims.get_mut(&token)
            {
                open.revoked.insert(index);
                revoked.entry(token).or_insert_with(|| Bits::new(open.revoked.len())).insert(index);
                let attempt = self.claims.get(&token).map_or(0, |claim| claim.members[index as usize].attempt);
                (self.type_of(id), attempt, Some(token))
            } else {
                return false;
            };
            let error = Some(reason.to_owned());
            self.log_transition(TransitionRow { id, token, recorded: Recorded::Killed, attempt, error, at: now });
            self.bury(now, id, event_type, attempt, format!("killed: {reason}"));
            true
        });
        for (token, mask) in revoked {
            self.log_settlement(now, token, Recorded::Killed, mask);
            self.close_if_full(token);
        }
        acted
    }

    fn discard(&mut self, ids: Vec<MessageId>) -> Acted {
        act(ids, |id| {
            let dead = self.dead.remove(&id).is_some();
            if dead {
                self.messages.remove(&id);
                self.unreadable.remove(&id);
            }
            dead
        })
    }

    fn reschedule(&mut self, now: Timestamp, ids: Vec<MessageId>, due: Due) -> (Acted, BTreeSet<EventType>) {
        let due = due.later_than(now);
        let mut types = BTreeSet::new();
        let acted = act(ids, |id| {
            // What is ready already and shall run now keeps its place.
            if due.is_none() && self.ready_ids.contains_key(&id) {
                return true;
            }
            let Some(row) = self.take_waiting(id) else { return false };
            if due.is_none() {
                types.insert(row.event_type.clone());
            }
            self.put(row, due);
            self.keep_key(now, id, due);
            true
        });
        (acted, types)
    }

    /// Keeps the key of a message for as long after its new due time; never for less than before.
    fn keep_key(&mut self, now: Timestamp, id: MessageId, due: Option<Timestamp>) {
        let until = due.unwrap_or(now).after(self.dedupe_keep);
        let Some(key) = self.messages.get(&id).and_then(|body| stored_key(&body.stored)) else { return };
        if let Some((owner, expires_at)) = self.dedupe.get_mut(&key)
            && *owner == id
            && *expires_at < until
        {
            let before = std::mem::replace(expires_at, until);
            self.dedupe_order.remove(&(before, key.clone()));
            self.dedupe_order.insert((until, key));
        }
    }
}

/// Acts on each id, and says which it did something to.
fn act(ids: Vec<MessageId>, action: impl FnMut(MessageId) -> bool) -> Acted {
    let mut action = action;
    let (done, missing) = ids.into_iter().partition(|id| action(*id));
    Acted { done, missing }
}
