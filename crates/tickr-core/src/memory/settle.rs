//! Leases end by their holder: settle and retire. Each writes the fence row first; the journal only tells it again.

use std::collections::HashMap;
use std::sync::Arc;

use super::state::{ClaimRow, State, TransitionRow, WaitingRow};
use crate::bits::Bits;
use crate::error::{Error, Result};
use crate::id::{Token, WorkerId};
use crate::protocol::{Recorded, released, returned};
use crate::storage::{BodyFault, Retired, SettleOutcome, Settled, SettledMember, Settlement};
use crate::time::Timestamp;

impl State {
    pub(super) fn settle(&mut self, now: Timestamp, batch: &[Settlement]) -> Result<Vec<Settled>> {
        self.check_settlements(batch)?;
        Ok(batch.iter().map(|settlement| self.settle_one(now, settlement)).collect())
    }

    fn settle_one(&mut self, now: Timestamp, settlement: &Settlement) -> Settled {
        let token = settlement.token;
        let asked = settlement.asked();
        let Some(open) = self.open_claims.get_mut(&token) else {
            return self.settle_closed(token, &asked);
        };
        let applied = asked.difference(&open.gone());
        let answer = Settled { already: asked.intersection(&open.settled), lost: asked.intersection(&open.revoked), applied };
        open.settled = open.settled.union(&answer.applied);
        self.close_if_full(token);
        for (recorded, mask) in settlement.by_outcome() {
            self.log_settlement(now, token, recorded, mask.intersection(&answer.applied));
        }
        let mut members: Vec<&SettledMember> = settlement.others.iter().filter(|member| answer.applied.contains(member.index)).collect();
        // What returns keeps the order it was claimed in.
        members.sort_by_key(|member| member.index);
        for member in members {
            self.end_lease(now, token, member);
        }
        answer
    }

    /// The claim is closed: only the journal knows who closed it. No journal: whoever asks has come too late.
    fn settle_closed(&self, token: Token, asked: &Bits) -> Settled {
        let recorded = self.settlements_of(token).filter(|(_, row)| !row.recorded.took_the_lease());
        let by_holder = recorded.fold(Bits::new(asked.len()), |all, (_, row)| all.union(&row.mask));
        let already = asked.intersection(&by_holder);
        Settled { applied: Bits::new(asked.len()), lost: asked.difference(&already), already }
    }

    fn end_lease(&mut self, now: Timestamp, token: Token, member: &SettledMember) {
        let SettledMember { id, event_type, priority, attempt, crashes, outcome, .. } = member;
        self.log_transition(TransitionRow {
            id: *id,
            token: Some(token),
            recorded: outcome.recorded(),
            attempt: *attempt,
            error: outcome.text().map(str::to_owned),
            at: now,
        });
        if let Some(waiting) = returned(outcome, *priority, *attempt, *crashes) {
            let due = Some(outcome.delay()).filter(|delay| !delay.is_zero()).map(|delay| now.after(delay));
            self.put(WaitingRow { id: *id, event_type: event_type.clone(), waiting }, due);
        } else if let SettleOutcome::Exhausted { error } | SettleOutcome::Dead { error } = outcome {
            self.bury(now, *id, event_type.clone(), *attempt, error.clone());
        }
    }

    /// Refuses what contradicts its claim before anything is written: such a settle would put members in two places.
    fn check_settlements(&self, batch: &[Settlement]) -> Result<()> {
        let mut seen: HashMap<Token, Bits> = HashMap::new();
        for settlement in batch {
            let token = settlement.token;
            let len = settlement.succeeded.len();
            if self.claims.get(&token).is_some_and(|claim| claim.members.len() != len as usize) {
                return Err(Error::config(format!("settlement of {token} has {len} bits, its claim another number of members")));
            }
            let seen = seen.entry(token).or_insert_with(|| Bits::new(len));
            if seen.len() != len || !seen.intersection(&settlement.succeeded).is_empty() {
                return Err(twice(token));
            }
            *seen = seen.union(&settlement.succeeded);
            for member in &settlement.others {
                if member.index >= len {
                    return Err(Error::config(format!("claim {token} has {len} members, none with index {}", member.index)));
                }
                if !seen.insert(member.index) {
                    return Err(twice(token));
                }
                let claimed = self.claims.get(&token).and_then(|claim| claim.members.get(member.index as usize));
                if claimed.is_some_and(|claimed| claimed.id != member.id) {
                    return Err(Error::config(format!("member {} of claim {token} is not message {}", member.index, member.id)));
                }
            }
        }
        Ok(())
    }

    /// Releases all, then removes. A worker that was condemned may do so too: what was reclaimed has no fence row any more.
    pub(super) fn retire(&mut self, now: Timestamp, worker: WorkerId, reason: &str) -> Retired {
        let tokens: Vec<Token> = self.open_of(worker).map(|(token, _)| token).collect();
        let released = tokens.into_iter().map(|token| self.release(now, token, reason)).sum();
        self.workers.remove(&worker);
        Retired::new(released)
    }

    fn release(&mut self, now: Timestamp, token: Token, reason: &str) -> u32 {
        let Some((claim, held)) = self.close(token) else { return 0 };
        let corrupt = held.iter().filter(|index| !self.messages.contains_key(&claim.members[*index as usize].id));
        let corrupt = Bits::from_indices(held.len(), corrupt);
        let returning = held.difference(&corrupt);
        self.log_settlement(now, token, Recorded::Released, returning.clone());
        self.log_settlement(now, token, Recorded::Dead, corrupt.clone());
        for index in held.iter() {
            let member = claim.members[index as usize];
            let event_type = self.type_of(member.id);
            let (recorded, error) =
                if corrupt.contains(index) { (Recorded::Dead, BodyFault::MISSING) } else { (Recorded::Released, reason) };
            let error = Some(error.to_owned());
            self.log_transition(TransitionRow { id: member.id, token: Some(token), recorded, attempt: member.attempt, error, at: now });
            if corrupt.contains(index) {
                self.bury(now, member.id, event_type, member.attempt, BodyFault::MISSING.to_owned());
            } else {
                let waiting = released(member.attempt, member.crashes);
                self.put(WaitingRow { id: member.id, event_type, waiting }, None);
            }
        }
        returning.count()
    }

    /// Deletes the fence row: gives back the claim and what it still held.
    pub(super) fn close(&mut self, token: Token) -> Option<(Arc<ClaimRow>, Bits)> {
        let claim = Arc::clone(self.claims.get(&token)?);
        let open = self.open_claims.remove(&token)?;
        Some((claim, open.unset()))
    }
}

fn twice(token: Token) -> Error {
    Error::config(format!("one batch settles a member of claim {token} twice"))
}
