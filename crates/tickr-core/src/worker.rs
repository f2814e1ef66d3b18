//! The worker: configuration, builder, handle.

use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_layer::Layer;
use tower_service::Service;

use crate::client::Client;
use crate::door::{Clock, Random, task};
use crate::engine::{Engine, Mode};
use crate::error::{Error, ErrorKind, Result};
use crate::event_type::is_printable;
use crate::handler::{
    AnyLayer, BatchEvent, BatchHandler, Call, Entry, ExponentialBackoff, Failure, Handler, HandlerService, NamesEvent, Registry, StateMap,
    Verdict,
};
use crate::observe::{Alerter, Guarded, GuardedTracer, Metrics, Tracer};
use crate::signal;
use crate::storage::{AnyStorage, Retention, Storage};

/// How many messages a worker claims beyond those that it can start at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prefetch {
    /// What the type's handlers finish in `window` at the measured rate, at most `max` messages.
    Adaptive {
        /// How far ahead (default 100 ms).
        window: Duration,
        /// The most (default 2000).
        max: u32,
    },
    /// Always this many; 0 for none.
    Fixed(u32),
}

/// How a worker behaves. Every default is meant for production.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerConfig {
    /// The name, for people (default host-pid). Incarnations are told apart by an id of their own.
    pub name: String,
    /// How many handlers run at a time (default 32).
    pub pool: u32,
    /// How many messages one claim brings at most (default 100; prefetch may ask for more).
    pub batch: u32,
    /// How far ahead messages are claimed (default adaptive: 100 ms, at most 2000). Types with a cap are never prefetched.
    pub prefetch: Prefetch,
    /// How many bytes of bodies may wait here for their handlers, of one event type and beyond the pool (default 64 MiB). An estimate by
    /// the bodies seen so far: of large ones fewer are claimed ahead than [`prefetch`](Self::prefetch) says.
    pub prefetch_bytes: usize,
    /// The longest pause between polls while there was work in the last second (default 100 ms).
    pub poll_interval: Duration,
    /// The longest pause between polls of an idle worker (default 2 s).
    pub idle_interval: Duration,
    /// How long the worker may be silent before its work is given to others (default 30 s, at least 100 ms). Extended
    /// by itself every third of it; handlers may run for hours. A claim is waited for as long, and at least a second.
    pub lease: Duration,
    /// How long handlers may go on after a shutdown was asked for (default 30 s).
    pub shutdown_grace: Duration,
    /// How long a cancelled handler may take to end before it is abandoned (default 5 s).
    pub abandon_after: Duration,
    /// How often work of dead workers is looked for (default 5 s); by a worker that sleeps, every third of its lease if that is longer.
    pub reclaim_interval: Duration,
    /// How often what its retention has passed is purged (default 1 min).
    pub purge_interval: Duration,
    /// How many rows one purge deletes at most (default 5000).
    pub purge_batch: u32,
    /// How long things are kept.
    pub retention: Retention,
    /// How often the queue is sampled for metrics and alerts (default 15 s; `None`: never).
    pub stats_interval: Option<Duration>,
    /// How often a message is tried when neither it nor its handler says (default 10).
    pub max_attempts: u16,
    /// Whether this worker takes back work of dead workers (default yes).
    pub reclaimer: bool,
    /// Whether this worker purges (default yes).
    pub janitor: bool,
    /// Whether this worker listens to the database's notifications (default yes).
    pub notifier: bool,
    /// Which clock leases are trusted by.
    pub clock: Clock,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            name: default_name(),
            pool: 32,
            batch: 100,
            prefetch: Prefetch::Adaptive { window: Duration::from_millis(100), max: 2_000 },
            prefetch_bytes: 64 << 20,
            poll_interval: Duration::from_millis(100),
            idle_interval: Duration::from_secs(2),
            lease: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(30),
            abandon_after: Duration::from_secs(5),
            reclaim_interval: Duration::from_secs(5),
            purge_interval: Duration::from_secs(60),
            purge_batch: 5_000,
            retention: Retention::default(),
            stats_interval: Some(Duration::from_secs(15)),
            max_attempts: 10,
            reclaimer: true,
            janitor: true,
            notifier: true,
            clock: Clock::Boot,
        }
    }
}

fn default_name() -> String {
    format!("{}-{}", host_name(), std::process::id())
}

#[cfg(unix)]
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Windows has no `uname`; it names the machine in the environment.
#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "host".to_owned())
}

