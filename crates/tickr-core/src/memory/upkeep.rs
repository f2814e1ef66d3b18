//! What workers do beside their work: promote, reclaim, locks. Purge and statistics have pages of their own.

use std::collections::BTreeSet;
use std::time::Duration;

use super::state::{LockRow, State, TransitionRow, WaitingRow};
use crate::error::Result;
use crate::event_type::EventType;
use crate::id::{Token, WorkerId};
use crate::protocol::{Recorded, lease_end, reclaimed};
use crate::storage::{BodyFault, Lock, Promoted, ReclaimRequest, Reclaimed, ReclaimedMessage};
use crate::time::Timestamp;

impl State {
    /// Answers also which types became ready, to be woken.
    pub(super) fn promote(&mut self, now: Timestamp, limit: u32) -> (Promoted, BTreeSet<EventType>) {
        let mut promoted = Promoted::default();
        let mut types = BTreeSet::new();
        while promoted.moved < limit
            && let Some(first) = self.scheduled.first_entry().filter(|first| first.key().0 <= now)
        {
            let row = first.remove();
            self.scheduled_ids.remove(&row.id);
            types.insert(row.event_type.clone());
            self.put(row, None);
            promoted.moved += 1;
        }
        promoted.next_due = self.scheduled.first_key_value().map(|((due, _), _)| due.since(now));
        (promoted, types)
    }

    pub(super) fn reclaim(&mut self, now: Timestamp, request: &ReclaimRequest) -> Reclaimed {
        let mut answer = Reclaimed::default();
        if request.condemn {
            for worker in self.workers.values_mut().filter(|worker| !worker.lost) {
                worker.expires_at = lease_end(worker.expires_at, worker.lease, now);
                worker.lost = worker.expires_at <= now;
                answer.condemned += u32::from(worker.lost);
            }
        }
        let lost = |worker: &WorkerId| self.workers.get(worker).is_some_and(|worker| worker.lost);
        let tokens = self.open_claims.iter().filter(|(_, open)| lost(&open.worker)).map(|(token, _)| *token);
        let tokens: Vec<Token> = tokens.take(request.limit as usize).collect();
        for token in tokens {
            self.reclaim_one(now, token, &mut answer);
        }
        let holding: BTreeSet<WorkerId> = self.open_claims.values().map(|open| open.worker).collect();
        self.workers.retain(|id, worker| !worker.lost || holding.contains(id));
        answer
    }

    fn reclaim_one(&mut self, now: Timestamp, token: Token, answer: &mut Reclaimed) {
        let Some((claim, held)) = self.close(token) else { return };
        answer.claims += 1;
        // The whole lease was taken, also of members that die: their transitions say `crashed`.
        self.log_settlement(now, token, Recorded::Reclaimed, held.clone());
        for index in held.iter() {
            let member = claim.members[index as usize];
            let has_body = self.messages.contains_key(&member.id);
            let event_type = self.type_of(member.id);
            let waiting = reclaimed(claim.solo, member.attempt, member.crashes, member.max_attempts).filter(|_| has_body);
            let dead = waiting.is_none();
            let recorded = if dead { Recorded::Crashed } else { Recorded::Reclaimed };
            let row = TransitionRow { id: member.id, token: Some(token), recorded, attempt: member.attempt, error: None, at: now };
            self.log_transition(row);
            if let Some(waiting) = waiting {
                self.put(WaitingRow { id: member.id, event_type: event_type.clone(), waiting }, None);
            } else {
                let reason = if has_body { "crashed" } else { BodyFault::MISSING };
                self.bury(now, member.id, event_type.clone(), member.attempt, reason.to_owned());
            }
            answer.messages.push(ReclaimedMessage { id: member.id, event_type, attempt: member.attempt, dead });
        }
    }

    pub(super) fn acquire_lock(&mut self, now: Timestamp, name: &str, holder: WorkerId, ttl: Duration) -> Result<Option<Lock>> {
        Lock::check(name, ttl)?;
        let expires_at = now.after(ttl);
        // A released lock keeps its row, expired: the term must not begin again.
        let row = self.locks.entry(name.to_owned()).or_insert(LockRow { holder, term: 0, expires_at: now, ttl });
        row.expires_at = lease_end(row.expires_at, row.ttl, now);
        if row.expires_at <= now {
            row.term += 1;
        } else if row.holder != holder {
            return Ok(None);
        }
        (row.holder, row.expires_at, row.ttl) = (holder, expires_at, ttl);
        Ok(Some(Lock::new(name, holder, row.term)))
    }

    pub(super) fn renew_lock(&mut self, now: Timestamp, lock: &Lock, ttl: Duration) -> Result<bool> {
        Lock::check(&lock.name, ttl)?;
        let held = self.held_lock(now, lock);
        Ok(held.map(|row| (row.expires_at, row.ttl) = (now.after(ttl), ttl)).is_some())
    }

    pub(super) fn release_lock(&mut self, now: Timestamp, lock: &Lock) -> bool {
        self.held_lock(now, lock).map(|row| (row.expires_at, row.ttl) = (now, Duration::ZERO)).is_some()
    }

    /// The row of a lock while that term holds; an expired one is gone, even if nobody has taken it yet.
    fn held_lock(&mut self, now: Timestamp, lock: &Lock) -> Option<&mut LockRow> {
        let row = self.locks.get_mut(&lock.name)?;
        (row.holder == lock.holder && row.term == lock.term && row.expires_at > now).then_some(row)
    }
}
