//! Claims: how much, when, and what if there is nothing.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::backoff::PollBackoff;
use super::incarnation::Incarnation;
use super::lanes::{Capacity, suspect_groups};
use super::liveness::Loop;
use super::state::{Arrived, State};
use super::suspects::{Rules, Schedule, Turn, View};
use super::{LATE, Mode, OPERATION_MAX, Run, lock};
use crate::door::clock::{self, Tick};
use crate::door::task;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Token;
use crate::notify::{Hint, Wakeups};
use crate::observe::ErrorEventKind;
use crate::panic;
use crate::protocol::SUSPECT_CRASHES;
use crate::storage::{ClaimRequest, LaneRequest, Storage};

/// How long the answer of a claim is waited for after the worker was told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What the claim loop does next.
enum Step {
    /// The incarnation is gone: register a new one.
    Renew,
    /// Send this claim.
    Claim { groups: Vec<LaneRequest>, total: u32, kind: Kind },
    /// The exclusive claim that is held has had its time: make it an ordinary one in the storage, then claim others beside it.
    EndExclusive(Token),
    /// Nothing may be claimed until this moment, or until something changes.
    Full(Option<Tick>),
}

/// What a claim is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Ordinary work.
    Ordinary,
    /// A suspect, with nothing beside it.
    Exclusive,
    /// A suspect beside ordinary work.
    Beside,
}

/// What a claim brought.
#[derive(Clone, Copy, Debug)]
struct Taken {
    messages: u32,
    /// The most crashes that one of them was part of.
    crashes: u16,
}

/// The claim loop's own memory.
struct Claimer {
    round: u64,
    /// Which of very many types the next claim looks into.
    types: Circle,
    /// Turns of claims for suspects.
    suspect_round: u64,
    backoff: PollBackoff,
    /// Serves suspects by turns with ordinary work.
    schedule: Schedule,
    /// Look for suspects in the next claim, although none are known of, if the worker holds nothing.
    look_for_suspects: bool,
    /// When an idle worker did so last.
    suspects_looked_for: Option<Tick>,
    /// Which kinds of claim found nothing since the last one that did.
    found_none: FoundNone,
    /// The last claim left out types that are at their cap.
    left_out: bool,
    /// When the last claim was sent, nothing of this worker's could come back behind it any more.
    sent_quiet: bool,
    errors: u16,
    /// How long one operation is waited for.
    patience: Duration,
}