impl WorkerConfig {
    /// The shortest lease.
    pub const LEASE_MIN: Duration = crate::storage::LEASE_MIN;
    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn check(&self) -> Result<()> {
        if self.name.is_empty() || self.name.len() > 255 || !self.name.chars().all(is_printable) {
            return Err(Error::config("the worker's name must have 1 to 255 printable bytes"));
        }
        if self.lease < Self::LEASE_MIN || self.lease > Self::DAY {
            return Err(Error::config(format!("lease is {:?}; it must be 100 ms to one day", self.lease)));
        }
        if !(1..=100_000).contains(&self.pool) {
            return Err(Error::config(format!("pool is {}; it must be 1 to 100000", self.pool)));
        }
        if !(1..=10_000).contains(&self.batch) {
            return Err(Error::config(format!("batch is {}; it must be 1 to 10000", self.batch)));
        }
        let prefetch = match self.prefetch {
            Prefetch::Adaptive { max, .. } | Prefetch::Fixed(max) => max,
        };
        if prefetch > 100_000 {
            return Err(Error::config(format!("prefetch is {prefetch}; it must be at most 100000")));
        }
        if self.max_attempts == 0 {
            return Err(Error::config("max_attempts is 0; a message needs at least one"));
        }
        if !(1..=100_000).contains(&self.purge_batch) {
            return Err(Error::config(format!("purge_batch is {}; it must be 1 to 100000", self.purge_batch)));
        }
        for (name, value) in [
            ("poll_interval", self.poll_interval),
            ("idle_interval", self.idle_interval),
            ("reclaim_interval", self.reclaim_interval),
            ("purge_interval", self.purge_interval),
            ("stats_interval", self.stats_interval.unwrap_or(Duration::from_secs(1))),
        ] {
            if value < Duration::from_millis(1) || value > Self::DAY {
                return Err(Error::config(format!("{name} is {value:?}; it must be 1 ms to one day")));
            }
        }
        for (name, value) in [("shutdown_grace", self.shutdown_grace), ("abandon_after", self.abandon_after)] {
            if value > Self::DAY {
                return Err(Error::config(format!("{name} is {value:?}; it must be at most one day")));
            }
        }
        self.retention.check()
    }
}

/// Claims messages and calls handlers with them, until told to stop.
///
/// Any number of workers, in any number of processes, share a queue.
///
/// ```
/// use tickr_core::{Client, Context, Failure, MemoryStorage, Message, Worker};
///
/// async fn confirm(context: Context) -> Result<(), Failure> {
///     println!("{} is confirmed at attempt {}", context.id(), context.attempt());
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> tickr_core::Result<()> {
/// let storage = MemoryStorage::new();
/// let worker = Worker::builder(storage.clone()).on("order.placed", confirm).pool(16).build()?;
/// Client::new(storage).enqueue(Message::new("order.placed", r#"{"order":7}"#)).await?;
///
/// // In a service: `worker.run_until(shutdown_signal()).await?`, or a task of its own.
/// let running = worker.spawn();
/// # while running.health().last_claim.is_none() { tokio::task::yield_now().await; }
/// assert!(running.health().live);
/// running.shutdown();
/// running.join().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Worker {
    engine: Engine,
}

impl Worker {
    /// Starts to build a worker on `storage`.
    pub fn builder(storage: impl Storage) -> WorkerBuilder {
        WorkerBuilder {
            storage: AnyStorage::new(storage),
            config: WorkerConfig::default(),
            states: StateMap::default(),
            registry: Registry::new(),
            layers: Vec::new(),
            metrics: None,
            tracer: None,
            alerter: None,
            random: Random::from_entropy(),
        }
    }

    /// Runs until the process ends (or the future is dropped, which leaves leased work to be reclaimed).
    ///
    /// A worker that cannot register because the storage is blocked waits for it: see [`run_until`](Self::run_until).
    ///
    /// # Errors
    /// As [`run_until`](Self::run_until).
    pub async fn run(&self) -> Result<()> {
        self.run_until(std::future::pending()).await
    }

    /// Runs until `shutdown` is ready, then shuts down in stages: claims no more, gives back what has not started, lets
    /// handlers finish during the grace, cancels the rest and gives it back.
    ///
    /// After [`shutdown_signal`](crate::shutdown_signal) a second signal skips the grace.
    ///
    /// # Errors
    /// When the worker cannot start: the schema is not usable or cannot be looked at, or the storage refuses the registration.
    /// A registration that fails because the storage is unavailable for a while is repeated, with back-off, until it succeeds
    /// or `shutdown` is ready; meanwhile the worker is not [`alive`](WorkerHealth::alive).
    ///
    /// Once it runs, errors are retried, logged and reported to the alerter. An outcome that the storage refuses for good
    /// shows in [`WorkerHealth::refused`], and its message runs again when the worker has gone.
    pub async fn run_until(&self, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        let stop = CancellationToken::new();
        let run = self.engine.run(Mode::Forever, stop.clone());
        tokio::pin!(run, shutdown);
        tokio::select! {
            biased;
            result = &mut run => return result.map(drop),
            () = &mut shutdown => stop.cancel(),
        }
        let second = signal::second();
        tokio::pin!(second);
        tokio::select! {
            biased;
            result = &mut run => return result.map(drop),
            () = &mut second => self.engine.hurry(),
        }
        run.await.map(drop)
    }

