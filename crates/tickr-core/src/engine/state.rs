//! What a running worker knows: its queue, what runs, what it holds, what is not recorded yet.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::incarnation::{ClaimInfo, Incarnation};
use super::ledger::{Differences, Ledger};
use super::outbox::{Finished, Outbox, by_claim};
use super::prefetch::Rate;
use super::verdict::Facts;
use crate::bits::Bits;
use crate::door::clock::Tick;
use crate::error::Error;
use crate::id::Token;
use crate::observe::LeaseLossPhase;
use crate::protocol::is_suspect;
use crate::storage::{Claim, ClaimedMessage, OpenClaim};
use crate::worker::DispatchReport;

/// A claimed message on its way to its handler.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) claim: Arc<ClaimInfo>,
    pub(super) type_index: usize,
    /// Large, and handed on several times.
    pub(super) message: Box<ClaimedMessage>,
}

/// The answer of a claim, prepared so that it is taken in quickly: runners wait for the lock meanwhile.
#[derive(Debug)]
pub(super) struct Arrived {
    claim: Arc<ClaimInfo>,
    known: Bits,
    /// One of the messages is a suspect.
    suspect: bool,
    members: Vec<Member>,
}

impl Arrived {
    /// `type_of` finds the handler's index. The second value are the messages that have none.
    pub(super) fn new(
        claim: Claim,
        incarnation: &Arc<Incarnation>,
        type_of: impl Fn(&ClaimedMessage) -> Option<usize>,
    ) -> (Self, Vec<ClaimedMessage>) {
        let info = ClaimInfo { token: claim.token, members: claim.members, solo: claim.solo, incarnation: Arc::clone(incarnation) };
        let info = Arc::new(info);
        let (mut members, mut strays) = (Vec::with_capacity(claim.messages.len()), Vec::new());
        for message in claim.messages {
            match type_of(&message) {
                Some(type_index) => members.push(Member { claim: Arc::clone(&info), type_index, message: Box::new(message) }),
                None => strays.push(message),
            }
        }
        let known = Bits::from_indices(info.members, members.iter().map(|member| member.message.index));
        let suspect = members.iter().any(|member| is_suspect(member.message.crashes));
        (Self { claim: info, known, suspect, members }, strays)
    }
}

/// Something a runner can do.
#[derive(Debug)]
enum Job {
    One(Member),
    /// A chunk of what is pending for the batch handler of this type.
    Chunk {
        type_index: usize,
    },
}

/// What a runner is told to do next.
#[derive(Debug)]
pub(super) struct Assignment {
    /// When it was given.
    pub(super) since: Tick,
    pub(super) members: Vec<Member>,
    pub(super) type_index: usize,
    pub(super) cancel: CancellationToken,
    /// Tells this assignment from later ones of the same slot.
    pub(super) generation: u64,
}

/// What a runner shows of its handler without the lock.
#[derive(Debug, Default)]
pub(super) struct Sign {
    /// The handler is being polled.
    pub(super) polled: AtomicBool,
    /// The last assignment whose handler was called.
    called: AtomicU64,
}

impl Sign {
    /// The handler of an assignment is called now.
    pub(super) fn call(&self, generation: u64) {
        self.called.store(generation, Ordering::Relaxed);
    }
}

/// Why a running handler was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Shutdown,
    Killed,
    LeaseLost,
}

impl Cause {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Killed => "taken away from the worker",
            Self::LeaseLost => "lease lost",
        }
    }
}

/// A handler that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) generation: u64,
    pub(super) members: Vec<RunningMember>,
    pub(super) cancel: CancellationToken,
    sign: Arc<Sign>,
    pub(super) cause: Option<Cause>,
    pub(super) type_index: usize,
    pub(super) since: Tick,
    /// When the watchdog takes the assignment away from a runner whose handler blocks its thread.
    pub(super) overdue_at: Option<Tick>,
}

impl Running {
    /// Whether the handler was called: a runner may wait for its thread before.
    pub(super) fn is_called(&self) -> bool {
        self.sign.called.load(Ordering::Relaxed) == self.generation
    }

    /// Notes that the leases of members are gone; gives those of which it was not known.
    fn lose(&mut self, which: impl Fn(&RunningMember) -> bool) -> Losses {
        let lost = self.members.iter_mut().filter(|member| !member.loss_told && which(member));
        lost.map(|member| member.loss_told = true).map(|()| (self.type_index, LeaseLossPhase::Running)).collect()
    }
}

