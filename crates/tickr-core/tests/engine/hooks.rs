//! Callbacks of the application that block their thread or never return: no outcome, no heartbeat, no claim and no end of a worker
//! waits for them longer than the documented bound.
//!
//! In real time: under a paused clock callbacks are called at once.

use std::error::Error;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tickr_core::{
    Alerter, BoxFuture, Context, ErrorEvent, Failure, Handler, HandlerOutcome, MemoryStorage, Message, Metrics, RetryPolicy, Span, Stats,
    Status, Tracer, Worker, WorkerBuilder,
};

use super::support::{enqueue, enqueue_many, eventually, ms, record, secs, status, steps, stop};

/// How long the end of a run waits for all callbacks together, and what a busy machine adds.
const END: Duration = secs(10 + 10);

/// Closed until the test opens it; what has come there waits on its thread.
#[derive(Clone, Debug, Default)]
struct Door(Arc<(Mutex<(bool, usize)>, Condvar)>);

impl Door {
    fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.1 += 1;
        drop(self.0.1.wait_timeout_while(state, secs(100), |(open, _)| !*open).unwrap());
    }

    fn arrived(&self) -> usize {
        self.0.0.lock().unwrap().1
    }

    fn open(&self) {
        self.0.0.lock().unwrap().0 = true;
        self.0.1.notify_all();
    }
}

async fn work(context: Context) -> Result<(), Failure> {
    match &context.payload()[..] {
        b"dead" => Err(Failure::dead("no")),
        b"fails" if context.attempt() == 1 => Err("not yet".into()),
        _ => Ok(()),
    }
}

fn builder(storage: &MemoryStorage) -> WorkerBuilder {
    Worker::builder(storage.clone()).lease(secs(2)).seed(7).name("w").shutdown_grace(ms(500)).abandon_after(ms(200))
}

async fn succeeds(storage: &MemoryStorage, n: usize) {
    for id in enqueue_many(storage, "a", n).await {
        eventually("it succeeds", async || status(storage, id).await == Status::Success).await;
    }
}