    /// Runs in a task of its own.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(self) -> WorkerHandle {
        let stop = CancellationToken::new();
        let worker = Arc::new(self);
        let running = Arc::clone(&worker);
        let until = stop.clone();
        let task = task::spawn(async move { running.engine.run(Mode::Forever, until).await.map(drop) });
        WorkerHandle { worker, stop, task }
    }

    /// Claims once, at most `limit` messages, and returns when their outcomes are recorded.
    ///
    /// # Errors
    /// As [`run_until`](Self::run_until), when the claim fails, and when outcomes could not be recorded: the error names them.
    pub async fn run_once(&self, limit: u32) -> Result<DispatchReport> {
        if limit == 0 {
            return Err(Error::config("run_once needs a limit of at least 1"));
        }
        self.engine.run(Mode::Once { limit }, CancellationToken::new()).await
    }

    /// Works until nothing is ready or due, and returns when all outcomes are recorded. Messages that are scheduled for
    /// later, paused, or of types without a handler here are not waited for.
    ///
    /// # Errors
    /// As [`run_until`](Self::run_until), when a claim fails, and when nothing is left but outcomes that the storage refuses
    /// again and again with an error that does not pass by itself: the error names them. Their messages run again once the
    /// lease has run out.
    pub async fn run_until_idle(&self) -> Result<DispatchReport> {
        self.engine.run(Mode::UntilIdle, CancellationToken::new()).await
    }

    /// How the worker is doing.
    pub fn health(&self) -> WorkerHealth {
        self.engine.health()
    }

    pub(crate) const fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Builds a [`Worker`].
#[derive(Debug)]
#[must_use]
pub struct WorkerBuilder {
    storage: AnyStorage,
    config: WorkerConfig,
    states: StateMap,
    registry: Registry,
    layers: Vec<AnyLayer>,
    metrics: Option<Arc<dyn Metrics>>,
    tracer: Option<Arc<dyn Tracer>>,
    alerter: Option<Arc<dyn Alerter>>,
    random: Random,
}

macro_rules! config_setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty),* $(,)?) => {
        impl WorkerBuilder {
            $($(#[$doc])*
            pub fn $name(mut self, value: $type) -> Self {
                self.config.$name = value;
                self
            })*
        }
    };
}

config_setters! {
    /// How many handlers run at a time (default 32).
    pool: u32,
    /// How many messages one claim brings at most (default 100).
    batch: u32,
    /// How far ahead messages are claimed.
    prefetch: Prefetch,
    /// How many bytes of bodies are claimed ahead, of one event type (default 64 MiB; an estimate).
    prefetch_bytes: usize,
    /// The longest pause between polls while there was work in the last second (default 100 ms).
    poll_interval: Duration,
    /// The longest pause between polls of an idle worker (default 2 s).
    idle_interval: Duration,
    /// How long the worker may be silent before its work is given to others (default 30 s, at least 100 ms).
    lease: Duration,
    /// How long handlers may go on after a shutdown was asked for (default 30 s).
    shutdown_grace: Duration,
    /// How long a cancelled handler may take to end before it is abandoned (default 5 s).
    abandon_after: Duration,
    /// How often work of dead workers is looked for (default 5 s).
    reclaim_interval: Duration,
    /// How often what its retention has passed is purged (default 1 min).
    purge_interval: Duration,
    /// How many rows one purge deletes at most (default 5000).
    purge_batch: u32,
    /// How long things are kept.
    retention: Retention,
    /// How often the queue is sampled (default 15 s; `None`: never).
    stats_interval: Option<Duration>,
    /// How often a message is tried when neither it nor its handler says (default 10).
    max_attempts: u16,
    /// Whether this worker takes back work of dead workers (default yes).
    reclaimer: bool,
    /// Whether this worker purges (default yes).
    janitor: bool,
    /// Whether this worker listens to the database's notifications (default yes).
    notifier: bool,
    /// Which clock leases are trusted by.
    clock: Clock,
}

impl WorkerBuilder {
    /// Replaces the whole configuration.
    pub fn config(mut self, config: WorkerConfig) -> Self {
        self.config = config;
        self
    }