/// What must be known of a running message to settle it without its runner.
#[derive(Debug)]
pub(super) struct RunningMember {
    pub(super) claim: Arc<ClaimInfo>,
    pub(super) facts: Facts,
    /// The loss of its lease was told.
    pub(super) loss_told: bool,
}

/// One event type.
#[derive(Debug)]
pub(super) struct TypeState {
    /// The most that may be claimed and unfinished; only types with a cap have one.
    pub(super) cap: Option<u32>,
    /// For batch handlers: how many one call gets, 0 for what one claim brought.
    pub(super) chunk: Option<u32>,
    pub(super) queued: u32,
    pub(super) running: u32,
    pub(super) rate: Rate,
    /// Pauses of the type that are being stored. Nothing of it is claimed meanwhile.
    pub(super) pausing: u32,
    pending: VecDeque<Member>,
    chunk_scheduled: bool,
}

impl TypeState {
    pub(super) fn new(cap: Option<u32>, chunk: Option<u32>) -> Self {
        Self { cap, chunk, queued: 0, running: 0, rate: Rate::default(), pausing: 0, pending: VecDeque::new(), chunk_scheduled: false }
    }
}

/// Messages that were lost, for metrics.
pub(super) type Losses = Vec<(usize, LeaseLossPhase)>;

#[derive(Debug)]
pub(super) struct State {
    pub(super) incarnation: Arc<Incarnation>,
    pub(super) types: Vec<TypeState>,
    queue: VecDeque<Job>,
    slots: Vec<Option<Running>>,
    signs: Vec<Arc<Sign>>,
    free_slots: Vec<usize>,
    /// Runner tasks that are not abandoned.
    runners: u32,
    generation: u64,
    pub(super) ledger: Ledger,
    outbox: Outbox,
    /// Old incarnations that have not given back what they hold.
    pub(super) retiring: u32,
    /// Suspects of our types may be waiting: the most crashes among the first of each type, as far as is known.
    pub(super) suspects: Option<u16>,
    /// Handlers that were abandoned and still block their thread.
    abandoned: u32,
    pub(super) report: DispatchReport,
}

/// What reconciling a heartbeat's answer came to.
#[derive(Debug, Default)]
pub(super) struct Reconciled {
    pub(super) orphans: Vec<Token>,
    pub(super) losses: Losses,
}

impl State {
    pub(super) fn new(types: Vec<TypeState>) -> Self {
        Self {
            incarnation: Arc::new(Incarnation::new(Tick::default())),
            types,
            queue: VecDeque::new(),
            slots: Vec::new(),
            signs: Vec::new(),
            free_slots: Vec::new(),
            runners: 0,
            generation: 0,
            ledger: Ledger::default(),
            outbox: Outbox::default(),
            retiring: 0,
            suspects: None,
            abandoned: 0,
            report: DispatchReport::default(),
        }
    }

    // --- what the claim loop asks -------------------------------------------------------------------------------

    pub(super) fn queued(&self) -> u32 {
        count(self.queue.len())
    }

    pub(super) const fn runners(&self) -> u32 {
        self.runners
    }

    pub(super) fn unsettled(&self) -> u32 {
        self.outbox.unsettled()
    }

