//! The engine: claims, runs, settles, keeps its lease, and shuts down in stages.

mod alerts;
mod backoff;
mod claim_loop;
mod courier;
mod dead_letters;
mod failures;
mod heartbeat;
mod incarnation;
mod lanes;
mod ledger;
mod liveness;
mod outbox;
mod prefetch;
mod refusal;
mod reporter;
mod runner;
mod settle_loop;
mod state;
mod suspects;
mod type_pause;
mod upkeep;
mod verdict;

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::alerts::Alerts;
use self::courier::{Courier, Terms};
use self::dead_letters::DeadLetters;
use self::failures::Failures;
pub use self::heartbeat::on_heartbeat_thread;
use self::incarnation::{ClaimInfo, Incarnation};
use self::lanes::Capacity;
use self::liveness::Loop;
use self::outbox::Finished;
use self::reporter::Reporter;
use self::state::{Cause, Losses, Member, Running, RunningMember, State, TypeState};
use self::verdict::Facts;
use crate::client::Client;
use crate::door::clock::{self, Tick};
use crate::door::{Random, task};
use crate::error::{Error, ErrorKind, Result};
use crate::event_type::EventType;
use crate::handler::{Context, Entry, Invoke, OnDead, StateMap, Surroundings};
use crate::observe::{Alerter, ErrorEventKind, HandlerOutcome, LeaseLossPhase, Metrics, Tracer};
use crate::panic;
use crate::storage::{AnyStorage, Registration, SettleOutcome, Storage, StorageExt};
use crate::worker::{DispatchReport, WorkerConfig, WorkerHealth};

/// How long a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Until it is stopped.
    Forever,
    /// One claim.
    Once { limit: u32 },
    /// Until nothing is ready or due.
    UntilIdle,
}

/// Who is told what happens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observers {
    pub(crate) metrics: Option<Arc<dyn Metrics>>,
    pub(crate) tracer: Option<Arc<dyn Tracer>>,
    pub(crate) alerter: Option<Arc<dyn Alerter>>,
}

/// A worker's engine; each run has a state of its own.
pub(crate) struct Engine {
    blueprint: Arc<Blueprint>,
    /// The present run, for health and for the second signal.
    current: Mutex<Option<Arc<Run>>>,
}

/// What all runs of one worker share.
struct Blueprint {
    storage: AnyStorage,
    config: WorkerConfig,
    entries: Vec<Entry>,
    around: Arc<Surroundings>,
    observers: Observers,
    random: Random,
}

/// How many leases long no heartbeat is even tried before the engine counts as stuck.
const BEATS_MISSED: u32 = 2;
/// How many operations of one kind may fail in a row before a worker is not ready any more.
const FAILURES_MAX: u32 = 3;

/// When what has to happen again and again last did, for probes.
#[derive(Clone, Copy, Debug, Default)]
struct Pulse {
    /// When the runtime last ran the watchdog.
    ticked: Option<Tick>,
    /// After the runtime was late, its loops need time to be back.
    late_until: Option<Tick>,
    /// By when the loops are back; absent before they begin and after they have ended.
    claim_due: Option<Tick>,
    settle_due: Option<Tick>,
    claimed: Option<Tick>,
    beat_tried: Option<Tick>,
    beat: Option<Tick>,
    listening: Option<bool>,
}

/// One run of the engine.
struct Run {
    plan: Arc<Blueprint>,
    state: Mutex<State>,
    pulse: Mutex<Pulse>,
    /// How many runners were reported last. Locked while they are reported, so that the newest number comes last.
    reported_in_flight: Mutex<u32>,
    metrics: Option<Reporter>,
    alerts: Alerts,
    dead_calls: Courier<DeadCall>,
    dead_letters: DeadLetters,
    /// Wakes a claim loop that is full: there is room.
    room: Notify,
    /// Wakes the claim loop in any case: the incarnation is gone, suspects or returned messages wait.
    urgent: Notify,
    /// Wakes the settle loop.
    results: Notify,
    /// Wakes whoever waits for handlers or outcomes to be through.
    progress: Notify,
    /// Wakes the heartbeat: there is a new incarnation, or the worker fell asleep.
    beat_now: Notify,
    /// Wakes the promoter with the delay of what was just scheduled, in milliseconds.
    due_in_ms: AtomicU32,
    due: Notify,
    /// Until when nothing scheduled becomes due, as the last claim saw that took nothing.
    quiet_until: Mutex<Option<tokio::time::Instant>>,
    idle: AtomicBool,
    failures: Failures,
    /// When the present row of heartbeats that all succeeded began.
    unbroken_since: Mutex<Option<Tick>>,
    /// No further claims.
    stop: CancellationToken,
    /// Skip the grace.
    hurry: CancellationToken,
    /// Drop what still runs.
    abort: CancellationToken,
    /// Everything is recorded: the settle loop ends, and then the heartbeat.
    over: CancellationToken,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("storage", &self.blueprint.storage).field("config", &self.blueprint.config).finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn new(
        storage: AnyStorage,
        config: WorkerConfig,
        entries: Vec<Entry>,
        states: StateMap,
        client: Client<AnyStorage>,
        observers: Observers,
        random: Random,
    ) -> Self {
        let around = Arc::new(Surroundings { states, client, worker: config.name.clone(), clock: config.clock });
        let blueprint = Arc::new(Blueprint { storage, config, entries, around, observers, random });
        Self { blueprint, current: Mutex::new(None) }
    }