    /// The name, for people (default host-pid).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    /// Seeds all jitter, that of the default retry policy included, for tests that repeat.
    pub fn seed(mut self, seed: u64) -> Self {
        self.random = Random::seeded(seed);
        self
    }

    /// Gives handlers a value of the application: they take it as `State<T>`. One value per type; the last one stays.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Calls `handler` for messages of `event_type`; see [`Registry::on`].
    pub fn on<Args>(mut self, event_type: &str, handler: impl Handler<Args>) -> Self {
        self.registry = self.registry.on(event_type, handler);
        self
    }

    /// Calls `handler` for messages of the event that its arguments name; see [`Registry::on_event`].
    pub fn on_event<Args: NamesEvent<Position>, Position>(mut self, handler: impl Handler<Args>) -> Self {
        self.registry = self.registry.on_event(handler);
        self
    }

    /// Calls `handler` with many messages of `event_type` at once; see [`Registry::on_batch`].
    pub fn on_batch<Args>(mut self, event_type: &str, handler: impl BatchHandler<Args>) -> Self {
        self.registry = self.registry.on_batch(event_type, handler);
        self
    }

    /// Calls `handler` with many messages at once of the event that its batch names; see [`Registry::on_batch_event`].
    pub fn on_batch_event<Args: BatchEvent>(mut self, handler: impl BatchHandler<Args>) -> Self {
        self.registry = self.registry.on_batch_event(handler);
        self
    }

    /// Wraps every handler of this worker in a layer of tower, outside of the layers that handlers have themselves. The last layer
    /// that is added is the outermost.
    ///
    /// The service that a layer wraps is a [`HandlerService`]: its request is a [`Call`], a message with its context or the
    /// members of a batch, and its response one verdict for each. The layer is applied once per handler when the worker is built,
    /// so that `ConcurrencyLimitLayer` limits each event type; `GlobalConcurrencyLimitLayer` limits the worker. The time that a
    /// layer waits is part of the attempt, and limited by its timeout. An error of a layer, such as that of `TimeoutLayer`, is a failure
    /// of every message of the call.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tickr_core::{Handler, MemoryStorage, Worker};
    /// use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
    ///
    /// # fn main() -> tickr_core::Result<()> {
    /// let charge = async || ();
    /// let worker = Worker::builder(MemoryStorage::new())
    ///     .on("order.placed", charge.layer(ConcurrencyLimitLayer::new(2)))
    ///     .layer(GlobalConcurrencyLimitLayer::new(16))
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<HandlerService> + Send + Sync + 'static,
        L::Service: Service<Call, Response = Vec<Verdict>, Error: Into<Failure>, Future: Send> + Clone + Send + Sync + 'static,
    {
        self.layers.push(AnyLayer::new(layer));
        self
    }

    /// Adds every handler of `registry`.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = self.registry.merge(registry);
        self
    }

    /// Receives numbers about the engine.
    pub fn metrics(mut self, metrics: Arc<dyn Metrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Traces claims, handlers and settles, and what handlers enqueue through [`Context::client`](crate::Context::client).
    pub fn tracer(mut self, tracer: Arc<dyn Tracer>) -> Self {
        self.tracer = Some(tracer);
        self
    }

    /// Is told of errors.
    pub fn alerter(mut self, alerter: Arc<dyn Alerter>) -> Self {
        self.alerter = Some(alerter);
        self
    }

    /// Builds the worker.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): no handlers, a type registered twice, a `State<T>` that no one gave, an option
    /// out of its range.
    pub fn build(self) -> Result<Worker> {
        self.config.check()?;
        let mut entries: Vec<Entry> = self.registry.build(&self.states)?;
        for entry in &mut entries {
            let random = &self.random;
            entry.options.retry.get_or_insert_with(|| Arc::new(ExponentialBackoff::default().random(random.child())));
            entry.invoke = entry.invoke.clone().layered(entry.options.layers.iter().chain(&self.layers));
        }
        let mut client = Client::builder(self.storage.clone());
        if let Some(metrics) = &self.metrics {
            client = client.metrics(Arc::clone(metrics));
        }
        if let Some(tracer) = &self.tracer {
            client = client.tracer(Arc::clone(tracer));
        }
        let metrics = self.metrics.map(|metrics| Arc::new(Guarded(metrics)) as Arc<dyn Metrics>);
        let observers = crate::engine::Observers {
            metrics,
            tracer: self.tracer.map(|tracer| Arc::new(GuardedTracer(tracer)) as Arc<dyn Tracer>),
            alerter: self.alerter,
        };
        Ok(Worker { engine: Engine::new(self.storage, self.config, entries, self.states, client.build(), observers, self.random) })
    }
}

