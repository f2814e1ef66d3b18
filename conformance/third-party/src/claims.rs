//! Leases: claim, settle, take back.

use tickr_core::protocol::{self, Recorded, lease_end};
use tickr_core::{
    Bits, BodyFault, Claim, ClaimRequest, ClaimedMessage, Error, ErrorKind, EventType, MessageId, Reclaimed, ReclaimedMessage, Result,
    SettleOutcome, Settled, Settlement, Timestamp, Token, WorkerId, check_settlements,
};

use crate::table::{ClaimRow, Member, Place, Table};

impl Table {
    pub(crate) fn claim(&mut self, request: &ClaimRequest, now: Timestamp) -> Result<Claim> {
        request.check()?;
        if self.claims.contains_key(&request.token) {
            return Err(Error::new(ErrorKind::Conflict, format!("token {} was used before", request.token)));
        }
        if !self.is_alive(request.worker, now) {
            return Ok(Claim::empty(request.token));
        }
        let mut members: Vec<Member> = Vec::new();
        for group in &request.groups {
            if self.is_paused(&group.event_type, now) {
                continue;
            }
            let mut left = group.limit;
            for lane in &group.lanes {
                let taken = u32::try_from(members.len()).unwrap_or(u32::MAX);
                let limit = left.min(request.total.saturating_sub(taken));
                let front: Vec<MessageId> = self.front(&group.event_type, *lane, limit + taken);
                let known: Vec<MessageId> = members.iter().map(|member| member.id).collect();
                for id in front.into_iter().filter(|id| !known.contains(id)).take(limit as usize) {
                    let Some(entry) = self.messages.get(&id) else { continue };
                    let Place::Ready { waiting, .. } = entry.place else { continue };
                    let max_attempts = entry.stored.max_attempts.map_or(group.max_attempts, Into::into);
                    members.push(Member {
                        id,
                        attempt: waiting.attempt.saturating_add(1),
                        crashes: waiting.crashes,
                        max_attempts,
                        ended: None,
                    });
                    left -= 1;
                }
            }
        }
        if members.is_empty() {
            return Ok(Claim::empty(request.token));
        }
        for (member, index) in members.iter().zip(0..) {
            self.put(member.id, Place::Leased { token: request.token, index });
            self.claims_of.entry(member.id).or_default().push(request.token);
        }
        let row = ClaimRow { worker: request.worker, worker_name: request.worker_name.clone(), solo: request.solo, at: now, members };
        self.claims.insert(request.token, row);
        self.read_claim(request.token).ok_or_else(|| Error::new(ErrorKind::Internal, "a claim vanished under the lock"))
    }

    /// An open claim as it was answered, without the members whose lease has ended.
    pub(crate) fn read_claim(&self, token: Token) -> Option<Claim> {
        let row = self.claims.get(&token).filter(|row| row.is_open())?;
        let messages = row.leased().into_iter().map(|index| self.claimed(index, &row.members[index as usize])).collect();
        let mut claim = Claim::new(token, row.len(), messages);
        claim.solo = row.solo;
        Some(claim)
    }

    /// Ends the exclusivity of an open claim of a worker that is not condemned.
    pub(crate) fn end_exclusive(&mut self, token: Token) -> bool {
        let Some(claim) = self.claims.get_mut(&token).filter(|claim| claim.is_open()) else { return false };
        let is_held = self.workers.get(&claim.worker).is_some_and(|worker| !worker.lost);
        claim.solo &= !is_held;
        is_held
    }

    fn claimed(&self, index: u32, member: &Member) -> ClaimedMessage {
        let body = self.messages.get(&member.id).map(|entry| entry.stored.clone());
        let outcomes = self.outcomes.get(&member.id).map(Vec::as_slice).unwrap_or_default();
        let last_error = (member.attempt > 1).then(|| outcomes.iter().rev().find_map(|outcome| outcome.error.clone())).flatten();
        let event_type = body.as_ref().map_or_else(|| EventType::from_stored("?"), |body| body.event_type.clone());
        let body = body.ok_or(BodyFault::Missing);
        let mut message = ClaimedMessage::new(index, member.id, event_type, member.attempt, body);
        message.max_attempts = member.max_attempts;
        message.crashes = member.crashes;
        message.last_error = last_error;
        message
    }

    pub(crate) fn settle(&mut self, batch: &[Settlement], now: Timestamp) -> Result<Vec<Settled>> {
        check_settlements(batch)?;
        self.check_members(batch)?;
        Ok(batch.iter().map(|settlement| self.settle_one(settlement, now)).collect())
    }