    /// Skips the grace of the present run.
    pub(crate) fn hurry(&self) {
        if let Some(run) = &*lock(&self.current) {
            run.hurry.cancel();
        }
    }

    pub(crate) fn health(&self) -> WorkerHealth {
        let Some(run) = lock(&self.current).clone() else { return WorkerHealth::default() };
        let (now, pulse, config) = (run.now(), *lock(&run.pulse), &self.blueprint.config);
        let state = run.state();
        let failures = run.failures.most(state.unsettled());
        let (over, stopping) = (run.over.is_cancelled(), run.stop.is_cancelled());
        let alive = !over && state.incarnation.is_trusted(now);
        let beats = pulse.beat_tried.is_none_or(|tried| now.since(tried) < config.lease * BEATS_MISSED);
        let live = !over && beats && !run.needs_restart(&state, now);
        let runs = run.blocked_for(now).is_none();
        WorkerHealth {
            live,
            ready: live && runs && alive && !stopping && failures < FAILURES_MAX && !Capacity::is_behind(&state, config),
            stopping,
            alive,
            last_claim: pulse.claimed.map(|claimed| now.since(claimed)),
            last_heartbeat: pulse.beat.map(|beat| now.since(beat)),
            listening: pulse.listening,
            running: state.runners(),
            queued: state.queued(),
            unsettled: state.unsettled(),
            refused: state.refused(),
            failures,
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.blueprint.entries
    }

    /// The maximum of attempts where neither message nor handler says.
    pub(crate) fn max_attempts(&self) -> u16 {
        self.blueprint.config.max_attempts
    }

    pub(crate) fn around(&self) -> &Arc<Surroundings> {
        &self.blueprint.around
    }

    /// Runs until `stop`, or until `mode` says that it is done.
    pub(crate) async fn run(&self, mode: Mode, stop: CancellationToken) -> Result<DispatchReport> {
        let run = Arc::new(Run::new(Arc::clone(&self.blueprint), stop));
        {
            let mut current = lock(&self.current);
            if current.as_ref().is_some_and(|run| !run.over.is_cancelled()) {
                return Err(Error::new(ErrorKind::Conflict, "this worker is running already; build another one"));
            }
            *current = Some(Arc::clone(&run));
        }
        // Whatever ends this future, a drop included, ends the tasks of the run.
        let _guard = EndOnDrop(Arc::clone(&run));
        let ended = run.go(mode).await;
        run.log_end(&ended);
        ended
    }
}

struct EndOnDrop(Arc<Run>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.state().forget_queue();
        self.0.stop.cancel();
        self.0.abort.cancel();
        self.0.over.cancel();
    }
}

