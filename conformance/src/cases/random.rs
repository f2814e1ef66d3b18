//! Ten thousand random operations, against the model.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::time::Duration;

use fastrand::Rng;
use tickr_core::protocol::Lane;
use tickr_core::{
    Admin, AnyAdmin, Bits, Claim, ClaimRequest, Due, Enqueued, ErrorKind, LaneRequest, Message, MessageId, NewMessage, Priority,
    ReclaimRequest, Retention, SettleOutcome, Settled, SettledMember, Settlement, Status, Storage, Timestamp, Token, WorkerId,
};

use crate::faults::{Faulty, Op};
use crate::model::{Bit, ClaimEntry, End, Entry, Model, Place, Span, WorkerEntry};
use crate::world::{WithMax, Worker, World, bits, checked, event_type, group, ids, these};

const KINDS: [&str; 4] = ["order", "mail", "invoice", "audit"];
const LEASE: Duration = Duration::from_secs(60);
const KEYS: u32 = 300;

/// Whatever is done in whatever order, every message is where the protocol says, and the invariants I1 and I2 hold.
pub async fn mask_invariant(world: World) {
    let seed = seed();
    let mut run = Run::new(world, seed);
    for _ in 0..2 {
        run.add_worker().await;
    }
    for step in 1..=operations() {
        run.step().await;
        if step % 1_000 == 0 {
            run.check().await;
        }
    }
    run.drain().await;
    run.check().await;
    run.log.clear();
}

/// `TICKR_SEED` repeats a run.
fn seed() -> u64 {
    let given = std::env::var("TICKR_SEED").ok().map(|text| text.parse().expect("TICKR_SEED is a number"));
    given.unwrap_or_else(|| Timestamp::now().as_micros().unsigned_abs())
}

/// `TICKR_OPERATIONS` makes a run longer or shorter.
fn operations() -> u32 {
    std::env::var("TICKR_OPERATIONS").map_or(10_000, |text| text.parse().expect("TICKR_OPERATIONS is a number"))
}

struct Run {
    world: World,
    faulty: Faulty<AnyAdmin>,
    model: Model,
    workers: Vec<Worker>,
    known: Vec<MessageId>,
    rng: Rng,
    seed: u64,
    log: VecDeque<String>,
}

impl Drop for Run {
    /// A failing run says how to repeat it and what came last.
    #[allow(clippy::print_stderr, reason = "a failing test says what it did")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("TICKR_SEED={} repeats this run; its last operations were:", self.seed);
            for line in &self.log {
                eprintln!("  {line}");
            }
        }
    }
}

impl Run {
    #[allow(clippy::print_stdout, reason = "the seed repeats the run")]
    fn new(world: World, seed: u64) -> Self {
        println!("random run with TICKR_SEED={seed}");
        let faulty = Faulty::new(world.storage().clone());
        let (model, rng) = (Model::default(), Rng::with_seed(seed));
        Self { world, faulty, model, workers: Vec::new(), known: Vec::new(), rng, seed, log: VecDeque::new() }
    }