    fn settle_one(&mut self, settlement: &Settlement, now: Timestamp) -> Settled {
        let asked = settlement.asked();
        // Without its journal nobody can say any more what became of a claim: whoever asks has come too late.
        let Some(claim) = self.claims.get(&settlement.token) else {
            let mut settled = Settled::new(Bits::default());
            settled.lost = asked;
            return settled;
        };
        let lost = asked.intersection(&claim.ended(Recorded::took_the_lease));
        let already = asked.intersection(&claim.ended(|recorded| !recorded.took_the_lease()));
        let mut settled = Settled::new(asked.difference(&lost.union(&already)));
        settled.already = already;
        settled.lost = lost;
        for index in settlement.succeeded.intersection(&settled.applied).iter() {
            self.succeed(settlement.token, index, Recorded::Ok, None, now);
        }
        let mut others: Vec<_> = settlement.others.iter().filter(|member| settled.applied.contains(member.index)).collect();
        others.sort_by_key(|member| member.index);
        for member in others {
            let recorded = member.outcome.recorded();
            if matches!(member.outcome, SettleOutcome::Skipped { .. }) {
                self.succeed(settlement.token, member.index, recorded, member.outcome.text(), now);
                continue;
            }
            self.end(settlement.token, member.index, recorded, now);
            self.note(member.id, Some(settlement.token), recorded, member.attempt, member.outcome.text(), now);
            match protocol::returned(&member.outcome, member.priority, member.attempt, member.crashes) {
                Some(waiting) => {
                    let delay = member.outcome.delay();
                    self.put_waiting(member.id, (!delay.is_zero()).then(|| now.after(delay)), waiting);
                }
                None => self.bury(member.id, member.attempt, member.outcome.text().unwrap_or("dead"), now),
            }
        }
        settled
    }

    fn succeed(&mut self, token: Token, index: u32, recorded: Recorded, reason: Option<&str>, now: Timestamp) {
        let Some(member) = self.claims.get(&token).and_then(|claim| claim.members.get(index as usize)) else { return };
        let (id, attempt) = (member.id, member.attempt);
        self.end(token, index, recorded, now);
        self.note(id, Some(token), recorded, attempt, reason, now);
        self.put(id, Place::Succeeded { attempt, at: now });
    }

    pub(crate) fn bury(&mut self, id: MessageId, attempt: u16, reason: &str, at: Timestamp) {
        self.put(id, Place::Dead { attempt, reason: reason.to_owned(), at });
    }

    /// Refuses a batch that contradicts the claims: nothing of it may be written then.
    fn check_members(&self, batch: &[Settlement]) -> Result<()> {
        for settlement in batch {
            let (token, members) = (settlement.token, settlement.succeeded.len());
            let Some(claim) = self.claims.get(&token) else { continue };
            if claim.len() != members {
                return Err(Error::config(format!("settlement of claim {token} has {members} members, the claim has {}", claim.len())));
            }
            if let Some(stranger) = settlement.others.iter().find(|member| claim.members[member.index as usize].id != member.id) {
                return Err(Error::config(format!("member {} of claim {token} is not message {}", stranger.index, stranger.id)));
            }
        }
        Ok(())
    }

    /// Gives back what a worker holds, and removes it.
    pub(crate) fn retire(&mut self, worker: WorkerId, reason: &str, now: Timestamp) -> u32 {
        let mut released = 0;
        for token in self.open_claims_of(worker) {
            for (index, id, attempt, crashes) in self.leased_members(token) {
                self.end(token, index, Recorded::Released, now);
                self.note(id, Some(token), Recorded::Released, attempt, Some(reason), now);
                self.put_ready(id, protocol::released(attempt, crashes));
                released += 1;
            }
        }
        self.workers.remove(&worker);
        released
    }

    fn leased_members(&self, token: Token) -> Vec<(u32, MessageId, u16, u16)> {
        let Some(claim) = self.claims.get(&token) else { return Vec::new() };
        let member = |index: u32| {
            let member = &claim.members[index as usize];
            (index, member.id, member.attempt, member.crashes)
        };
        claim.leased().into_iter().map(member).collect()
    }

    pub(crate) fn condemn(&mut self, now: Timestamp) -> u32 {
        let mut condemned = 0;
        for row in self.workers.values_mut().filter(|row| !row.lost) {
            row.expires_at = lease_end(row.expires_at, row.lease, now);
            row.lost = row.expires_at <= now;
            condemned += u32::from(row.lost);
        }
        condemned
    }

    /// Takes back claims of condemned workers.
    pub(crate) fn take_back(&mut self, limit: u32, now: Timestamp) -> Reclaimed {
        let lost: Vec<WorkerId> = self.workers.iter().filter(|(_, row)| row.lost).map(|(id, _)| *id).collect();
        let mut tokens: Vec<Token> = lost.into_iter().flat_map(|worker| self.open_claims_of(worker)).collect();
        tokens.sort_unstable();
        tokens.truncate(limit as usize);
        let mut reclaimed = Reclaimed::default();
        for token in tokens {
            reclaimed.claims += 1;
            let members = self.leased_members(token);
            let Some(claim) = self.claims.get(&token) else { continue };
            let maxes: Vec<u16> = members.iter().map(|(index, ..)| claim.members[*index as usize].max_attempts).collect();
            let solo = claim.solo;
            for ((index, id, attempt, crashes), max_attempts) in members.into_iter().zip(maxes) {
                let fate = protocol::reclaimed(solo, attempt, crashes, max_attempts);
                let recorded = if fate.is_some() { Recorded::Reclaimed } else { Recorded::Crashed };
                self.end(token, index, recorded, now);
                self.note(id, Some(token), recorded, attempt, None, now);
                match fate {
                    Some(waiting) => self.put_ready(id, waiting),
                    None => self.bury(id, attempt, "crashed", now),
                }
                let event_type =
                    self.messages.get(&id).map_or_else(|| EventType::from_stored("?"), |entry| entry.stored.event_type.clone());
                let mut message = ReclaimedMessage::new(id, event_type, attempt);
                message.dead = fate.is_none();
                reclaimed.messages.push(message);
            }
        }
        self.remove_lost_workers();
        reclaimed
    }
}