impl Run {
    fn new(plan: Arc<Blueprint>, stop: CancellationToken) -> Self {
        let types = plan.entries.iter().map(|entry| match entry.invoke {
            Invoke::One(_) => TypeState::new(entry.options.max_in_flight, None),
            Invoke::Many { max_batch, .. } => TypeState::new(None, Some(max_batch)),
        });
        let state = State::new(types.collect());
        let clock = plan.config.clock;
        let event_types = || plan.entries.iter().map(|entry| entry.event_type.clone()).collect();
        let metrics = plan.observers.metrics.clone().map(|metrics| Reporter::new(metrics, event_types(), clock));
        let alerts = Alerts::start(plan.observers.alerter.clone(), clock);
        let dead_calls = Courier::new(DEAD_CALLS, clock, |DeadCall { on_dead, context, error }| on_dead(&context, &error));
        Self {
            state: Mutex::new(state),
            pulse: Mutex::default(),
            reported_in_flight: Mutex::new(0),
            metrics,
            alerts,
            dead_calls,
            dead_letters: DeadLetters::default(),
            room: Notify::new(),
            urgent: Notify::new(),
            results: Notify::new(),
            progress: Notify::new(),
            beat_now: Notify::new(),
            due_in_ms: AtomicU32::new(u32::MAX),
            due: Notify::new(),
            idle: AtomicBool::new(false),
            failures: Failures::default(),
            quiet_until: Mutex::new(None),
            unbroken_since: Mutex::new(None),
            stop,
            hurry: CancellationToken::new(),
            abort: CancellationToken::new(),
            over: CancellationToken::new(),
            plan,
        }
    }

    async fn go(self: &Arc<Self>, mode: Mode) -> Result<DispatchReport> {
        let registered = self.register_first(mode).await;
        if !matches!(registered, Ok(true)) {
            self.flush_hooks().await;
            return registered.map(|_| self.state().report);
        }
        self.tick(self.now());
        let mut settling = task::spawn(Arc::clone(self).settle_loop());
        let mut beating = heartbeat::start(Arc::clone(self));
        let mut watching = task::spawn(Arc::clone(self).watchdog());
        let upkeep = (mode == Mode::Forever).then(|| upkeep::start(self));

        let work = async {
            let claimed = self.claim_loop(mode).await;
            self.expect_no_more(Loop::Claim);
            drop(upkeep);
            self.finish_handlers(mode).await;
            (claimed, self.flush(self.plan.config.shutdown_grace.max(self.plan.config.lease)).await)
        };
        let worked = tokio::select! {
            biased;
            done = work => Ok(done),
            // Rather no worker than one that keeps its lease and records nothing.
            ended = &mut settling => Err(panicked("the settle loop", ended)),
            ended = &mut watching => Err(panicked("the watchdog", ended)),
            () = beating.ended() => Err(panicked("the heartbeat", Ok(()))),
        };
        self.over.cancel();
        let (claimed, flushed) = match worked {
            Ok(worked) => worked,
            Err(error) => {
                self.flush_hooks().await;
                return Err(error);
            }
        };
        let _ = settling.await;
        beating.ended().await;
        watching.abort();
        if flushed {
            self.retire("shutdown").await;
        }
        self.flush_hooks().await;
        claimed?;
        // Whoever waits for the outcomes of a drain must not take a report for them.
        if !flushed && mode != Mode::Forever {
            return Err(self.state().unrecorded());
        }
        Ok(self.state().report)
    }

    fn log_end(&self, ended: &Result<DispatchReport>) {
        self.log_more_dead(None);
        let worker = &self.plan.config.name;
        match ended {
            Ok(DispatchReport { claimed, succeeded, skipped, retried, dead, released, lost }) => {
                tracing::info!(%worker, claimed, succeeded, skipped, retried, dead, released, lost, "worker ended");
            }
            Err(error) => tracing::error!(%worker, %error, "worker ended with an error"),
        }
    }

    /// Logs how many messages died that were not logged by themselves, of the windows that are over by `now`, or of all.
    fn log_more_dead(&self, now: Option<Tick>) {
        for (type_index, count) in self.dead_letters.close(now) {
            let (event_type, worker) = (&self.plan.entries[type_index].event_type, &self.plan.config.name);
            tracing::error!(%event_type, %worker, count, "more messages are dead");
        }
    }

    /// Waits until the application's callbacks have what they were sent, all of them together for [`HOOKS_MAX`] at most.
    async fn flush_hooks(&self) {
        let metrics = async {
            if let Some(metrics) = &self.metrics {
                metrics.delivered().await;
            }
        };
        let all = futures_util::future::join3(self.dead_calls.delivered(), self.alerts.flush(), metrics);
        tokio::select! {
            biased;
            _ = all => {}
            () = clock::sleep(HOOKS_MAX) => {
                let on_dead = self.dead_calls.abandon();
                let metrics = self.metrics.as_ref().map_or(0, Reporter::abandon);
                tracing::error!(on_dead, metrics, "callbacks have not ended within {HOOKS_MAX:?}; the worker ends without them");
            }
        }
    }