/// How far claims have come in their way around the types, of which each looks into some.
#[derive(Clone, Copy, Debug, Default)]
struct Circle {
    /// Where the next claim begins.
    from: usize,
    /// How many types the claim that was sent last looked into.
    sent: usize,
    /// How many it could have looked into.
    all: usize,
    /// How many types claims have looked into since one brought something.
    empty: usize,
    /// Of these claims one was sent while something of this worker's could come back, or left types out.
    unsure: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct FoundNone {
    ordinary: bool,
    suspect: bool,
}

impl Run {
    /// Claims until stopped, or until `mode` is fulfilled.
    pub(super) async fn claim_loop(self: &Arc<Self>, mode: Mode) -> Result<()> {
        let config = &self.plan.config;
        let wakeups = self.plan.storage.wakeups().subscribe(&self.event_types());
        let mut claimer = Claimer {
            round: 0,
            types: Circle::default(),
            suspect_round: 0,
            backoff: PollBackoff::new(config.poll_interval, config.idle_interval, self.now()),
            schedule: Schedule::new(Rules::new(config.lease)),
            // A message that kills its worker finds its next one empty.
            look_for_suspects: mode == Mode::Forever,
            suspects_looked_for: None,
            found_none: FoundNone::default(),
            left_out: false,
            sent_quiet: false,
            errors: 0,
            patience: patience(mode, config.lease),
        };
        let mut budget = match mode {
            Mode::Once { limit } => limit,
            Mode::Forever | Mode::UntilIdle => u32::MAX,
        };
        // Longer than one round may take: a claim, the end of an exclusive one, a registration, and a rest.
        let round_max = OPERATION_MAX * 2 + config.lease + config.idle_interval;
        while !self.stop.is_cancelled() {
            if mode == Mode::Forever {
                self.expect_back(Loop::Claim, round_max);
            }
            // This loop may run on a thread of its own, that of `Runtime::block_on`, while nothing that it claims could start.
            if self.blocked_for(self.now()).is_some() {
                self.wait_for_change(None).await;
                continue;
            }
            let claimed = match self.next_step(&mut claimer, mode, budget) {
                Step::Renew => {
                    self.renew(&mut claimer).await;
                    continue;
                }
                // What the storage refuses leaves no room for more.
                Step::Full(_) if mode != Mode::Forever && self.state().is_stuck() => break,
                Step::Full(until) => {
                    self.wait_for_change(until).await;
                    continue;
                }
                Step::EndExclusive(token) => {
                    self.end_exclusive(&mut claimer, token).await;
                    continue;
                }
                Step::Claim { groups, total, kind } => {
                    *(if kind == Kind::Ordinary { &mut claimer.round } else { &mut claimer.suspect_round }) += 1;
                    let taken = self.claim(groups, total, kind, claimer.patience).await;
                    if let Ok(taken) = &taken
                        && self.learn(&mut claimer, mode, kind, *taken)
                    {
                        continue;
                    }
                    taken.map(|taken| taken.messages)
                }
            };
            match claimed {
                Err(error) if mode != Mode::Forever => return Err(error),
                Err(error) => self.claim_failed(&mut claimer, &error).await,
                Ok(0) if mode == Mode::Forever => self.rest(&mut claimer, &wakeups).await,
                Ok(0) => {
                    if self.nothing_left(&mut claimer).await? {
                        break;
                    }
                }
                Ok(claimed) => {
                    claimer.backoff.reset(self.now());
                    claimer.errors = 0;
                    self.set_idle(false);
                    budget -= claimed.min(budget);
                    if matches!(mode, Mode::Once { .. }) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Remembers what the answer of a claim says of the queue. `true`: it brought nothing, and says nothing of the ordinary work that was
    /// not looked for: the next claim is due at once.
    fn learn(&self, claimer: &mut Claimer, mode: Mode, kind: Kind, taken: Taken) -> bool {
        if taken.messages > 0 {
            claimer.found_none = FoundNone::default();
            claimer.types.begin_anew();
            if kind != Kind::Ordinary {
                // Where one was there may be more.
                self.state().suspects.get_or_insert(taken.crashes);
                claimer.schedule.took(taken.crashes);
            }
            return false;
        }
        match kind {
            // Of types that were left out nothing is known, nor of what came back while the claim looked.
            Kind::Ordinary => match claimer.types.was_empty(claimer.sent_quiet && !claimer.left_out) {
                None => return true,
                Some(nothing_is_left) => claimer.found_none.ordinary = nothing_is_left,
            },
            Kind::Exclusive => {
                claimer.found_none.suspect = true;
                self.state().suspects = None;
                claimer.schedule.open(self.now());
                return mode == Mode::Forever;
            }
            Kind::Beside => {
                if claimer.left_out {
                    claimer.schedule.wait_again(self.now());
                } else {
                    self.state().suspects = None;
                }
                return true;
            }
        }
        false
    }

    fn next_step(&self, claimer: &mut Claimer, mode: Mode, budget: u32) -> Step {
        let now = self.now();
        let mut state = self.state();
        if !state.incarnation.is_trusted(now) {
            return Step::Renew;
        }
        for kind in &mut state.types {
            kind.rate.measure(now);
        }
        claimer.sent_quiet = state.is_quiet();
        // Its answer is lost: while it may be open, it must stay exclusive.
        if state.ledger.doubts_exclusive() {
            return Step::Full(None);
        }
        if let Some(token) = state.ledger.exclusive() {
            let until = claimer.schedule.exclusive_until();
            return if now < until { Step::Full(Some(until)) } else { Step::EndExclusive(token) };
        }
        let turn = claimer.schedule.turn(
            now,
            &View {
                waiting: claimer.suspects_waiting(&state, mode),
                is_alone: state.is_alone(),
                is_idle: if mode == Mode::Forever { claimer.backoff.is_idle() } else { claimer.found_none.ordinary },
                oldest: state.oldest(now),
                suspect: state.ledger.newest_suspect().map(|at| now.since(at)),
            },
        );
        let (plan, round) = (&self.plan, claimer.suspect_round);
        match turn {
            Turn::Close(until) => return Step::Full(Some(until)),
            Turn::Exclusive => {
                claimer.look_for_suspects = false;
                let groups = suspect_groups(&plan.entries, &plan.config, round, |_| true);
                return Step::Claim { groups, total: 1, kind: Kind::Exclusive };
            }
            Turn::Beside | Turn::Ordinary => {}
        }
        let capacity = Capacity::of(&state, &plan.config);
        claimer.left_out = capacity.leaves_out();
        if turn == Turn::Beside && capacity.total > 0 {
            let groups = suspect_groups(&plan.entries, &plan.config, round, |index| capacity.has_room_for(index));
            if !groups.is_empty() {
                return Step::Claim { groups, total: 1, kind: Kind::Beside };
            }
        }
        if !capacity.is_due(&state) {
            return Step::Full(None);
        }
        let choice = capacity.choose(claimer.types.from);
        (claimer.types.sent, claimer.types.all, claimer.types.from) = (choice.len(), choice.of, choice.next);
        let groups = capacity.groups(&choice, &plan.entries, &state, &plan.config, claimer.round);
        Step::Claim { groups, total: capacity.total.min(budget), kind: Kind::Ordinary }
    }

    /// Sends one claim and takes its answer in.
    async fn claim(self: &Arc<Self>, groups: Vec<LaneRequest>, total: u32, kind: Kind, patience: Duration) -> Result<Taken> {
        let config = &self.plan.config;
        let token = Token::new();
        let incarnation = {
            let mut state = self.state();
            state.ledger.sent(token);
            Arc::clone(&state.incarnation)
        };
        let solo = kind == Kind::Exclusive;
        let mut request = ClaimRequest::new(incarnation.id, config.name.clone(), token, groups, total);
        request.solo = solo;
        let span = self.plan.observers.tracer.as_ref().map(|tracer| tracer.start_claim_span(&config.name));
        let sent = self.now();
        let result = tokio::select! {
            biased;
            // If it happens later, the next heartbeat sees it and it is given back.
            result = self.within(patience, "claim", self.plan.storage.claim(&request)) => result,
            // If it happens after all, it is given back when the worker signs off.
            () = self.stopped_for(STOP_PATIENCE) => Err(Error::new(ErrorKind::Indeterminate, "claim: no answer before the end")),
        };
        if let Some(span) = span {
            span.end(result.as_ref().err().map(|error| error as _));
        }
        let claim = match result {
            Ok(claim) => claim,
            Err(error) => {
                let now = self.now();
                let mut state = self.state();
                if error.kind() == ErrorKind::Indeterminate {
                    state.ledger.lost_answer(token, solo, now);
                    if solo {
                        // The worker is closed until a heartbeat tells whether it happened.
                        self.beat_now.notify_one();
                    }
                } else {
                    state.ledger.failed(token);
                }
                return Err(error);
            }
        };
        let claimed = u32::try_from(claim.messages.len()).unwrap_or(u32::MAX);
        lock(&self.pulse).claimed = Some(self.now());
        if let Some(metrics) = &self.metrics {
            metrics.claim_batch(claimed, total, self.now().since(sent));
        }
        if let Some(quiet) = claim.quiet_for {
            // Not for longer than it takes until the next look, even if that one hangs.
            let longest = config.idle_interval * 2;
            if quiet < longest {
                self.due_in(quiet);
            } else {
                *lock(&self.quiet_until) = Some(clock::runtime_now() + longest);
            }
        }
        let crashes = claim.messages.iter().map(|message| message.crashes).max().unwrap_or(0);
        self.take_in(claim, &incarnation);
        Ok(Taken { messages: claimed, crashes })
    }

    /// Ends the exclusivity of a claim in the storage. Only after its answer may anything be claimed beside it: until then a crash of
    /// this worker would be blamed on that message alone. If there is no answer, it is sent again.
    async fn end_exclusive(&self, claimer: &mut Claimer, token: Token) {
        let ended = tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            ended = self.within(claimer.patience, "end exclusive", self.plan.storage.end_exclusive(token)) => ended,
        };
        match ended {
            // `false`: it is closed, or this worker is condemned and claims nothing any more.
            Ok(_) => {
                self.state().ledger.end_exclusive(token);
                claimer.schedule.open(self.now());
                claimer.errors = 0;
            }
            Err(error) => self.claim_failed(claimer, &error).await,
        }
    }

    async fn stopped_for(&self, patience: Duration) {
        self.stop.cancelled().await;
        clock::sleep(patience).await;
    }

    fn take_in(self: &Arc<Self>, claim: crate::storage::Claim, incarnation: &Arc<Incarnation>) {
        let now = self.now();
        let (token, members) = (claim.token, claim.members);
        let (arrived, strays) = Arrived::new(claim, incarnation, |message| self.type_index(&message.event_type));
        let recruits = {
            let mut state = self.state();
            if incarnation.is_lost() || !state.ledger.is_in_flight(token) {
                // What it brought is given back when the old incarnation is retired, or was given up while the runtime was blocked
                // and is found by a heartbeat.
                state.ledger.failed(token);
                return;
            }
            state.claim_answered(arrived, now);
            state.recruit(self.plan.config.pool)
        };
        for slot in recruits {
            task::spawn(Arc::clone(self).runner(slot));
        }
        if !strays.is_empty() {
            tracing::error!(%token, strays = strays.len(), "the storage gave messages of types that nobody asked for");
            let run = Arc::clone(self);
            // Should it fail, the heartbeat finds the claim open and tries again.
            task::spawn(async move { run.give_back_unrun(token, members, &strays, "not asked for").await });
        }
    }

    /// Waits until there is room, or anything else that the claim loop decides by has changed, or until the moment that it named.
    async fn wait_for_change(&self, until: Option<Tick>) {
        // A missed notification costs latency only.
        let longest = Duration::from_secs(1);
        let longest = until.map_or(longest, |until| longest.min(until.since(self.now())));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = self.room.notified() => {}
            () = self.urgent.notified() => {}
            () = clock::sleep(longest) => {}
        }
    }

    async fn claim_failed(&self, claimer: &mut Claimer, error: &Error) {
        claimer.errors = claimer.errors.saturating_add(1);
        tracing::warn!(%error, "claim failed");
        self.alerts.core(ErrorEventKind::Claim, error.to_string());
        let pause = self.error_pause(claimer.errors);
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = clock::sleep(pause) => {}
        }
    }

    /// How long a loop waits after its `errors`th failure in a row.
    pub(super) fn error_pause(&self, errors: u16) -> Duration {
        let doubled = Duration::from_millis(20).saturating_mul(1 << u32::from(errors.min(8)));
        // Whoever comes back later than others after an outage is taken for dead by them.
        doubled.min(Duration::from_secs(5)).min(self.plan.config.lease / 4).mul_f64(0.5 + self.plan.random.unit() / 2.0)
    }

    /// Nothing was ready: waits for a hint or the next poll.
    async fn rest(&self, claimer: &mut Claimer, wakeups: &Wakeups) {
        let pause = claimer.backoff.pause(self.now(), &self.plan.random);
        let idle = claimer.backoff.is_idle();
        self.set_idle(idle);
        // Rarely: heartbeats report suspects too, and one follows each reclaim of this worker.
        let now = self.now();
        let seldom = self.plan.config.lease.max(self.plan.config.reclaim_interval * 2);
        if idle && claimer.suspects_looked_for.is_none_or(|at| now.since(at) >= seldom) {
            claimer.look_for_suspects = true;
            claimer.suspects_looked_for = Some(now);
        }
        claimer.errors = 0;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            hint = wakeups.next() => match hint {
                Hint::Ready => {
                    claimer.backoff.reset(self.now());
                    claimer.look_for_suspects = false;
                }
                Hint::Soon => claimer.backoff.start_burst(),
            },
            () = self.urgent.notified() => {}
            // Types at their cap were left out of the claim: any handler that ends may change that.
            () = self.room.notified(), if claimer.left_out => {}
            () = clock::sleep(pause) => {}
        }
    }