    /// Whether nothing is held, runs, or waits to be recorded.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.runners == 0 && self.ledger.is_empty() && self.is_paid()
    }

    /// Whether this process runs nothing for the queue: then what it claims next is alone.
    pub(super) fn is_alone(&self) -> bool {
        self.is_empty() && !self.has_abandoned() && !self.ledger.is_in_doubt()
    }

    /// Whether a handler was abandoned and still blocks its thread, so that nothing of this process is alone.
    pub(super) const fn has_abandoned(&self) -> bool {
        self.abandoned > 0
    }

    /// The runner of an abandoned assignment is back.
    pub(super) fn abandoned_ended(&mut self) {
        self.abandoned = self.abandoned.saturating_sub(1);
    }

    /// How long the handler that began first has been running.
    pub(super) fn oldest(&self, now: Tick) -> Option<Duration> {
        self.running().map(|running| now.since(running.since)).max()
    }

    /// Whether every outcome is recorded, and every old incarnation gone.
    pub(super) fn is_paid(&self) -> bool {
        self.unsettled() == 0 && self.retiring == 0
    }

    /// Whether nothing is left but outcomes that the storage refuses for good.
    pub(super) fn is_stuck(&self) -> bool {
        self.queue.is_empty() && self.runners == 0 && self.retiring == 0 && self.outbox.is_stuck()
    }

    /// Whether nothing of this worker's can come back to the queue any more.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_empty() || self.is_stuck()
    }

    pub(super) const fn has_no_runners(&self) -> bool {
        self.runners == 0
    }

    /// Takes an answered claim in.
    pub(super) fn claim_answered(&mut self, Arrived { claim, known, suspect, members }: Arrived, now: Tick) {
        if members.is_empty() {
            self.ledger.failed(claim.token);
            return;
        }
        self.report.claimed += members.len() as u64;
        self.ledger.answered(&claim, &known, suspect, now);
        for member in members {
            self.push(member, suspect);
        }
    }

    /// A suspect goes first: it has waited long enough, and the next one waits for it.
    fn push(&mut self, member: Member, suspect: bool) {
        let type_index = member.type_index;
        let state = &mut self.types[type_index];
        state.rate.weigh(member.message.body.as_ref().map_or(0, |stored| stored.payload.len()));
        state.queued += 1;
        if state.chunk.is_none() {
            if suspect {
                self.queue.push_front(Job::One(member));
            } else {
                self.queue.push_back(Job::One(member));
            }
            return;
        }
        state.pending.push_back(member);
        if !state.chunk_scheduled {
            state.chunk_scheduled = true;
            self.queue.push_back(Job::Chunk { type_index });
        }
    }

    // --- runners --------------------------------------------------------------------------------------------------

    /// Takes slots for as many further runners as there is work for.
    pub(super) fn recruit(&mut self, pool: u32) -> Vec<usize> {
        let wanted = pool.saturating_sub(self.runners).min(self.queued());
        (0..wanted).map(|_| self.take_slot()).collect()
    }

    fn take_slot(&mut self) -> usize {
        self.runners += 1;
        self.free_slots.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.signs.push(Arc::default());
            self.slots.len() - 1
        })
    }

    /// Records what the runner of `slot` finished. `false`: the watchdog took the assignment away, and the runner's place is filled.
    pub(super) fn finish(&mut self, slot: usize, generation: u64, mut finished: Vec<Finished>) -> bool {
        let Some(running) = self.slots[slot].take_if(|running| running.generation == generation) else {
            self.abandoned_ended();
            return false;
        };
        for lost in running.members.iter().filter(|member| member.loss_told) {
            let is_it = |finished: &&mut Finished| finished.facts.id == lost.facts.id && finished.claim.token == lost.claim.token;
            if let Some(finished) = finished.iter_mut().find(is_it) {
                finished.loss_told = true;
            }
        }
        self.end(running.type_index, count(running.members.len()), finished);
        true
    }

    /// Takes what is not to be recorded before a pause of the type is stored: `own`, which its handler gave back, and what waits
    /// here. It counts as being settled until it is [put back](Self::put_back).
    pub(super) fn hold_back(&mut self, type_index: usize, own: Vec<Finished>, give_back: impl Fn(Member) -> Finished) -> Vec<Finished> {
        self.types[type_index].pausing += 1;
        let mut held = own;
        held.extend(self.unqueue(|member| member.type_index == type_index).into_iter().map(give_back));
        for (claim, run) in by_claim(&held) {
            self.outbox.begin(claim, count(run.len()), &mut self.ledger);
        }
        held
    }

    fn end(&mut self, type_index: usize, members: u32, finished: Vec<Finished>) {
        let state = &mut self.types[type_index];
        state.running -= members;
        state.rate.count(members);
        if state.chunk.is_some() {
            state.chunk_scheduled = !state.pending.is_empty();
            if state.chunk_scheduled {
                self.queue.push_back(Job::Chunk { type_index });
            }
        }
        self.outbox.extend(finished);
    }

    /// Gives the runner of `slot` something to do, or lets it go.
    pub(super) fn assign(&mut self, slot: usize, now: Tick, overdue: impl Fn(usize) -> Option<Duration>) -> Option<Assignment> {
        let Some(job) = self.queue.pop_front() else {
            self.runners -= 1;
            self.free_slots.push(slot);
            return None;
        };
        let (type_index, members) = match job {
            Job::One(member) => (member.type_index, vec![member]),
            Job::Chunk { type_index } => (type_index, self.take_chunk(type_index)),
        };
        let started = count(members.len());
        let state = &mut self.types[type_index];
        state.queued -= started;
        state.running += started;
        self.generation += 1;
        let cancel = CancellationToken::new();
        self.slots[slot] = Some(Running {
            generation: self.generation,
            members: members.iter().map(RunningMember::of).collect(),
            cancel: cancel.clone(),
            sign: Arc::clone(&self.signs[slot]),
            cause: None,
            type_index,
            since: now,
            overdue_at: overdue(type_index).map(|after| now.after(after)),
        });
        Some(Assignment { since: now, members, type_index, cancel, generation: self.generation })
    }

    /// The next chunk of a batch type: at most its size, or what the first member's claim brought. It is empty if all that waited was
    /// taken away; the runner then calls no handler.
    fn take_chunk(&mut self, type_index: usize) -> Vec<Member> {
        let state = &mut self.types[type_index];
        let of_first_claim = state.pending.front().map_or(0, |first| {
            let token = first.claim.token;
            state.pending.iter().take_while(|member| member.claim.token == token).count()
        });
        let size = match state.chunk {
            Some(0) | None => of_first_claim,
            Some(size) => (size as usize).min(state.pending.len()),
        };
        state.pending.drain(..size).collect()
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &Running> {
        self.slots.iter().flatten()
    }

    /// Whether a handler that has its thread at this moment may still have it: it has no timeout, or is not overdue.
    pub(super) fn has_busy_handler(&self, now: Tick) -> bool {
        self.running().any(|running| running.sign.polled.load(Ordering::Relaxed) && running.overdue_at.is_none_or(|at| now < at))
    }

    /// What the runner of a slot shows.
    pub(super) fn sign(&self, slot: usize) -> Arc<Sign> {
        Arc::clone(&self.signs[slot])
    }

    /// Whether an assignment is still that of its runner.
    pub(super) fn is_assigned(&self, slot: usize, generation: u64) -> bool {
        self.slots[slot].as_ref().is_some_and(|running| running.generation == generation)
    }

    /// Whether a handler is overdue.
    pub(super) fn has_overdue(&self, now: Tick) -> bool {
        self.running().any(|running| running.overdue_at.is_some_and(|at| now >= at))
    }

    /// Why the assignment of a slot was cancelled, if it was.
    pub(super) fn cause(&self, slot: usize, generation: u64) -> Option<Cause> {
        self.slots[slot].as_ref().filter(|running| running.generation == generation)?.cause
    }

    pub(super) fn cancel_all(&mut self, cause: Cause) {
        for running in self.slots.iter_mut().flatten() {
            running.cause.get_or_insert(cause);
            running.cancel.cancel();
        }
    }

    /// Takes the assignments that `which` names away from their runners, whose handler blocks its thread. Until their outcomes are
    /// [put back](Self::put_back) they count as being settled: what becomes of them is for the user's code to say, without the lock.
    pub(super) fn abandon(&mut self, which: impl Fn(&Running) -> bool) -> Vec<Running> {
        let mut abandoned = Vec::new();
        for slot in 0..self.slots.len() {
            let Some(running) = self.slots[slot].take_if(|running| which(running)) else { continue };
            running.cancel.cancel();
            for member in &running.members {
                self.outbox.begin(&member.claim, 1, &mut self.ledger);
            }
            self.end(running.type_index, count(running.members.len()), Vec::new());
            // The slot is not given back: its runner still sits in it, and finds the generation gone.
            self.runners -= 1;
            self.abandoned += 1;
            abandoned.push(running);
        }
        abandoned
    }

    // --- giving back and losing -------------------------------------------------------------------------------------

    /// Empties the queue; what had not started goes through `settle`.
    pub(super) fn give_back(&mut self, settle: impl Fn(Member) -> Finished) {
        let members = self.unqueue(|_| true);
        self.outbox.extend(members.into_iter().map(settle));
    }

    /// Removes queued members that `which` names.
    fn unqueue(&mut self, which: impl Fn(&Member) -> bool) -> Vec<Member> {
        let mut taken = Vec::new();
        let mut kept = VecDeque::with_capacity(self.queue.len());
        for job in self.queue.drain(..) {
            match job {
                Job::One(member) if which(&member) => taken.push(member),
                job => kept.push_back(job),
            }
        }
        self.queue = kept;
        for state in &mut self.types {
            let (gone, kept): (VecDeque<_>, VecDeque<_>) = state.pending.drain(..).partition(&which);
            state.pending = kept;
            taken.extend(gone);
        }
        for member in &taken {
            self.types[member.type_index].queued -= 1;
        }
        taken
    }

    /// Drops what has not started: nobody waits for it any more.
    pub(super) fn forget_queue(&mut self) {
        self.unqueue(|_| true);
    }

    /// Forgets everything of `incarnation`, whose lease is gone: what is queued is dropped, what runs is cancelled. `None` when
    /// that was done before; whoever is late must not take the next incarnation for it.
    pub(super) fn lose_incarnation(&mut self, incarnation: &Arc<Incarnation>) -> Option<Losses> {
        if incarnation.set_lost() {
            return None;
        }
        let mut losses = Losses::new();
        for member in self.unqueue(|_| true) {
            losses.push((member.type_index, LeaseLossPhase::Queued));
        }
        for running in self.slots.iter_mut().flatten() {
            losses.extend(running.lose(|_| true));
        }
        self.report.lost += losses.iter().filter(|(_, phase)| *phase == LeaseLossPhase::Queued).count() as u64;
        self.cancel_all(Cause::LeaseLost);
        self.ledger.clear();
        Some(losses)
    }

    // --- heartbeat ------------------------------------------------------------------------------------------------

    /// Compares the storage's open claims with the ledger, and drops or cancels what was taken away.
    pub(super) fn reconcile(&mut self, open: &[OpenClaim], known: &HashSet<Token>, sent: Tick) -> Reconciled {
        let Differences { orphans, revoked } = self.ledger.compare(open, known, sent);
        let losses = revoked.into_iter().flat_map(|(token, bits)| self.revoke(token, &bits)).collect();
        Reconciled { orphans, losses }
    }

    fn revoke(&mut self, token: Token, bits: &Bits) -> Losses {
        let mut losses = Losses::new();
        let dropped = self.unqueue(|member| member.claim.token == token && bits.contains(member.message.index));
        self.report.lost += dropped.len() as u64;
        losses.extend(dropped.iter().map(|member| (member.type_index, LeaseLossPhase::Queued)));
        for running in self.slots.iter_mut().flatten() {
            let lost = running.lose(|member| member.claim.token == token && bits.contains(member.facts.index));
            if !lost.is_empty() {
                running.cause.get_or_insert(Cause::Killed);
                running.cancel.cancel();
                losses.extend(lost);
            }
        }
        self.ledger.revoke(token, bits);
        self.ledger.done(token, dropped.iter().map(|member| member.message.index));
        losses
    }

    // --- settling ---------------------------------------------------------------------------------------------------

    /// Takes what is to be recorded next, at most `limit`.
    pub(super) fn take_outbox(&mut self, limit: usize, now: Tick) -> Vec<Finished> {
        self.outbox.take(limit, now, &mut self.ledger)
    }

    /// Puts outcomes back that could not be recorded, or that were not known before.
    pub(super) fn put_back(&mut self, batch: Vec<Finished>) {
        self.outbox.put_back(batch, &mut self.ledger);
    }

    /// Keeps outcomes of one claim that the storage refuses until later, so that they do not hold up others.
    pub(super) fn put_aside(&mut self, batch: Vec<Finished>, error: Error, until: Tick) {
        self.outbox.put_aside(batch, error, until, &mut self.ledger);
    }

    /// Keeps outcomes that were put aside before for longer.
    pub(super) fn postpone(&mut self, batch: Vec<Finished>, until: Tick) {
        self.outbox.postpone(batch, until, &mut self.ledger);
    }

    /// How many outcomes the storage has refused and not taken yet.
    pub(super) fn refused(&self) -> u32 {
        self.outbox.refused()
    }

    /// Says what could not be recorded, and why.
    pub(super) fn unrecorded(&mut self) -> Error {
        self.outbox.unrecorded()
    }

    /// When the first of the outcomes that were put aside is due.
    pub(super) fn next_try(&self) -> Option<Tick> {
        self.outbox.next_try()
    }

    /// Outcomes are recorded, or known to be lost.
    pub(super) fn recorded(&mut self, batch: &[Finished]) {
        self.outbox.recorded(batch, &mut self.ledger);
    }

    /// Whether outcomes wait of which nobody has begun to record them.
    pub(super) fn has_waiting_outcomes(&self) -> bool {
        self.outbox.has_waiting()
    }

    /// Whether outcomes of `incarnation` wait to be recorded.
    pub(super) fn owes(&self, incarnation: &Arc<Incarnation>) -> bool {
        self.outbox.owes(incarnation)
    }
}

impl RunningMember {
    fn of(member: &Member) -> Self {
        Self { claim: Arc::clone(&member.claim), facts: Facts::of(&member.message), loss_told: false }
    }
}

pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