    /// Registers the first incarnation. A worker that runs for ever waits for a storage that is only unavailable; `false`: it was
    /// told to stop first.
    async fn register_first(&self, mode: Mode) -> Result<bool> {
        let (mut errors, mut is_current) = (0_u16, false);
        loop {
            let registered = tokio::select! {
                biased;
                registered = self.register_if_current(&mut is_current) => registered,
                // Should it happen after all, nothing is ever claimed under it, and it runs out by itself.
                () = self.stop.cancelled() => return Ok(false),
            };
            let Err(error) = registered else { return Ok(true) };
            if mode != Mode::Forever || !error.is_transient() {
                return Err(error);
            }
            errors = errors.saturating_add(1);
            tracing::warn!(%error, worker = %self.plan.config.name, "the worker could not register yet");
            self.alerts.core(ErrorEventKind::Storage, error);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(false),
                () = clock::sleep(self.error_pause(errors)) => {}
            }
        }
    }

    /// Registers, if the schema is one that the storage can work with.
    async fn register_if_current(&self, is_current: &mut bool) -> Result<()> {
        if !*is_current {
            limited(self.plan.config.lease, self.plan.storage.check_schema()).await?;
            *is_current = true;
        }
        self.register().await
    }

    /// Registers a new incarnation.
    async fn register(&self) -> Result<()> {
        let config = &self.plan.config;
        let sent = self.now();
        let incarnation = Arc::new(Incarnation::new(self.trust_from(sent)));
        let registration = Registration::new(incarnation.id, config.name.clone(), self.event_types(), config.lease);
        self.within(config.lease, "register", self.plan.storage.register(&registration)).await?;
        tracing::info!(worker = %config.name, incarnation = %incarnation.id, "worker registered");
        self.state().incarnation = incarnation;
        lock(&self.pulse).beat = Some(sent);
        self.beat_now.notify_one();
        Ok(())
    }

    /// Until when a lease that was asked for at `sent` is trusted: it may have begun to run the moment it was sent.
    fn trust_from(&self, sent: Tick) -> Tick {
        let lease = self.plan.config.lease;
        let margin = (lease / 10).min(Duration::from_secs(1));
        sent.after(lease - margin)
    }

    /// The second half of the stages: give back what has not started, let handlers finish during the grace, cancel them,
    /// and drop those that do not end.
    async fn finish_handlers(self: &Arc<Self>, mode: Mode) {
        let config = &self.plan.config;
        if mode == Mode::Forever {
            self.give_back_queue("shutdown");
        }
        let grace = if mode == Mode::Forever || self.stop.is_cancelled() { Some(config.shutdown_grace) } else { None };
        tokio::select! {
            biased;
            () = self.until(State::has_no_runners) => return,
            () = self.hurry.cancelled() => {}
            () = sleep_or_forever(grace) => {}
        }
        self.state().cancel_all(Cause::Shutdown);
        // Each runner drops its handler `abandon_after` after the cancellation, unless the handler blocks the thread.
        tokio::select! {
            biased;
            () = self.until(State::has_no_runners) => return,
            () = clock::sleep(config.abandon_after + Duration::from_millis(500)) => {}
        }
        // Handlers that block their thread cannot be dropped; their messages are given back all the same.
        let give_back =
            |running: &Running, member: RunningMember| self.given_back(running.type_index, member.claim, member.facts, "shutdown");
        let blocked = self.abandon(|_| true, give_back);
        tracing::warn!(blocked, "handlers block their threads and were abandoned");
    }

    /// Waits until every outcome is recorded and old incarnations are gone; `false` when outcomes took too long or are refused for
    /// good, so that the lease is left to run out.
    async fn flush(&self, limit: Duration) -> bool {
        self.results.notify_one();
        tokio::select! {
            biased;
            () = self.until(|state| state.is_paid() || state.is_stuck()) => {}
            () = clock::sleep(limit) => {}
        }
        let unsettled = self.state().unsettled();
        if unsettled > 0 {
            tracing::error!(unsettled, "outcomes could not be recorded before the end; their messages will run again");
        }
        unsettled == 0
    }

    /// Waits until the state is as wanted. Whoever changes the state that is waited for calls [`Self::progress`].
    async fn until(&self, wanted: impl Fn(&State) -> bool) {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if wanted(&self.state()) {
                return;
            }
            progress.await;
        }
    }

    fn give_back_queue(&self, reason: &str) {
        self.state().give_back(|Member { claim, type_index, message }| self.given_back(type_index, claim, Facts::of(&message), reason));
        self.results.notify_one();
        self.progress.notify_waiters();
    }

    pub(super) fn given_back(&self, type_index: usize, claim: Arc<ClaimInfo>, facts: Facts, reason: &str) -> Finished {
        let other = SettleOutcome::Released { reason: reason.to_owned() };
        Finished::new(claim, type_index, facts, (HandlerOutcome::Released, Some(other)))
    }

    /// Gives everything back that the present incarnation still holds, and removes it.
    async fn retire(&self, reason: &str) {
        let incarnation = Arc::clone(&self.state().incarnation);
        incarnation.set_retired();
        let limit = self.plan.config.lease;
        if let Err(error) = self.within(limit, "retire", self.plan.storage.retire(incarnation.id, reason)).await {
            tracing::warn!(%error, "the worker could not sign off; its lease runs out by itself");
        }
    }

    /// Drops what an incarnation holds, unless that was done: its lease is gone, or cannot be trusted any more.
    fn lose_incarnation(&self, incarnation: &Arc<Incarnation>, why: &str) {
        let Some(losses) = self.state().lose_incarnation(incarnation) else { return };
        *lock(&self.unbroken_since) = None;
        tracing::error!(worker = %self.plan.config.name, why, lost = losses.len(), "lease lost");
        self.alerts.core(ErrorEventKind::Lease, Error::new(ErrorKind::LeaseLost, why.to_owned()));
        self.report_losses(&losses);
        self.urgent.notify_one();
        self.results.notify_one();
        self.progress.notify_waiters();
    }

    fn report_losses(&self, losses: &Losses) {
        let Some(metrics) = &self.metrics else { return };
        for (type_index, phase) in losses {
            metrics.lease_lost(*type_index, *phase);
            if *phase == LeaseLossPhase::Queued {
                metrics.lost_unrun(*type_index);
            }
        }
    }

    /// Runs an operation of the storage with a limit of the engine's own: adapters have theirs, and no loop may hang if one fails.
    async fn within<T>(&self, limit: Duration, operation: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let result = limited(limit, call).await;
        self.failures.note(operation, &result);
        result.map_err(|error| error.during(operation))
    }

    /// Tells the promoter that something is due in `delay`.
    fn due_in(&self, delay: Duration) {
        let millis = u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
        self.due_in_ms.fetch_min(millis, Ordering::SeqCst);
        self.due.notify_one();
    }

    fn event_types(&self) -> Vec<EventType> {
        self.plan.entries.iter().map(|entry| entry.event_type.clone()).collect()
    }

    fn type_index(&self, event_type: &EventType) -> Option<usize> {
        self.plan.entries.iter().position(|entry| entry.event_type == *event_type)
    }

    fn now(&self) -> Tick {
        self.plan.config.clock.now()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

async fn limited<T>(limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        result = call => result,
        () = clock::sleep(limit) => Err(Error::new(ErrorKind::Indeterminate, format!("no answer within {limit:?}"))),
    }
}

