//! What a worker does beside its work: promote, reclaim, purge, sample, listen. Each in a task of its own, so that one
//! that hangs holds up no other; all are safe on every worker at once.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinHandle;

use super::{OPERATION_MAX, Run, lock};
use crate::door::{clock, task};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::ErrorEventKind;
use crate::panic;
use crate::storage::{PurgeRequest, ReclaimRequest, StatsRequest, Storage};

/// How many messages one promotion moves at most.
const PROMOTE_MAX: u32 = 1_000;
/// How many times the idle maximum a promotion is put off while claims see that nothing is due.
const QUIET_MAX: u32 = 5;
/// How many times as rarely a worker samples the queue that has neither metrics nor an alerter.
const UNOBSERVED_SHARE: u32 = 4;
/// How many purges in a row go on after one of their kinds failed: their answers no longer show whether there is more of the others.
const PURGES_AFTER_FAILURE: u32 = 10;
/// How many claims one reclaim takes back at most.
const RECLAIM_MAX: u32 = 100;
/// The lease under which one worker of many purges.
const JANITOR_LOCK: &str = "janitor";

/// The tasks that run, until this is dropped.
pub(super) struct Upkeep(Vec<JoinHandle<()>>);

impl Drop for Upkeep {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

pub(super) fn start(run: &Arc<Run>) -> Upkeep {
    let config = &run.plan.config;
    let mut tasks = vec![repeated(run, "promote", Run::promote_loop), repeated(run, "learn of scheduled", Run::hear_of_scheduled)];
    if config.reclaimer {
        tasks.push(repeated(run, "reclaim", Run::reclaim_loop));
    }
    if config.janitor {
        tasks.push(repeated(run, "purge", Run::purge_loop));
    }
    if let Some(interval) = config.stats_interval {
        let is_observed = run.metrics.is_some() || run.plan.observers.alerter.is_some();
        // Without observers only the log is left to report types that nobody handles: counts are not needed, nor is it urgent.
        let (interval, request) = match is_observed {
            true => (interval, StatsRequest::default()),
            false => (interval.saturating_mul(UNOBSERVED_SHARE), StatsRequest::default().count_max(1)),
        };
        tasks.push(repeated(run, "sample", move |run| run.sample_loop(interval, request)));
    }
    if config.notifier && run.plan.storage.notifier().is_some() {
        tasks.push(repeated(run, "listen", Run::listen_loop));
    }
    Upkeep(tasks)
}

/// Starts a task that is started again when it panics: an adapter or a subscriber of events may, and nobody else would do its work.
fn repeated<F>(run: &Arc<Run>, name: &'static str, start: impl Fn(Arc<Run>) -> F + Send + 'static) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let run = Arc::clone(run);
    task::spawn(async move {
        let mut panics = 0_u16;
        while let Err(panic) = AssertUnwindSafe(start(Arc::clone(&run))).catch_unwind().await {
            panics = panics.saturating_add(1);
            let text = format!("{name} panicked: {}", panic::text(panic));
            run.upkeep_failed(ErrorEventKind::Janitor, Error::new(ErrorKind::Internal, text));
            clock::sleep(run.error_pause(panics)).await;
        }
    })
}

impl Run {
    /// Moves due messages to ready: at the next due time, and every idle maximum, because another process may schedule earlier. Less
    /// often while claims see to that.
    async fn promote_loop(self: Arc<Self>) {
        let longest = self.plan.config.idle_interval;
        let mut errors = 0_u16;
        loop {
            let pause = match self.within(OPERATION_MAX, "promote", self.plan.storage.promote(PROMOTE_MAX)).await {
                Ok(promoted) => {
                    errors = 0;
                    promoted.next_due.filter(|due| *due < longest)
                }
                Err(error) => {
                    errors = errors.saturating_add(1);
                    self.upkeep_failed(ErrorEventKind::Janitor, error);
                    Some(self.error_pause(errors))
                }
            };
            match pause {
                Some(Duration::ZERO) => tokio::task::yield_now().await,
                pause => self.wait_until_due(pause).await,
            }
        }
    }

