//! What workers do.

use std::collections::BTreeSet;
use std::time::Duration;

use tickr_core::protocol::Lane;
use tickr_core::{
    Admin, Bits, Claim, ClaimRequest, ErrorKind, LaneRequest, MessageId, ReclaimRequest, SettleOutcome, Settled, SettledMember, Settlement,
    Storage, Token, WorkerId,
};

use super::{KINDS, LEASE, Run};
use crate::faults::Op;
use crate::model::{Bit, ClaimEntry, End, Place, Span, WorkerEntry};
use crate::world::{WithMax, Worker, bits, event_type, group};

/// Workers.
impl Run {
    pub(crate) async fn add_worker(&mut self) {
        let before = self.now().await;
        let worker = self.world.worker_for(&KINDS, LEASE).await;
        let call = self.span(before).await;
        self.model.workers.insert(worker.id, WorkerEntry { expires: call.after(LEASE), lost: false });
        self.note(format!("worker {} registers", worker.id));
        self.workers.push(worker);
    }

    /// Mostly one that is registered; now and then one that was condemned long ago.
    fn worker(&mut self) -> Worker {
        let recent = self.workers.len().saturating_sub(4);
        let from = if self.chance(10) { 0 } else { recent };
        self.workers[self.rng.usize(from..self.workers.len())].clone()
    }

    pub(super) async fn claim(&mut self) {
        let worker = self.worker();
        let mut groups: Vec<LaneRequest> = Vec::new();
        for name in KINDS {
            if self.chance(60) {
                let mut lanes = Lane::ORDINARY.to_vec();
                self.rng.shuffle(&mut lanes);
                lanes.truncate(self.rng.usize(1..5));
                groups.push(group(name, &lanes, self.rng.u32(0..8)).max(self.rng.u16(2..6)));
            }
        }
        let request = worker.request(groups, self.rng.u32(1..16));
        self.send(&worker, &request).await;
    }

    pub(super) async fn claim_solo(&mut self) {
        let worker = self.worker();
        let mut kinds = KINDS;
        self.rng.shuffle(&mut kinds);
        let max = self.rng.u16(2..6);
        let groups = kinds.iter().map(|name| group(name, &[Lane::Suspect], 1).max(max)).collect();
        let mut request = worker.request(groups, 1);
        request.solo = self.chance(70);
        self.send(&worker, &request).await;
    }

    /// Ends the exclusivity of a random claim, of one that is not exclusive or closed too.
    pub(super) async fn end_exclusive(&mut self) {
        let tokens: Vec<Token> = self.model.claims.keys().copied().collect();
        if tokens.is_empty() {
            return;
        }
        let token = tokens[self.rng.usize(tokens.len().saturating_sub(12)..tokens.len())];
        self.note(format!("the exclusivity of {token} ends"));
        let ended = self.world.storage().end_exclusive(token).await.unwrap();
        assert_eq!(ended, self.model.end_exclusive(token));
    }

    async fn send(&mut self, worker: &Worker, request: &ClaimRequest) {
        let lost = self.chance(10);
        self.note(format!("{} claims {} of {:?}, lost answer: {lost}", worker.id, request.total, shown(&request.groups)));
        let before = self.now().await;
        let claim = if lost {
            self.faulty.lose_answers(Op::Claim, 1);
            self.faulty.claim(request).await.unwrap_err();
            self.world.storage().adopt(request.token).await.unwrap().unwrap_or_else(|| Claim::empty(request.token))
        } else {
            worker.send(request).await
        };
        let call = self.span(before).await;
        let alive = self.model.workers.get(&worker.id).map(|entry| !entry.lost).and_then(|registered| {
            if registered { self.model.workers[&worker.id].expires.reached_by(call).map(|expired| !expired) } else { Some(false) }
        });
        match alive {
            Some(true) => {
                if let Some(expected) = self.expect(request, call) {
                    assert_eq!(claim.messages.len(), expected, "a live worker gets what is ready");
                }
            }
            Some(false) => assert_eq!(claim.messages.len(), 0, "an expired worker gets nothing"),
            None if self.model.workers.contains_key(&worker.id) => {}
            None => assert_eq!(claim.messages.len(), 0, "an unknown worker gets nothing"),
        }
        self.take(worker.id, request, &claim, call);
    }