fn panicked(what: &str, ended: Result<(), tokio::task::JoinError>) -> Error {
    let error = Error::new(ErrorKind::Internal, format!("{what} panicked"));
    match ended.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(()) => error,
        Err(Ok(payload)) => error.with_source(panic::text(payload)),
        Err(Err(cancelled)) => error.with_source(cancelled),
    }
}

/// A call of an `on_dead` callback.
struct DeadCall {
    on_dead: OnDead,
    context: Context,
    error: String,
}

/// How `on_dead` is called: one call after the other, in the order in which the deaths were recorded.
const DEAD_CALLS: Terms = Terms { name: "tickr-on-dead", queue_max: 1_024, at_once: 1, linger: Duration::ZERO };

/// How long the end of a run waits for the application's callbacks: metrics, alerts and `on_dead` together.
const HOOKS_MAX: Duration = Duration::from_secs(10);

/// How long the engine itself waits for one operation of the storage.
const OPERATION_MAX: Duration = Duration::from_secs(60);

/// Why an incarnation that nobody answered is lost.
const LATE: &str = "the lease could not be extended in time";

async fn sleep_or_forever(limit: Option<Duration>) {
    match limit {
        Some(limit) => clock::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// A poisoned lock is taken all the same: handlers' panics never happen under one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