    /// Waits for `pause`, or until something that was scheduled meanwhile is due. Without a pause nothing is known to be due: then
    /// for the idle maximum, and longer while claims see that there is nothing.
    async fn wait_until_due(&self, pause: Option<Duration>) {
        let (began, longest) = (clock::runtime_now(), self.plan.config.idle_interval);
        let mut until = began + pause.unwrap_or(longest);
        // What was committed late may be behind the place where claims look.
        let at_most = began + longest * QUIET_MAX;
        let mut told = pause.is_some();
        loop {
            tokio::select! {
                biased;
                () = clock::sleep_until(until) => match *lock(&self.quiet_until) {
                    Some(quiet) if !told && until < quiet.min(at_most) => until = quiet.min(at_most),
                    _ => return,
                },
                () = self.due.notified() => {
                    told = true;
                    let millis = self.due_in_ms.swap(u32::MAX, Ordering::SeqCst);
                    // One millisecond more: due times are stored to the microsecond.
                    until = until.min(clock::runtime_now() + Duration::from_millis(u64::from(millis) + 1));
                }
            }
        }
    }

    async fn hear_of_scheduled(self: Arc<Self>) {
        let wakeups = self.plan.storage.wakeups().subscribe([]);
        loop {
            let delay = wakeups.next_scheduled().await;
            self.due_in(delay);
        }
    }

    /// Takes back the work of dead workers.
    async fn reclaim_loop(self: Arc<Self>) {
        let mut errors = 0_u16;
        loop {
            let config = &self.plan.config;
            // An idle worker looks as often as workers show that they live.
            let usual =
                if self.idle.load(Ordering::Relaxed) { config.reclaim_interval.max(config.lease / 3) } else { config.reclaim_interval };
            let usual = self.jittered(usual);
            clock::sleep(if errors > 0 { self.error_pause(errors).min(usual) } else { usual }).await;
            match self.reclaim().await {
                Ok(()) => errors = 0,
                Err(error) => {
                    errors = errors.saturating_add(1);
                    self.upkeep_failed(ErrorEventKind::Reclaimer, error);
                }
            }
        }
    }

    async fn reclaim(&self) -> Result<()> {
        loop {
            // Whoever could not reach the database for a while does not know who is dead.
            let now = self.now();
            let unbroken = lock(&self.unbroken_since).is_some_and(|since| now.since(since) >= self.plan.config.lease);
            // Nor does one that was asleep, and has not noticed yet.
            let condemn = unbroken && self.state().incarnation.is_trusted(now);
            let mut request = ReclaimRequest::new(RECLAIM_MAX);
            request.condemn = condemn;
            let reclaimed = self.within(OPERATION_MAX, "reclaim", self.plan.storage.reclaim(&request)).await?;
            if reclaimed.condemned > 0 || reclaimed.claims > 0 {
                let (workers, messages) = (reclaimed.condemned, reclaimed.messages.len());
                tracing::warn!(workers, messages, "work of dead workers was taken back");
            }
            if reclaimed.messages.iter().any(|message| !message.dead && self.type_index(&message.event_type).is_some()) {
                // Most come back before the backlog. Whether there are suspects among them says the next heartbeat.
                self.urgent.notify_one();
                self.beat_now.notify_one();
            }
            for message in &reclaimed.messages {
                if let Some(metrics) = &self.metrics {
                    metrics.lease_reclaimed(&message.event_type, 1);
                    if message.dead {
                        metrics.message_dead(&message.event_type);
                    }
                }
                if message.dead {
                    let error = "its worker died while it held nothing else, at the last attempt";
                    self.alerts.message(ErrorEventKind::DeadLetter, &message.event_type, message.id, message.attempt, error);
                }
            }
            if reclaimed.claims < RECLAIM_MAX {
                return Ok(());
            }
        }
    }