    fn set_idle(&self, idle: bool) {
        use std::sync::atomic::Ordering;
        let was = self.idle.swap(idle, Ordering::Relaxed);
        // A producer notifies only sleepers: the database must know of a sleeper at once. Waking up can wait.
        if idle && !was && self.plan.storage.capabilities().notify {
            self.beat_now.notify_one();
        }
    }

    /// A run that ends when there is nothing to do: waits for what runs, looks again for what that caused, and says
    /// whether really nothing is left that could be done.
    async fn nothing_left(&self, claimer: &mut Claimer) -> Result<bool> {
        self.until(State::is_quiet).await;
        let promoted = self.within(OPERATION_MAX, "promote", self.plan.storage.promote(1_000)).await?;
        let due = promoted.moved > 0 || promoted.next_due.is_some_and(|due| due.is_zero());
        if due {
            claimer.found_none = FoundNone::default();
            return Ok(false);
        }
        claimer.look_for_suspects = !claimer.found_none.suspect;
        // A suspect needs a worker that runs nothing else; one that is stuck, or has a handler that blocks its thread, never is.
        let state = self.state();
        Ok(claimer.found_none.ordinary && (claimer.found_none.suspect || state.is_stuck() || state.has_abandoned()))
    }

    /// Goes on under a new incarnation; the old one is retired once its last outcomes are through.
    async fn renew(self: &Arc<Self>, claimer: &mut Claimer) {
        let old = Arc::clone(&self.state().incarnation);
        self.lose_incarnation(&old, LATE);
        claimer.schedule.open(self.now());
        match self.register().await {
            Ok(()) => {
                claimer.errors = 0;
                self.state().retiring += 1;
                let run = Arc::clone(self);
                task::spawn(async move {
                    // Whatever becomes of it, the end of the run must not wait for it any more.
                    drop(AssertUnwindSafe(run.retire_old(old)).catch_unwind().await.map_err(panic::text));
                    run.state().retiring -= 1;
                    run.urgent.notify_one();
                    run.progress.notify_waiters();
                });
            }
            Err(error) => self.claim_failed(claimer, &error).await,
        }
    }