    async fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..20 => self.enqueue().await,
            20..40 => self.claim().await,
            40..50 => self.claim_solo().await,
            50..70 => self.settle().await,
            70..76 => self.heartbeat().await,
            76..79 => self.kill().await,
            79..82 => self.requeue().await,
            82..84 => self.reschedule().await,
            84 => self.discard().await,
            85..87 => self.pause().await,
            87..91 => self.advance(),
            91..93 => self.reclaim().await,
            93 => self.retire().await,
            94..97 => self.promote().await,
            97 => self.stats().await,
            98 => self.add_worker().await,
            _ => self.purge().await,
        }
    }

    fn note(&mut self, line: String) {
        if self.log.len() == 40 {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    async fn now(&self) -> Timestamp {
        self.world.now().await
    }

    async fn span(&self, earliest: Timestamp) -> Span {
        // The precision of stored times may be coarser than that of the clock.
        let slack = self.world.capabilities().time_precision;
        Span { earliest: earliest.before(slack), latest: self.now().await.after(slack) }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    fn kind(&mut self) -> usize {
        self.rng.usize(0..KINDS.len())
    }

    fn delay(&mut self, percent: u32, secs_max: u64) -> Duration {
        if self.chance(percent) { Duration::from_millis(self.rng.u64(1..secs_max * 1_000)) } else { Duration::ZERO }
    }

    fn pick_ids(&mut self) -> Vec<MessageId> {
        let mut picked = BTreeSet::from([MessageId::new()]);
        for _ in 0..self.rng.usize(1..6) {
            if !self.known.is_empty() {
                picked.insert(self.known[self.rng.usize(0..self.known.len())]);
            }
        }
        picked.into_iter().collect()
    }
}

/// Producers.
impl Run {
    async fn enqueue(&mut self) {
        let mut batch: Vec<(NewMessage, Option<u32>, Entry, Duration)> = Vec::new();
        for _ in 0..self.rng.usize(1..10) {
            let (kind, key) = (self.kind(), self.chance(30).then(|| self.rng.u32(0..KEYS)));
            let priority = [Priority::High, Priority::Normal, Priority::Low][self.rng.usize(0..3)];
            let own_max = self.chance(30).then(|| self.rng.u16(1..5));
            let delay = self.delay(30, 180);
            let mut message = Message::new(KINDS[kind], "{}").priority(priority);
            message.idempotency_key = key.map(|key| format!("key-{key}"));
            message.max_attempts = own_max.and_then(NonZeroU16::new);
            message.due = if delay.is_zero() { Due::Now } else { Due::After(delay) };
            let entry = Entry { kind, priority, own_max, attempt: 0, crashes: 0, place: Place::Gone };
            batch.push((checked(message), key, entry, delay));
        }
        let messages: Vec<NewMessage> = batch.iter().map(|(message, ..)| message.clone()).collect();
        let lost = self.chance(10);
        self.note(format!("enqueue {} messages, lost answer: {lost}", messages.len()));
        let before = self.now().await;
        if lost {
            self.faulty.lose_answers(Op::Enqueue, 1);
            self.faulty.enqueue(&messages).await.unwrap_err();
        }
        let answers = self.faulty.enqueue(&messages).await.unwrap();
        let call = self.span(before).await;
        for ((message, key, entry, delay), answer) in batch.into_iter().zip(answers) {
            let due = (!delay.is_zero()).then(|| call.after(delay));
            let stands = self.model.enqueue(message.id(), key, entry, due);
            let expected = if stands == message.id() { Enqueued::Stored { id: stands } } else { Enqueued::Duplicate { existing: stands } };
            assert_eq!(answer, expected);
            if stands == message.id() {
                self.known.push(stands);
            }
        }
    }
}

/// Workers.
impl Run {
    async fn add_worker(&mut self) {
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

    async fn claim(&mut self) {
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

    async fn claim_solo(&mut self) {
        let worker = self.worker();
        let mut kinds = KINDS;
        self.rng.shuffle(&mut kinds);
        let max = self.rng.u16(2..6);
        let groups = kinds.iter().map(|name| group(name, &[Lane::Suspect], 1).max(max)).collect();
        let request = ClaimRequest { solo: true, ..worker.request(groups, 1) };
        self.send(&worker, &request).await;
    }

    async fn send(&mut self, worker: &Worker, request: &ClaimRequest) {
        let lost = self.chance(10);
        self.note(format!("{} claims {} of {:?}, lost answer: {lost}", worker.id, request.total, shown(&request.groups)));
        let expected = self.expect(request);
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
            Some(true) => assert_eq!(claim.messages.len(), expected, "a live worker gets what is ready"),
            Some(false) => assert_eq!(claim.messages.len(), 0, "an expired worker gets nothing"),
            None if self.model.workers.contains_key(&worker.id) => {}
            None => assert_eq!(claim.messages.len(), 0, "an unknown worker gets nothing"),
        }
        self.take(worker.id, request, &claim);
    }

    /// How many messages a claim must answer.
    fn expect(&self, request: &ClaimRequest) -> usize {
        let mut total = request.total as usize;
        let all = total;
        for group in &request.groups {
            let kind = KINDS.iter().position(|name| **name == *group.event_type).unwrap();
            let ready: usize = group.lanes.iter().map(|lane| self.model.ready(kind, number(*lane))).sum();
            total -= ready.min(group.limit as usize).min(total);
        }
        all - total
    }

    /// Every message of an answer was ready in a lane that was asked for.
    fn take(&mut self, worker: WorkerId, request: &ClaimRequest, claim: &Claim) {
        let mut group_at = 0;
        for message in &claim.messages {
            let entry = self.model.messages.get(&message.id).expect("a message that was enqueued").clone();
            let Place::Ready { lane } = entry.place else { panic!("{} was claimed while {:?}", message.id, entry.place) };
            let asked =
                |group: &LaneRequest| *group.event_type == *KINDS[entry.kind] && group.lanes.iter().any(|wanted| number(*wanted) == lane);
            let at = request.groups.iter().position(asked).expect("a lane that was asked for");
            assert!(at >= group_at, "groups are walked in order");
            group_at = at;
            assert!(!self.model.paused.contains(&entry.kind), "a paused type was claimed");
            let expected = self.model.lease(claim.token, worker, request.solo, message.id, request.groups[at].max_attempts);
            assert_eq!((message.attempt, message.crashes, message.max_attempts), expected, "attempt, crashes, maximum");
            assert_eq!(message.event_type.as_str(), KINDS[entry.kind]);
            assert!(message.body.is_some(), "a body");
        }
    }

    /// Settles random members of a random claim, old and closed ones included.
    async fn settle(&mut self) {
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
            settlement.others.push(SettledMember {
                index,
                id: member.id,
                event_type: event_type(KINDS[entry.kind]),
                priority: entry.priority,
                attempt: member.attempt,
                crashes: member.crashes,
                outcome,
            });
        }
        (settlement, ends)
    }

    async fn heartbeat(&mut self) {
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

    async fn retire(&mut self) {
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

    async fn reclaim(&mut self) {
        let limit = self.rng.u32(1..12);
        self.note(format!("reclaim {limit}"));
        let before = self.now().await;
        let answer = self.world.storage().reclaim(&ReclaimRequest { condemn: true, limit }).await.unwrap();
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

    async fn promote(&mut self) {
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

    fn advance(&mut self) {
        let by = Duration::from_millis(self.rng.u64(1..40_000));
        self.note(format!("advance {by:?}"));
        self.world.advance(by);
    }
}

/// Operators.
impl Run {
    async fn kill(&mut self) {
        let asked = self.pick_ids();
        self.note(format!("kill {asked:?}"));
        let before = self.now().await;
        let mut acted = self.world.kill(&asked).await;
        let call = self.span(before).await;
        acted.done.sort();
        let expected: Vec<MessageId> = asked.into_iter().filter(|id| self.model.kill(*id, call)).collect();
        assert_eq!(acted.done, expected);
    }

    fn due(delay: Duration) -> Due {
        if delay.is_zero() { Due::Now } else { Due::After(delay) }
    }

    async fn requeue(&mut self) {
        let (asked, delay) = (self.pick_ids(), self.delay(30, 60));
        self.note(format!("requeue {asked:?} in {delay:?}"));
        let before = self.now().await;
        let mut acted = self.world.storage().requeue(&these(&asked), Self::due(delay)).await.unwrap();
        let call = self.span(before).await;
        let due = (!delay.is_zero()).then(|| call.after(delay));
        acted.done.sort();
        let expected: Vec<MessageId> = asked.into_iter().filter(|id| self.model.requeue(*id, due)).collect();
        assert_eq!(acted.done, expected);
    }

    async fn reschedule(&mut self) {
        let (asked, delay) = (self.pick_ids(), self.delay(50, 60));
        self.note(format!("reschedule {asked:?} in {delay:?}"));
        let before = self.now().await;
        let mut acted = self.world.storage().reschedule(&these(&asked), Self::due(delay)).await.unwrap();
        let call = self.span(before).await;
        let due = (!delay.is_zero()).then(|| call.after(delay));
        acted.done.sort();
        let expected: Vec<MessageId> = asked.into_iter().filter(|id| self.model.reschedule(*id, due)).collect();
        assert_eq!(acted.done, expected);
    }

    async fn discard(&mut self) {
        let asked = self.pick_ids();
        self.note(format!("discard {asked:?}"));
        let mut acted = self.world.storage().discard(&these(&asked)).await.unwrap();
        acted.done.sort();
        let expected: Vec<MessageId> = asked.into_iter().filter(|id| self.model.discard(*id)).collect();
        assert_eq!(acted.done, expected);
    }

    async fn pause(&mut self) {
        let kind = self.kind();
        let paused = self.model.paused.contains(&kind);
        self.note(format!("{} {}", if paused { "resume" } else { "pause" }, KINDS[kind]));
        if paused {
            assert!(self.world.resume(KINDS[kind]).await);
            self.model.paused.remove(&kind);
        } else {
            assert!(self.world.pause(KINDS[kind]).await);
            self.model.paused.insert(kind);
        }
    }

    async fn purge(&mut self) {
        let retention = Retention::default()
            .success(Duration::from_secs(300))
            .dead(Some(Duration::from_secs(900)))
            .history(Some(Duration::from_secs(900)));
        self.note("purge".to_owned());
        let before = self.now().await;
        self.world.purge(retention).await;
        let call = self.span(before).await;
        let finished: Vec<(MessageId, Span)> = self
            .model
            .messages
            .iter()
            .filter_map(|(id, entry)| match entry.place {
                Place::Success { at } => Some((*id, at.after(retention.success))),
                Place::Dead { at } => Some((*id, at.after(retention.dead.unwrap()))),
                _ => None,
            })
            .collect();
        for (id, until) in finished {
            let gone = match until.reached_by(call) {
                Some(reached) => reached,
                None => self.world.find(id).await.is_none(),
            };
            if gone {
                self.model.messages.get_mut(&id).unwrap().place = Place::Gone;
            }
        }
        // Whether the journal still knows a closed claim is its own affair: from here on nobody asks.
        self.model.claims.retain(|_, claim| claim.is_open());
    }
}

/// Looking.
impl Run {
    async fn stats(&mut self) {
        self.note("stats".to_owned());
        let stats = self.world.stats().await;
        for (kind, name) in KINDS.iter().enumerate() {
            let of =
                |status| self.model.messages.values().filter(|entry| entry.kind == kind && entry.status() == Some(status)).count() as u64;
            let expected = [Status::Created, Status::Retrying, Status::Handling, Status::Dead].map(of);
            let found = stats.of(name).map_or([0; 4], |stats| [stats.created.n, stats.retrying.n, stats.handling.n, stats.dead.n]);
            assert_eq!(found, expected, "statistics of {name}");
            assert_eq!(stats.of(name).is_some_and(|stats| stats.paused), self.model.paused.contains(&kind));
        }
    }

    async fn check(&mut self) {
        for (id, entry) in &self.model.messages {
            let found = self.world.find(*id).await.map(|record| (record.status, record.attempt));
            assert_eq!(found, entry.status().map(|status| (status, entry.attempt)), "{id}: {entry:?}");
        }
        self.world.assert_clean_audit().await;
        // What is gone stays gone: it need not be looked at again.
        self.model.messages.retain(|_, entry| !matches!(entry.place, Place::Gone));
        self.known.retain(|id| self.model.messages.contains_key(id));
    }

    /// Lets everything end: nothing is stuck.
    async fn drain(&mut self) {
        self.note("drain".to_owned());
        for kind in std::mem::take(&mut self.model.paused) {
            self.world.resume(KINDS[kind]).await;
        }
        self.world.advance(Duration::from_secs(10_000));
        let before = self.now().await;
        self.world.promote().await;
        self.world.storage().reclaim(&ReclaimRequest { condemn: true, limit: 1_000_000 }).await.unwrap();
        let worker = self.world.worker_for(&KINDS, LEASE * 100_000).await;
        let mut done: BTreeSet<MessageId> = BTreeSet::new();
        loop {
            let mut claim = worker.claim_of(&KINDS, 200).await;
            if claim.messages.is_empty() {
                claim = worker.claim_solo().await;
            }
            if claim.messages.is_empty() {
                break;
            }
            done.extend(ids(&claim));
            self.world.settle_ok(&claim).await;
        }
        let call = self.span(before).await;
        for (id, entry) in &mut self.model.messages {
            if done.contains(id) {
                entry.attempt = self.world.record(*id).await.attempt;
                entry.place = Place::Success { at: call };
            } else if let Place::Leased { .. } = entry.place {
                // It ran alone for the last time when its worker was condemned.
                entry.place = Place::Dead { at: call };
            }
            assert!(matches!(entry.place, Place::Success { .. } | Place::Dead { .. } | Place::Gone), "{id} is stuck: {entry:?}");
        }
    }
}

/// What the call whose answer was lost must have answered.
fn as_if_heard(repeat: Settled, claim: &ClaimEntry) -> Settled {
    let of = |bit| {
        let set = (0..).zip(&claim.members).filter(move |(_, member)| member.bit == bit).map(|(index, _)| index);
        Bits::from_indices(repeat.already.len(), set)
    };
    let applied = repeat.already.intersection(&of(Bit::Open));
    Settled { already: repeat.already.difference(&applied), lost: repeat.lost, applied }
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