    /// How many messages a claim must answer; `None` when a pause ended while it looked.
    fn expect(&self, request: &ClaimRequest, call: Span) -> Option<usize> {
        let mut total = request.total as usize;
        let all = total;
        for group in &request.groups {
            let kind = KINDS.iter().position(|name| **name == *group.event_type).unwrap();
            if self.model.is_paused(kind, call)? {
                continue;
            }
            let ready: usize = group.lanes.iter().map(|lane| self.model.ready(kind, number(*lane))).sum();
            total -= ready.min(group.limit as usize).min(total);
        }
        Some(all - total)
    }

    /// Every message of an answer was ready in a lane that was asked for.
    fn take(&mut self, worker: WorkerId, request: &ClaimRequest, claim: &Claim, call: Span) {
        let mut group_at = 0;
        for message in &claim.messages {
            let entry = self.model.messages.get(&message.id).expect("a message that was enqueued").clone();
            let Place::Ready { lane } = entry.place else { panic!("{} was claimed while {:?}", message.id, entry.place) };
            let asked =
                |group: &LaneRequest| *group.event_type == *KINDS[entry.kind] && group.lanes.iter().any(|wanted| number(*wanted) == lane);
            let at = request.groups.iter().position(asked).expect("a lane that was asked for");
            assert!(at >= group_at, "groups are walked in order");
            group_at = at;
            assert_ne!(self.model.is_paused(entry.kind, call), Some(true), "a paused type was claimed");
            let expected = self.model.lease(claim.token, worker, request.solo, message.id, request.groups[at].max_attempts);
            assert_eq!((message.attempt, message.crashes, message.max_attempts), expected, "attempt, crashes, maximum");
            assert_eq!(message.event_type.as_str(), KINDS[entry.kind]);
            assert!(message.body.is_ok(), "a body");
        }
    }

    /// Settles random members of a random claim, old and closed ones included.
    pub(super) async fn settle(&mut self) {
        let tokens: Vec<Token> = self.model.claims.keys().copied().collect();
        if tokens.is_empty() {
            return;
        }
        // Tokens are in the order of time: mostly the newer ones, which are open.
        let from = if self.chance(20) { 0 } else { tokens.len().saturating_sub(12) };
        let token = tokens[self.rng.usize(from..tokens.len())];
        let (settlement, ends) = self.settlement(token);
        let lost = self.chance(10);
        self.note(format!("settle {token}: {ends:?}, lost answer: {lost}"));
        let before = self.now().await;
        if lost {
            self.faulty.lose_answers(Op::Settle, 1);
            self.faulty.settle(std::slice::from_ref(&settlement)).await.unwrap_err();
        }
        let mut answer = self.faulty.settle(&[settlement]).await.unwrap().remove(0);
        let call = self.span(before).await;
        if lost {
            assert!(answer.applied.is_empty(), "applied by the call whose answer was lost: {answer:?}");
            answer = as_if_heard(answer, &self.model.claims[&token]);
        }
        for (index, end) in ends {
            let bit = self.model.settle(token, index, end, call);
            let told = [(Bit::Open, &answer.applied), (Bit::Settled, &answer.already), (Bit::Lost, &answer.lost)];
            for (expected, set) in told {
                assert_eq!(set.contains(index), bit == expected, "member {index} was {bit:?}, answered {answer:?}");
            }
        }
    }