/// A worker that runs in a task of its own.
#[derive(Debug)]
pub struct WorkerHandle {
    worker: Arc<Worker>,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl WorkerHandle {
    /// Asks the worker to shut down, in stages; does not wait.
    pub fn shutdown(&self) {
        self.stop.cancel();
    }

    /// Asks the worker to shut down without the grace; does not wait.
    pub fn shutdown_now(&self) {
        self.stop.cancel();
        self.worker.engine.hurry();
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// As [`Worker::run_until`]; [`Internal`](ErrorKind::Internal) when the engine panicked.
    pub async fn join(self) -> Result<()> {
        self.task.await.map_err(|panic| Error::new(ErrorKind::Internal, "the worker's task ended").with_source(panic))?
    }

    /// How the worker is doing.
    pub fn health(&self) -> WorkerHealth {
        self.worker.health()
    }
}

/// How a worker is doing: what probes ask, and why they get the answer they get.
///
/// [`live`](Self::live) is for a liveness probe, which restarts the process: it stays true while the database is away, because a
/// restart would not bring it back. [`ready`](Self::ready) is for a readiness probe and for people. Neither needs a runtime that runs:
/// [`Worker::health`] answers from any thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerHealth {
    /// Whether the engine runs. If not, only a restart helps.
    ///
    /// True from the start of the run to its end, unless one of these holds:
    /// - the heartbeat has not even been tried for twice the lease;
    /// - the application's runtime has run none of the worker's tasks for a lease, and no handler that may still run has a thread: what
    ///   blocks it is overdue (`timeout` + `abandon_after` + 0.5 s), or no handler at all. A handler without a timeout may block for hours;
    /// - the loop that claims or the loop that records is not back from what it waits for: a lease later than it takes at most.
    ///
    /// Messages of a worker whose runtime is blocked are given to others: what has not started as soon as it is noticed (a third of
    /// the lease, at least a second), what is overdue at once, and all else at the latest one lease and one `reclaim_interval` after
    /// the worker is not live any more.
    pub live: bool,
    /// Whether it does its work: it is live, was not told to stop, trusts its lease, `failures` is below three, the storage keeps up with
    /// recording outcomes, and the application's runtime has run its tasks within a third of the lease (at least a second).
    pub ready: bool,
    /// Whether it was told to stop, and claims no more.
    pub stopping: bool,
    /// Whether it has a lease that it trusts.
    pub alive: bool,
    /// How long ago a claim was answered; absent before the first. A worker that is full does not claim: hours are no trouble then.
    pub last_claim: Option<Duration>,
    /// How long ago its lease was granted or extended by the storage; absent before that.
    pub last_heartbeat: Option<Duration>,
    /// Whether it hears of other processes' messages at once; absent where there is nothing to listen to, or it was told not to.
    /// Without, it polls.
    pub listening: Option<bool>,
    /// Handlers running.
    pub running: u32,
    /// Messages claimed and not started.
    pub queued: u32,
    /// Outcomes not yet recorded.
    pub unsettled: u32,
    /// Of these, outcomes that the storage refuses with an error that does not pass by itself. They are kept, and tried again
    /// every few seconds.
    pub refused: u32,
    /// How many claims, settles, heartbeats, promotions or reclaims have failed in a row: the most of one of these kinds; 0 while all is
    /// well. Outcomes that the storage refuses are in `refused` instead.
    pub failures: u32,
}

impl Add for DispatchReport {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            claimed: self.claimed + other.claimed,
            succeeded: self.succeeded + other.succeeded,
            skipped: self.skipped + other.skipped,
            retried: self.retried + other.retried,
            dead: self.dead + other.dead,
            released: self.released + other.released,
            lost: self.lost + other.lost,
        }
    }
}

impl AddAssign for DispatchReport {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for DispatchReport {
    fn sum<I: Iterator<Item = Self>>(reports: I) -> Self {
        reports.fold(Self::default(), Add::add)
    }
}

/// What [`run_once`](Worker::run_once) or [`run_until_idle`](Worker::run_until_idle) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DispatchReport {
    /// Messages claimed.
    pub claimed: u64,
    /// Succeeded.
    pub succeeded: u64,
    /// Skipped by their handler.
    pub skipped: u64,
    /// Failed or snoozed: to be handled again.
    pub retried: u64,
    /// Dead.
    pub dead: u64,
    /// Given back unfinished.
    pub released: u64,
    /// Taken away before their outcome was recorded.
    pub lost: u64,
}