async fn ends(worker: tickr_core::WorkerHandle) {
    let begun = Instant::now();
    stop(worker).await;
    assert!(begun.elapsed() < END, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_on_dead_callback_that_never_returns_delays_no_outcome_and_no_end() {
    let (storage, door) = (MemoryStorage::new(), Door::default());
    let blocks = door.clone();
    let handler = work.on_dead(move |_, _| blocks.pass());
    let worker = builder(&storage).on("a", handler).build().unwrap().spawn();
    for _ in 0..20 {
        enqueue(&storage, Message::new("a", "dead")).await;
    }
    eventually("it is called", async || door.arrived() > 0).await;
    succeeds(&storage, 20).await;
    let health = worker.health();
    assert!(health.ready && health.live, "{health:?}");
    ends(worker).await;
    assert_eq!(door.arrived(), 1, "one after the other");
    door.open();
}

#[tokio::test]
async fn on_dead_is_called_in_the_order_of_the_deaths_within_the_runtime_and_before_the_end() {
    let (storage, calls) = (MemoryStorage::new(), Arc::new(Mutex::new(Vec::new())));
    for n in 0..10 {
        enqueue(&storage, Message::new("a", "dead").header("n", n.to_string())).await;
    }
    let noted = Arc::clone(&calls);
    let handler = work.on_dead(move |context: &Context, reason: &str| {
        assert!(tokio::runtime::Handle::try_current().is_ok(), "it may start tasks");
        noted.lock().unwrap().push(format!("{} {reason}", context.message().stored.headers.get("n").unwrap()));
        assert!(noted.lock().unwrap().len() != 3, "a panic is nobody else's");
    });
    builder(&storage).pool(1).on("a", handler).build().unwrap().run_until_idle().await.unwrap();
    let expected: Vec<String> = (0..10).map(|n| format!("{n} no")).collect();
    assert_eq!(*calls.lock().unwrap(), expected);
}

/// Blocks its thread in every method.
#[derive(Debug)]
struct Stuck(Door);

impl Metrics for Stuck {
    fn handler_started(&self, _event_type: &str, _attempt: u16) {
        self.0.pass();
    }

    fn handler_completed(&self, _event_type: &str, _attempt: u16, _ran: Option<Duration>, _outcome: HandlerOutcome) {
        self.0.pass();
    }

    fn claim_batch(&self, _claimed: u32, _requested: u32, _duration: Duration) {
        self.0.pass();
    }

    fn settle_batch(&self, _outcomes: u32, _duration: Duration) {
        self.0.pass();
    }

    fn queue_sampled(&self, _stats: &Stats) {
        self.0.pass();
    }

    fn in_flight(&self, _n: u32) {
        self.0.pass();
    }
}

impl Alerter for Stuck {
    fn on_error(&self, _event: ErrorEvent) -> BoxFuture<'_, ()> {
        self.0.pass();
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test]
async fn metrics_that_never_return_delay_no_claim_no_outcome_and_no_end() {
    let (storage, door) = (MemoryStorage::new(), Door::default());
    let worker = builder(&storage).metrics(Arc::new(Stuck(door.clone()))).on("a", work).build().unwrap().spawn();
    eventually("they are called", async || door.arrived() > 0).await;
    succeeds(&storage, 50).await;
    let health = worker.health();
    assert!(health.ready && health.live, "{health:?}");
    ends(worker).await;
    door.open();
}

#[tokio::test]
async fn an_alerter_that_blocks_its_thread_delays_no_claim_no_outcome_and_no_end() {
    let (storage, door) = (MemoryStorage::new(), Door::default());
    let worker = builder(&storage).alerter(Arc::new(Stuck(door.clone()))).on("a", work).build().unwrap().spawn();
    enqueue(&storage, Message::new("a", "dead")).await;
    eventually("it is called", async || door.arrived() > 0).await;
    succeeds(&storage, 50).await;
    let health = worker.health();
    assert!(health.ready && health.live, "{health:?}");
    ends(worker).await;
    door.open();
}

/// Counts.
#[derive(Debug, Default)]
struct Numbers(Mutex<Vec<String>>);

impl Metrics for Numbers {
    fn handler_completed(&self, event_type: &str, _attempt: u16, _ran: Option<Duration>, outcome: HandlerOutcome) {
        self.0.lock().unwrap().push(format!("{event_type} {outcome}"));
    }
}

#[tokio::test]
async fn metrics_have_every_outcome_before_the_worker_ends() {
    let (storage, numbers) = (MemoryStorage::new(), Arc::new(Numbers::default()));
    enqueue_many(&storage, "a", 3_000).await;
    let worker = builder(&storage).metrics(Arc::<Numbers>::clone(&numbers)).on("a", work).build().unwrap();
    assert_eq!(worker.run_until_idle().await.unwrap().succeeded, 3_000);
    assert_eq!(*numbers.0.lock().unwrap(), vec!["a success"; 3_000]);
}

/// Blocks the settle loop.
#[derive(Debug)]
struct StuckTracer(Door);

impl Tracer for StuckTracer {
    fn start_settle_span(&self, _worker: &str, _outcomes: usize) -> Box<dyn Span> {
        self.0.pass();
        Box::new(())
    }
}

/// A tracer is called where spans begin, and must return: if it does not, the worker is not live, and the heartbeat's thread records.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_tracer_that_never_returns_keeps_no_outcome() {
    let (storage, door) = (MemoryStorage::new(), Door::default());
    let worker = builder(&storage).tracer(Arc::new(StuckTracer(door.clone()))).on("a", work).build().unwrap().spawn();
    let first = enqueue(&storage, Message::new("a", "")).await;
    eventually("it blocks the loop", async || door.arrived() > 0).await;
    succeeds(&storage, 20).await;
    assert!(!worker.health().live && !worker.health().ready, "{:?}", worker.health());
    assert_eq!(status(&storage, first).await, Status::Handling, "what the loop has in hand");
    door.open();
    eventually("it goes on", async || worker.health().live && worker.health().ready).await;
    eventually("it is recorded", async || status(&storage, first).await == Status::Success).await;
    ends(worker).await;
}

/// A policy that blocks its thread when it is asked.
#[derive(Debug)]
struct StuckPolicy(Door);

impl RetryPolicy for StuckPolicy {
    fn next_delay(&self, _attempt: u16, _error: &(dyn Error + 'static)) -> Duration {
        self.0.pass();
        ms(1)
    }
}

/// The watchdog takes the attempt, asks the policy too, and decides without it in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_policy_that_never_returns_holds_up_its_own_attempt_only() {
    let (storage, door) = (MemoryStorage::new(), Door::default());
    let handler = work.timeout(ms(300)).retry(StuckPolicy(door.clone()));
    let worker = builder(&storage).on("a", handler).build().unwrap().spawn();
    let fails = enqueue(&storage, Message::new("a", "fails")).await;
    eventually("it is asked", async || door.arrived() > 0).await;
    succeeds(&storage, 50).await;
    eventually("it is decided", async || steps(&storage, fails).await.contains(&"failed")).await;
    assert_eq!(record(&storage, fails).await.last_error.as_deref(), Some("handler timed out after 300ms"));
    succeeds(&storage, 50).await;
    let health = worker.health();
    assert!(health.ready && health.live, "{health:?}");
    ends(worker).await;
    door.open();
}

/// The predicate is asked in vain as a policy is, and the last attempt is the last all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_predicate_that_never_returns_gives_no_attempt_more_than_there_are() {
    let (storage, door) = (MemoryStorage::new(), Door::default());
    let blocks = door.clone();
    let handler = work.timeout(ms(300)).max_attempts(1).dead_letter_if(move |_| {
        blocks.pass();
        false
    });
    let worker = builder(&storage).on("a", handler).build().unwrap().spawn();
    let fails = enqueue(&storage, Message::new("a", "fails")).await;
    eventually("it is asked", async || door.arrived() > 0).await;
    eventually("it is decided", async || status(&storage, fails).await == Status::Dead).await;
    assert_eq!(steps(&storage, fails).await, ["created", "claimed", "exhausted", "dead"]);
    door.open();
    ends(worker).await;
}