    async fn retire_old(&self, old: Arc<Incarnation>) {
        // What its handlers have finished still counts, unless it was reclaimed meanwhile.
        tokio::select! {
            biased;
            () = self.until(|state| self.retire_if_paid(state, &old)) => {}
            () = clock::sleep(self.plan.config.lease / 2) => {}
        }
        // From now on nothing of it is recorded: what it holds is given back as a whole.
        old.set_retired();
        for attempt in 1..=20 {
            let retired = self.within(OPERATION_MAX, "retire", self.plan.storage.retire(old.id, "lease lost")).await;
            match retired {
                Ok(_) => return,
                Err(error) => tracing::warn!(%error, "the old incarnation could not be retired"),
            }
            tokio::select! {
                biased;
                () = self.over.cancelled() => return,
                () = clock::sleep(self.error_pause(attempt)) => {}
            }
        }
    }

    /// Under the lock, so that no settle begins between the look and the mark.
    fn retire_if_paid(&self, state: &State, old: &Arc<Incarnation>) -> bool {
        let paid = !state.owes(old);
        if paid {
            old.set_retired();
        }
        paid
    }
}

impl Circle {
    /// A claim brought something: nothing is known of the other types.
    const fn begin_anew(&mut self) {
        (self.empty, self.unsure) = (0, false);
    }

    /// The claim that was sent last brought nothing. Once all types have been looked into: whether nothing was left in any of them.
    fn was_empty(&mut self, sure: bool) -> Option<bool> {
        self.empty += self.sent;
        self.unsure |= !sure;
        if self.empty < self.all {
            return None;
        }
        let sure = !self.unsure;
        self.begin_anew();
        Some(sure)
    }
}

impl Claimer {
    /// The crashes of the suspects that wait, as far as is known.
    fn suspects_waiting(&self, state: &State, mode: Mode) -> Option<u16> {
        // One claim is meant for ordinary work, if there is any.
        if matches!(mode, Mode::Once { .. }) && !self.found_none.ordinary {
            return None;
        }
        state.suspects.or((self.look_for_suspects && state.is_alone()).then_some(SUSPECT_CRASHES))
    }
}

/// A claim that hangs idles the whole worker: it is waited for no longer than a heartbeat. A drain has no other work to go on with,
/// and ends with the error.
fn patience(mode: Mode, lease: Duration) -> Duration {
    if mode == Mode::Forever { (lease / 3).clamp(Duration::from_secs(1), OPERATION_MAX) } else { OPERATION_MAX }
}