    /// Deletes what its retention has passed.
    async fn purge_loop(self: Arc<Self>) {
        loop {
            clock::sleep(self.jittered(self.plan.config.purge_interval)).await;
            if let Err(error) = self.purge().await {
                self.upkeep_failed(ErrorEventKind::Janitor, error);
            }
        }
    }

    async fn purge(&self) -> Result<()> {
        let storage = &self.plan.storage;
        let (holder, ttl) = (self.state().incarnation.id, self.plan.config.purge_interval.max(OPERATION_MAX));
        let Some(held) = self.within(OPERATION_MAX, "acquire lock", storage.acquire_lock(JANITOR_LOCK, holder, ttl)).await? else {
            return Ok(());
        };
        let request = PurgeRequest::default().retention(self.plan.config.retention).limit(self.plan.config.purge_batch);
        let mut failed: Option<Error> = None;
        let mut failures = 0;
        loop {
            match self.within(OPERATION_MAX, "purge", storage.purge(&request)).await {
                Ok(purged) if purged.more => {}
                Ok(_) => break,
                // One kind is refused; the storage went on with the others.
                Err(error) if !error.is_transient() && failures < PURGES_AFTER_FAILURE => {
                    failures += 1;
                    failed = Some(error);
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            if !self.within(OPERATION_MAX, "renew lock", storage.renew_lock(&held, ttl)).await? {
                return Ok(());
            }
        }
        let released = self.within(OPERATION_MAX, "release lock", storage.release_lock(&held)).await.map(drop);
        failed.map_or(released, Err)
    }

    /// Samples the queue for metrics, alerts and the log.
    async fn sample_loop(self: Arc<Self>, interval: Duration, request: StatsRequest) {
        loop {
            match self.within(OPERATION_MAX, "stats", self.plan.storage.stats(&request)).await {
                Ok(stats) => {
                    if let Some(metrics) = &self.metrics {
                        metrics.queue_sampled(stats.clone());
                    }
                    for kind in stats.types.iter().filter(|kind| kind.unserved && !kind.paused) {
                        tracing::warn!(event_type = %kind.event_type, "messages wait that no live worker handles");
                        self.alerts.unserved(&kind.event_type);
                    }
                }
                Err(error) => self.upkeep_failed(ErrorEventKind::Storage, error),
            }
            clock::sleep(self.jittered(interval)).await;
        }
    }

    /// Learns of what other processes enqueue. A broken channel is opened again, with back-off; polling goes on meanwhile.
    async fn listen_loop(self: Arc<Self>) {
        let types = self.event_types();
        let mut errors = 0_u16;
        lock(&self.pulse).listening = Some(false);
        loop {
            match self.listen(&types, &mut errors).await {
                Ok(()) => return,
                Err(error) => {
                    lock(&self.pulse).listening = Some(false);
                    errors = errors.saturating_add(1);
                    tracing::warn!(%error, "the notification channel broke; polling goes on");
                    clock::sleep(self.error_pause(errors)).await;
                }
            }
        }
    }

    async fn listen(&self, types: &[crate::event_type::EventType], errors: &mut u16) -> Result<()> {
        let Some(notifier) = self.plan.storage.notifier() else { return Ok(()) };
        let mut listener = self.within(OPERATION_MAX, "listen", notifier.listen(types)).await?;
        lock(&self.pulse).listening = Some(true);
        loop {
            listener.next().await?;
            *errors = 0;
            self.plan.storage.wakeups().wake(types);
        }
    }

    fn upkeep_failed(&self, kind: ErrorEventKind, error: Error) {
        tracing::warn!(%error, "upkeep failed and is repeated");
        self.alerts.core(kind, error);
    }

    fn jittered(&self, interval: Duration) -> Duration {
        interval.mul_f64(0.8 + 0.4 * self.plan.random.unit())
    }
}