    fn settlement(&mut self, token: Token) -> (Settlement, Vec<(u32, End)>) {
        let claim = self.model.claims[&token].clone();
        let mut settlement = Settlement::new(token, u32::try_from(claim.members.len()).unwrap());
        let mut ends = Vec::new();
        for (index, member) in (0..).zip(&claim.members) {
            if !self.chance(70) {
                continue;
            }
            let delay = self.delay(50, 60);
            let text = || "random".to_owned();
            let (end, outcome) = match self.rng.u32(0..12) {
                0..5 => (End::Success, None),
                5 => (End::Success, Some(SettleOutcome::Skipped { reason: text() })),
                6 | 7 => (End::Failed(delay), Some(SettleOutcome::Failed { error: text(), delay })),
                8 => (End::Dead, Some(SettleOutcome::Exhausted { error: text() })),
                9 => (End::Dead, Some(SettleOutcome::Dead { error: text() })),
                10 => (End::Snoozed(delay), Some(SettleOutcome::Snoozed { delay })),
                _ => (End::Released, Some(SettleOutcome::Released { reason: text() })),
            };
            ends.push((index, end));
            let Some(outcome) = outcome else {
                settlement.succeeded.insert(index);
                continue;
            };
            let entry = &self.model.messages[&member.id];
            let mut settled = SettledMember::new(index, member.id, event_type(KINDS[entry.kind]), member.attempt, outcome);
            settled.priority = entry.priority;
            settled.crashes = member.crashes;
            settlement.others.push(settled);
        }
        (settlement, ends)
    }

    pub(super) async fn heartbeat(&mut self) {
        let worker = self.worker();
        self.note(format!("{} beats", worker.id));
        let before = self.now().await;
        let beat = worker.heartbeat().await;
        let call = self.span(before).await;
        let Some(entry) = self.model.workers.get_mut(&worker.id).filter(|entry| !entry.lost) else {
            assert_eq!(beat.unwrap_err().kind(), ErrorKind::LeaseLost);
            return;
        };
        entry.expires = call.after(LEASE);
        let mut open = beat.unwrap().open;
        open.sort_by_key(|claim| claim.token);
        assert_eq!(open.iter().map(|claim| claim.token).collect::<Vec<_>>(), self.model.open_claims(worker.id));
        for claim in open {
            let members = &self.model.claims[&claim.token].members;
            let of = |bit| (0..).zip(members).filter(|(_, member)| member.bit == bit).map(|(index, _)| index).collect::<Vec<u32>>();
            assert_eq!((bits(&claim.settled), bits(&claim.revoked)), (of(Bit::Settled), of(Bit::Lost)), "bits of {}", claim.token);
        }
    }

    pub(super) async fn retire(&mut self) {
        let worker = self.worker();
        self.note(format!("{} retires", worker.id));
        let before = self.now().await;
        let released = worker.retire().await;
        let call = self.span(before).await;
        let mut expected = 0;
        for token in self.model.open_claims(worker.id) {
            expected += self.model.release_all(token, call);
        }
        assert_eq!(released as usize, expected);
        self.forget(worker.id).await;
    }

    async fn forget(&mut self, worker: WorkerId) {
        self.model.workers.remove(&worker);
        if self.model.workers.len() < 2 {
            self.add_worker().await;
        }
    }

