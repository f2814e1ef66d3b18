//! What has passed its retention is deleted, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use super::state::{ClaimRow, Key, State};
use crate::error::{Error, Result};
use crate::id::{MessageId, Token};
use crate::storage::{PurgeRequest, Purged};
use crate::time::Timestamp;

impl State {
    pub(super) fn purge(&mut self, now: Timestamp, request: &PurgeRequest) -> Result<Purged> {
        request.retention.check()?;
        if request.limit == 0 {
            return Err(Error::config("a purge of at most 0 rows never ends"));
        }
        let limit = request.limit as usize;
        let mut purged = Purged::default();
        let bodies_left = self.purge_bodies(now.before(request.retention.success), limit, &mut purged);
        if let Some(keep) = request.retention.dead {
            self.purge_dead(now, keep, limit, &mut purged);
        }
        // A journal goes only after the bodies that it proves: with bodies left over, next time.
        if let Some(keep) = request.retention.history
            && !bodies_left
        {
            self.purge_claims(now.before(keep), limit, &mut purged);
            self.purge_transitions(now.before(keep), limit, &mut purged);
        }
        self.purge_keys(now, limit, &mut purged);
        Ok(purged)
    }

    /// Walks the settlements, oldest first: a body goes because its success is found there. Says whether any are left.
    fn purge_bodies(&mut self, cutoff: Timestamp, limit: usize, purged: &mut Purged) -> bool {
        let mut deletable = Vec::new();
        let mut next = self.purged_below;
        for (number, row) in self.settlements.range(self.purged_below..).take_while(|(_, row)| row.at <= cutoff) {
            if row.recorded.is_success()
                && let Some(claim) = self.claims.get(&row.token)
            {
                let ids = row.mask.iter().map(|index| claim.members[index as usize].id);
                deletable.extend(ids.filter(|id| self.messages.get(id).is_some_and(|body| body.number < *number && !self.is_live(*id))));
            }
            if deletable.len() > limit {
                // The limit has no room for all members of this settlement: next time it is looked at again.
                next = *number;
                break;
            }
            next = *number + 1;
            if deletable.len() == limit {
                break;
            }
        }
        let left = deletable.len() >= limit;
        deletable.truncate(limit);
        self.purged_below = next;
        purged.bodies = deletable.len() as u64;
        purged.more |= left;
        for id in deletable {
            self.messages.remove(&id);
            self.unreadable.remove(&id);
        }
        left
    }

    /// A dead letter and its body go in one step.
    fn purge_dead(&mut self, now: Timestamp, keep: Duration, limit: usize, purged: &mut Purged) {
        let cutoff = now.before(keep);
        let mut old: Vec<(Timestamp, MessageId)> =
            self.dead.iter().filter(|(_, row)| row.died_at <= cutoff).map(|(id, row)| (row.died_at, *id)).collect();
        old.sort_unstable();
        purged.more |= old.len() >= limit;
        old.truncate(limit);
        purged.dead = old.len() as u64;
        for (_, id) in old {
            self.dead.remove(&id);
            self.messages.remove(&id);
            self.unreadable.remove(&id);
        }
    }

    /// A claim goes with all its settlements, once the newest of them is old: half a journal would look like a broken one.
    fn purge_claims(&mut self, cutoff: Timestamp, limit: usize, purged: &mut Purged) {
        let mut closed: Vec<(Token, Arc<ClaimRow>)> = Vec::new();
        for token in self.claims_order.values() {
            let Some(claim) = self.claims.get(token) else { continue };
            if claim.at > cutoff || closed.len() >= limit {
                break;
            }
            if !self.open_claims.contains_key(token) && self.settlements_of(*token).all(|(_, row)| row.at <= cutoff) {
                closed.push((*token, Arc::clone(claim)));
            }
        }
        purged.more |= closed.len() >= limit;
        for (token, claim) in closed {
            let numbers = self.settlements_of.remove(&token).unwrap_or_default();
            purged.journal += 1 + numbers.len() as u64;
            for number in numbers {
                self.settlements.remove(&number);
            }
            self.claims.remove(&token);
            self.claims_order.remove(&claim.number);
            for member in &claim.members {
                self.forget_claim(member.id, token);
            }
        }
    }

    fn forget_claim(&mut self, id: MessageId, token: Token) {
        if let Some(claims) = self.claims_of.get_mut(&id) {
            claims.retain(|(known, _)| *known != token);
            if claims.is_empty() {
                self.claims_of.remove(&id);
            }
        }
    }

    /// What has a body is still to be explained, however old.
    fn purge_transitions(&mut self, cutoff: Timestamp, limit: usize, purged: &mut Purged) {
        let old = self.transitions.iter().take_while(|(_, row)| row.at <= cutoff);
        let old = old.filter(|(_, row)| !self.messages.contains_key(&row.id)).take(limit);
        let old: Vec<(u64, MessageId)> = old.map(|(number, row)| (*number, row.id)).collect();
        purged.more |= old.len() >= limit;
        purged.journal += old.len() as u64;
        for (number, id) in old {
            self.transitions.remove(&number);
            if let Some(numbers) = self.transitions_of.get_mut(&id) {
                numbers.retain(|known| *known != number);
                if numbers.is_empty() {
                    self.transitions_of.remove(&id);
                }
            }
        }
    }

    /// A key outlives its retention while its message can still run.
    fn purge_keys(&mut self, now: Timestamp, limit: usize, purged: &mut Purged) {
        let expired = self.dedupe_order.iter().take_while(|(expires_at, _)| *expires_at <= now);
        let free = expired.filter(|(_, key)| self.dedupe.get(key).is_none_or(|(id, _)| !self.is_live(*id)));
        let free: Vec<(Timestamp, Key)> = free.take(limit).cloned().collect();
        purged.more |= free.len() >= limit;
        purged.keys = free.len() as u64;
        for entry in free {
            self.dedupe_order.remove(&entry);
            self.dedupe.remove(&entry.1);
        }
    }
}
