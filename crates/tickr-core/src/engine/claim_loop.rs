//! Claims: how much, when, and what if there is nothing.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::backoff::PollBackoff;
use super::incarnation::Incarnation;
use super::lanes::{Capacity, suspect_groups};
use super::liveness::Loop;
use super::state::State;
use super::{LATE, Mode, OPERATION_MAX, Run, lock};
use crate::door::clock::{self, Tick};
use crate::door::task;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Token;
use crate::notify::{Hint, Wakeups};
use crate::observe::ErrorEventKind;
use crate::storage::{ClaimRequest, ClaimedMessage, LaneRequest, Lock, Storage};

/// The lease under which one busy worker of many empties itself for a suspect.
const SUSPECTS_LOCK: &str = "suspects";
/// How long a worker at most claims nothing for a suspect's sake, unless its lease is longer.
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// How long the answer of a claim is waited for after the worker was told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What the claim loop does next.
enum Step {
    /// The incarnation is gone: register a new one.
    Renew,
    /// Send this claim.
    Claim { groups: Vec<LaneRequest>, total: u32, solo: bool },
    /// Nothing may be claimed until something changes.
    Full,
}

/// The claim loop's own memory.
struct Claimer {
    round: u64,
    /// Turns of claims for suspects.
    suspect_round: u64,
    backoff: PollBackoff,
    /// Look for suspects in the next claim, if the worker holds nothing.
    look_for_suspects: bool,
    /// When an idle worker did so last.
    suspects_looked_for: Option<Tick>,
    /// Which kinds of claim found nothing since the last one that did.
    found_none: FoundNone,
    /// The last claim left out types that are at their cap.
    left_out: bool,
    /// When the last claim was sent, nothing of this worker's could come back behind it any more.
    sent_quiet: bool,
    drain: Option<Drain>,
    next_drain: Tick,
    errors: u16,
    /// How long one operation is waited for.
    patience: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct FoundNone {
    ordinary: bool,
    suspect: bool,
}

/// The worker holds the lock and empties itself.
struct Drain {
    lock: Lock,
    renew_at: Tick,
    until: Tick,
}

impl Run {
    /// Claims until stopped, or until `mode` is fulfilled.
    pub(super) async fn claim_loop(self: &Arc<Self>, mode: Mode) -> Result<()> {
        let config = &self.plan.config;
        let wakeups = self.plan.storage.wakeups().subscribe(&self.event_types());
        let mut claimer = Claimer {
            round: 0,
            suspect_round: 0,
            backoff: PollBackoff::new(config.poll_interval, config.idle_interval, self.now()),
            look_for_suspects: false,
            suspects_looked_for: None,
            found_none: FoundNone::default(),
            left_out: false,
            sent_quiet: false,
            drain: None,
            next_drain: Tick::default(),
            errors: 0,
            patience: patience(mode, config.lease),
        };
        let mut budget = match mode {
            Mode::Once { limit } => limit,
            Mode::Forever | Mode::UntilIdle => u32::MAX,
        };
        // Longer than one round may take: a claim, up to two operations on a lock, a registration, and a rest.
        let round_max = OPERATION_MAX * 2 + config.lease + config.idle_interval;
        while !self.stop.is_cancelled() {
            if mode == Mode::Forever {
                self.expect_back(Loop::Claim, round_max);
            }
            // This loop may run on a thread of its own, that of `Runtime::block_on`, while nothing that it claims could start.
            if self.blocked_for(self.now()).is_some() {
                self.wait_for_change(&claimer).await;
                continue;
            }
            let claimed = match self.next_step(&mut claimer, budget) {
                Step::Renew => {
                    self.renew(&mut claimer).await;
                    continue;
                }
                // What the storage refuses leaves no room for more.
                Step::Full if mode != Mode::Forever && self.state().is_stuck() => break,
                Step::Full => {
                    self.drain_for_suspects(&mut claimer).await;
                    self.wait_for_change(&claimer).await;
                    continue;
                }
                Step::Claim { groups, total, solo } => {
                    *(if solo { &mut claimer.suspect_round } else { &mut claimer.round }) += 1;
                    let claimed = self.claim(groups, total, solo, claimer.patience).await;
                    match (&claimed, solo) {
                        (Ok(0), true) => {
                            claimer.found_none.suspect = true;
                            self.no_more_suspects(&mut claimer).await;
                            if mode == Mode::Forever {
                                continue;
                            }
                        }
                        // Of types that were left out nothing is known, nor of what came back while the claim looked.
                        (Ok(0), false) => claimer.found_none.ordinary = claimer.sent_quiet && !claimer.left_out,
                        _ => claimer.found_none = FoundNone::default(),
                    }
                    claimed
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
        if let Some(drain) = claimer.drain.take() {
            self.give_up_drain(drain).await;
        }
        Ok(())
    }

    fn next_step(&self, claimer: &mut Claimer, budget: u32) -> Step {
        let now = self.now();
        let mut state = self.state();
        if !state.incarnation.is_trusted(now) {
            return Step::Renew;
        }
        for kind in &mut state.types {
            kind.rate.measure(now);
        }
        let empty = state.is_empty();
        claimer.sent_quiet = state.is_quiet();
        let alone = empty && !state.ledger.is_in_doubt();
        if alone && (claimer.look_for_suspects || state.suspects) {
            claimer.look_for_suspects = false;
            return Step::Claim {
                groups: suspect_groups(&self.plan.entries, &self.plan.config, claimer.suspect_round),
                total: 1,
                solo: true,
            };
        }
        // A suspect runs alone; and while the worker empties itself for one it claims nothing else.
        if state.ledger.holds_solo() || state.ledger.doubts_solo() || (claimer.drain.is_some() && !empty) {
            return Step::Full;
        }
        let wants_drain = state.suspects && claimer.drain.is_none() && now >= claimer.next_drain;
        let capacity = Capacity::of(&state, &self.plan.config);
        if wants_drain || !capacity.is_due(&state) {
            return Step::Full;
        }
        claimer.left_out = capacity.leaves_out();
        let groups = capacity.groups(&self.plan.entries, &state, &self.plan.config, claimer.round);
        Step::Claim { groups, total: capacity.total.min(budget), solo: false }
    }

    /// Sends one claim and takes its answer in; gives how many messages it brought.
    async fn claim(self: &Arc<Self>, groups: Vec<LaneRequest>, total: u32, solo: bool, patience: Duration) -> Result<u32> {
        let config = &self.plan.config;
        let token = Token::new();
        let incarnation = {
            let mut state = self.state();
            state.ledger.sent(token);
            Arc::clone(&state.incarnation)
        };
        let request = ClaimRequest { worker: incarnation.id, worker_name: config.name.clone(), token, groups, total, solo };
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
        self.take_in(claim, &incarnation);
        Ok(claimed)
    }

    async fn stopped_for(&self, patience: Duration) {
        self.stop.cancelled().await;
        clock::sleep(patience).await;
    }

    fn take_in(self: &Arc<Self>, mut claim: crate::storage::Claim, incarnation: &Arc<Incarnation>) {
        let now = self.now();
        let (token, members) = (claim.token, claim.members);
        let is_stray = |message: &mut ClaimedMessage| self.type_index(&message.event_type).is_none();
        let strays: Vec<ClaimedMessage> = claim.messages.extract_if(.., is_stray).collect();
        let recruits = {
            let mut state = self.state();
            if incarnation.is_lost() || !state.ledger.is_in_flight(claim.token) {
                // What it brought is given back when the old incarnation is retired, or was given up while the runtime was blocked
                // and is found by a heartbeat.
                state.ledger.failed(claim.token);
                return;
            }
            state.claim_answered(claim, incarnation, now, |message: &ClaimedMessage| self.type_index(&message.event_type));
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

    /// Waits until there is room, or anything else that the claim loop decides by has changed.
    async fn wait_for_change(&self, claimer: &Claimer) {
        // A missed notification costs latency only; the lock of a drain must be renewed in time.
        let longest = if claimer.drain.is_some() { self.plan.config.lease / 6 } else { Duration::from_secs(1) };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = self.room.notified() => {}
            () = self.urgent.notified() => {}
            () = clock::sleep(longest.min(Duration::from_secs(1))) => {}
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
        // Seldom: heartbeats tell of suspects too, and a reclaim of this worker's own at once.
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
        // A suspect runs alone, and whoever is stuck holds something for good.
        Ok(claimer.found_none.ordinary && (claimer.found_none.suspect || self.state().is_stuck()))
    }

    /// Goes on under a new incarnation; the old one is retired once its last outcomes are through.
    async fn renew(self: &Arc<Self>, claimer: &mut Claimer) {
        let old = Arc::clone(&self.state().incarnation);
        self.lose_incarnation(&old, LATE);
        claimer.drain = None;
        match self.register().await {
            Ok(()) => {
                claimer.errors = 0;
                self.state().retiring += 1;
                let run = Arc::clone(self);
                task::spawn(async move {
                    // Whatever becomes of it, the end of the run must not wait for it any more.
                    drop(AssertUnwindSafe(run.retire_old(old)).catch_unwind().await);
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

    // --- suspects on a busy worker --------------------------------------------------------------------------------

    /// Suspects wait and this worker is busy: one worker of all, the one with the lock, empties itself.
    async fn drain_for_suspects(&self, claimer: &mut Claimer) {
        self.go_on_draining(claimer).await;
        let now = self.now();
        if claimer.drain.is_some() || now < claimer.next_drain || !self.state().suspects {
            return;
        }
        claimer.next_drain = now.after(self.plan.config.lease / 3);
        let worker = self.state().incarnation.id;
        let lease = self.plan.config.lease;
        let taken = self.within(claimer.patience, "acquire lock", self.plan.storage.acquire_lock(SUSPECTS_LOCK, worker, lease)).await;
        match taken {
            Ok(Some(lock)) => {
                tracing::debug!("emptying this worker for a suspect");
                claimer.drain = Some(Drain { lock, renew_at: now.after(lease / 3), until: now.after(self.drain_max()) });
                self.urgent.notify_one();
            }
            Ok(None) => {
                self.state().suspects = false;
                self.urgent.notify_one();
            }
            Err(error) => tracing::warn!(%error, "the lock for suspects could not be taken"),
        }
    }

    /// Keeps the lock of a drain, and ends one that takes too long.
    async fn go_on_draining(&self, claimer: &mut Claimer) {
        let (now, lease) = (self.now(), self.plan.config.lease);
        let Some(drain) = &mut claimer.drain else { return };
        let goes_on = if now >= drain.until {
            false
        } else if now >= drain.renew_at {
            drain.renew_at = now.after(lease / 3);
            let renewed = self.within(claimer.patience, "renew lock", self.plan.storage.renew_lock(&drain.lock, lease)).await;
            // An error says nothing; the lock is only there to spare other workers the same.
            renewed.unwrap_or(true)
        } else {
            true
        };
        if !goes_on && let Some(drain) = claimer.drain.take() {
            claimer.next_drain = now.after(lease);
            self.give_up_drain(drain).await;
        }
    }

    /// How long a drain may take: as long as handlers that keep to their timeout. Those without one are not waited for longer.
    fn drain_max(&self) -> Duration {
        let config = &self.plan.config;
        let timeouts = self.plan.entries.iter().filter_map(|entry| entry.options.timeout);
        timeouts.max().map_or(config.lease, |longest| (longest + config.abandon_after).min(DRAIN_MAX).max(config.lease))
    }

    async fn no_more_suspects(&self, claimer: &mut Claimer) {
        self.state().suspects = false;
        if let Some(drain) = claimer.drain.take() {
            self.give_up_drain(drain).await;
        }
    }

    async fn give_up_drain(&self, drain: Drain) {
        if let Err(error) = self.within(OPERATION_MAX, "release lock", self.plan.storage.release_lock(&drain.lock)).await {
            tracing::debug!(%error, "the lock for suspects runs out by itself");
        }
    }
}

/// A claim that hangs idles the whole worker: it is waited for no longer than a heartbeat. A drain has no other work to go on with,
/// and ends with the error.
fn patience(mode: Mode, lease: Duration) -> Duration {
    if mode == Mode::Forever { (lease / 3).clamp(Duration::from_secs(1), OPERATION_MAX) } else { OPERATION_MAX }
}