    pub(super) async fn reclaim(&mut self) {
        let limit = self.rng.u32(1..12);
        self.note(format!("reclaim {limit}"));
        let before = self.now().await;
        let answer = self.world.storage().reclaim(&ReclaimRequest::condemning(limit)).await.unwrap();
        let call = self.span(before).await;
        let listed = self.world.storage().workers().await.unwrap();
        let mut condemned = 0;
        for (id, entry) in &mut self.model.workers {
            let lost = listed.iter().find(|record| record.id == *id).is_none_or(|record| record.lost);
            let expected = if entry.lost { Some(true) } else { entry.expires.reached_by(call) };
            assert!(expected.is_none_or(|expected| expected == lost), "worker {id} expires at {:?}, lost: {lost}", entry.expires);
            condemned += u32::from(lost && !entry.lost);
            entry.lost = lost;
        }
        assert_eq!(answer.condemned, condemned);
        let lost = |claim: &ClaimEntry| self.model.workers.get(&claim.worker).is_none_or(|entry| entry.lost);
        let open = self.model.claims.values().filter(|claim| claim.is_open() && lost(claim)).count();
        assert_eq!(answer.claims as usize, open.min(limit as usize));
        let mut taken: Vec<(MessageId, u16, bool)> =
            answer.messages.iter().map(|message| (message.id, message.attempt, message.dead)).collect();
        let tokens: BTreeSet<Token> = taken.iter().map(|(id, ..)| self.token_of(*id)).collect();
        assert_eq!(tokens.len(), answer.claims as usize);
        let mut expected: Vec<_> = tokens.into_iter().flat_map(|token| self.model.reclaim(token, call)).collect();
        taken.sort_unstable();
        expected.sort_unstable();
        assert_eq!(taken, expected);
        let gone: Vec<WorkerId> = self.model.workers.iter().filter(|(_, entry)| entry.lost).map(|(id, _)| *id).collect();
        for id in gone {
            let holds = !self.model.open_claims(id).is_empty();
            assert_eq!(listed.iter().any(|record| record.id == id), holds, "a condemned worker stays while it holds a claim");
            if !holds {
                self.forget(id).await;
            }
        }
    }

    fn token_of(&self, id: MessageId) -> Token {
        match self.model.messages[&id].place {
            Place::Leased { token, .. } => token,
            place => panic!("{id} was taken back while {place:?}"),
        }
    }

    pub(super) async fn promote(&mut self) {
        let limit = if self.chance(50) { 1_000_000 } else { self.rng.u32(1..20) };
        self.note(format!("promote {limit}"));
        let before = self.now().await;
        let moved = self.world.storage().promote(limit).await.unwrap().moved;
        let call = self.span(before).await;
        let mut seen = 0;
        let scheduled: Vec<(MessageId, u8, Span)> = self
            .model
            .messages
            .iter()
            .filter_map(|(id, entry)| match entry.place {
                Place::Scheduled { lane, due } => Some((*id, lane, due)),
                _ => None,
            })
            .collect();
        for (id, lane, due) in scheduled {
            let reached = due.reached_by(call);
            if reached == Some(false) {
                continue;
            }
            // Which of several that are due a limit leaves behind is the storage's affair: it is asked.
            let is_ready = if limit == 1_000_000 && reached == Some(true) { true } else { self.world.record(id).await.due_at.is_none() };
            if is_ready {
                seen += 1;
                self.model.messages.get_mut(&id).unwrap().place = Place::Ready { lane };
            }
        }
        assert_eq!(moved, seen, "promoted");
    }

    pub(super) fn advance(&mut self) {
        let by = Duration::from_millis(self.rng.u64(1..40_000));
        self.note(format!("advance {by:?}"));
        self.world.advance(by);
    }
}

/// What the call whose answer was lost must have answered.
fn as_if_heard(repeat: Settled, claim: &ClaimEntry) -> Settled {
    let of = |bit| {
        let set = (0..).zip(&claim.members).filter(move |(_, member)| member.bit == bit).map(|(index, _)| index);
        Bits::from_indices(repeat.already.len(), set)
    };
    let applied = repeat.already.intersection(&of(Bit::Open));
    let mut answer = Settled::new(applied);
    answer.already = repeat.already.difference(&answer.applied);
    answer.lost = repeat.lost;
    answer
}

fn number(lane: Lane) -> u8 {
    match lane {
        Lane::Returned => 0,
        Lane::High => 1,
        Lane::Normal => 2,
        Lane::Low => 3,
        Lane::Suspect => 4,
    }
}

fn shown(groups: &[LaneRequest]) -> Vec<String> {
    groups.iter().map(|group| format!("{} {:?} {}", group.event_type, group.lanes, group.limit)).collect()
}
