//! Code of the application that panics with a value whose destructor panics too, again and again: the message ends as it does after
//! any other panic, and the worker goes on.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::panic_any;
use std::sync::Arc;
use std::time::Duration;

use tickr_core::{
    Alerter, Batch, BatchHandler, BoxFuture, Client, Context, ErrorEvent, Failure, FromMessage, Handler, HandlerOutcome, Headers,
    InboundMessage, MemoryStorage, Message, MessageRecord, Metrics, RetryPolicy, Span, Status, Tracer, Verdict, Worker, WorkerBuilder,
};

use super::support::{Probe, enqueue, enqueue_many, memory, ms, record, secs, sound, status, steps, stop, until_status, worker};

/// No number of attempts drops it.
#[derive(Debug)]
struct Hydra;

impl Drop for Hydra {
    fn drop(&mut self) {
        panic_any(Self);
    }
}

const NO_TEXT: &str = "handler panicked: (no message)";

/// Works off a message `first`, which has to become `wanted`, then others, and is ready all the time.
async fn goes_on(storage: &MemoryStorage, builder: WorkerBuilder, wanted: Status) -> MessageRecord {
    let worker = builder.build().unwrap().spawn();
    let first = enqueue(storage, Message::new("a", "first")).await;
    until_status(storage, first, wanted).await;
    for id in enqueue_many(storage, "a", 3).await {
        until_status(storage, id, Status::Success).await;
    }
    let health = worker.health();
    assert!(health.ready && health.live, "{health:?}");
    assert_eq!(health.running, 0, "no runner was lost");
    stop(worker).await;
    sound(storage).await;
    record(storage, first).await
}

fn is_first(context: &Context) -> bool {
    context.payload()[..] == b"first"[..]
}

/// Fails the first attempt of the first message.
async fn fails_once(context: Context) -> Result<(), Failure> {
    if is_first(&context) && context.attempt() == 1 { Err("not yet".into()) } else { Ok(()) }
}

/// The first message is dead, the others succeed.
async fn kills(context: Context) -> Result<(), Failure> {
    if is_first(&context) { Err(Failure::dead("no")) } else { Ok(()) }
}

#[tokio::test(start_paused = true)]
async fn of_a_handler() {
    async fn work(context: Context) {
        if is_first(&context) {
            panic_any(Hydra);
        }
    }
    let storage = memory();
    let dead = goes_on(&storage, worker(&storage).pool(1).on("a", work.max_attempts(1)), Status::Dead).await;
    assert_eq!(dead.last_error.as_deref(), Some(NO_TEXT));
}

#[tokio::test(start_paused = true)]
async fn of_a_batch_handler() {
    async fn work(batch: Batch<Context>) {
        if batch.iter().any(|item| is_first(&item.context)) {
            panic_any(Hydra);
        }
    }
    let storage = memory();
    let dead = goes_on(&storage, worker(&storage).pool(1).on_batch("a", work.max_attempts(1)), Status::Dead).await;
    assert_eq!(dead.last_error.as_deref(), Some(NO_TEXT));
}

#[tokio::test(start_paused = true)]
async fn of_the_decoder_of_a_batch() {
    struct Body;

    impl FromMessage for Body {
        fn from_message(context: &Context) -> Result<Self, Failure> {
            if is_first(context) {
                panic_any(Hydra);
            }
            Ok(Self)
        }
    }
    let storage = memory();
    enqueue_many(&storage, "a", 5).await;
    let handler = (async |_: Batch<Body>| ()).max_attempts(1);
    let dead = goes_on(&storage, worker(&storage).pool(1).on_batch("a", handler), Status::Dead).await;
    assert_eq!(dead.last_error.as_deref(), Some(NO_TEXT));
}

/// An error that cannot be dropped, and perhaps not printed.
#[derive(Debug)]
struct Unkind {
    prints: bool,
    _hydra: Hydra,
}

impl Unkind {
    const fn new(prints: bool) -> Self {
        Self { prints, _hydra: Hydra }
    }
}

impl fmt::Display for Unkind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.prints {
            panic_any(Hydra);
        }
        f.write_str("unkind")
    }
}

impl Error for Unkind {}

#[tokio::test(start_paused = true)]
async fn of_an_error_that_is_printed_or_dropped() {
    for (prints, text) in [(true, "unkind"), (false, NO_TEXT)] {
        let work = move |context: Context| async move { if is_first(&context) { Err(Failure::dead(Unkind::new(prints))) } else { Ok(()) } };
        let storage = memory();
        let dead = goes_on(&storage, worker(&storage).pool(1).on("a", work), Status::Dead).await;
        assert_eq!(dead.last_error.as_deref(), Some(text));
        assert_eq!(dead.attempt, 1, "the error is final, as it says");
    }
}

/// More verdicts than messages, and one for all.
#[tokio::test(start_paused = true)]
async fn of_the_errors_of_a_batch() {
    async fn each(batch: Batch<Context>) -> Vec<Verdict> {
        let verdict = |first| if first { Err(Failure::dead(Unkind::new(true))) } else { Ok(().into()) };
        let verdicts = batch.iter().map(|item| verdict(is_first(&item.context)));
        verdicts.chain([Err(Failure::dead(Unkind::new(true)))]).collect()
    }
    async fn all(batch: Batch<Context>) -> Result<(), Failure> {
        if batch.iter().any(|item| is_first(&item.context)) { Err(Failure::dead(Unkind::new(true))) } else { Ok(()) }
    }
    let storage = memory();
    assert_eq!(goes_on(&storage, worker(&storage).pool(1).on_batch("a", each), Status::Dead).await.attempt, 1);
    assert_eq!(goes_on(&storage, worker(&storage).pool(1).on_batch("a", all), Status::Dead).await.attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn of_a_handler_that_is_dropped_after_its_timeout() {
    async fn work(context: Context) {
        let _hydra = is_first(&context).then(|| Hydra);
        if is_first(&context) {
            std::future::pending::<()>().await;
        }
    }
    let storage = memory();
    let handler = work.timeout(secs(1)).max_attempts(1);
    let dead = goes_on(&storage, worker(&storage).pool(1).abandon_after(ms(100)).on("a", handler), Status::Dead).await;
    assert_eq!(dead.last_error.as_deref(), Some("handler timed out after 1s"));
}

#[tokio::test(start_paused = true)]
async fn of_a_retry_policy() {
    #[derive(Debug)]
    struct Policy;

    impl RetryPolicy for Policy {
        fn next_delay(&self, _attempt: u16, _error: &(dyn Error + 'static)) -> Duration {
            panic_any(Hydra);
        }
    }
    let storage = memory();
    let done = goes_on(&storage, worker(&storage).pool(1).on("a", fails_once.retry(Policy)), Status::Success).await;
    assert!(steps(&storage, done.stored.id).await.contains(&"failed"));
}

#[tokio::test(start_paused = true)]
async fn of_a_predicate() {
    let storage = memory();
    let handler = fails_once.dead_letter_if(|_| panic_any(Hydra));
    let done = goes_on(&storage, worker(&storage).pool(1).on("a", handler), Status::Success).await;
    assert!(steps(&storage, done.stored.id).await.contains(&"failed"));
}

/// Callbacks have a thread of their own, except under a paused clock: both ways.
fn on_both_clocks() -> [(MemoryStorage, WorkerBuilder); 2] {
    let (paused, real) = (memory(), MemoryStorage::new());
    let builders = (worker(&paused), Worker::builder(real.clone()).lease(secs(2)));
    [(paused, builders.0.pool(1)), (real, builders.1.pool(1))]
}

#[tokio::test]
async fn of_on_dead() {
    for (storage, builder) in on_both_clocks() {
        let (called, calls) = std::sync::mpsc::channel();
        let handler = kills.on_dead(move |_, _| {
            called.send(()).unwrap();
            panic_any(Hydra);
        });
        goes_on(&storage, builder.on("a", handler), Status::Dead).await;
        assert_eq!(calls.try_iter().count(), 1);
    }
}

/// Panics when it is called, or while it delivers.
#[derive(Debug)]
struct Caller {
    at_once: bool,
    probe: Probe,
}

impl Alerter for Caller {
    fn on_error(&self, _event: ErrorEvent) -> BoxFuture<'_, ()> {
        self.probe.note("called");
        if self.at_once {
            panic_any(Hydra);
        }
        Box::pin(async { panic_any(Hydra) })
    }
}

#[tokio::test]
async fn of_an_alerter() {
    for at_once in [false, true] {
        for (storage, builder) in on_both_clocks() {
            let probe = Probe::new();
            let work = async |context: Context| kills(context).await;
            let builder = builder.alerter(Arc::new(Caller { at_once, probe: probe.clone() })).on("a", work).on("b", work);
            let other = enqueue(&storage, Message::new("b", "first")).await;
            goes_on(&storage, builder, Status::Dead).await;
            assert_eq!((status(&storage, other).await, probe.len()), (Status::Dead, 2));
        }
    }
}

/// Delivers nothing, and cannot be dropped while it tries.
#[derive(Debug)]
struct Endless(Probe);

impl Alerter for Endless {
    fn on_error(&self, _event: ErrorEvent) -> BoxFuture<'_, ()> {
        self.0.note("called");
        Box::pin(async {
            let _hydra = Hydra;
            std::future::pending().await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn of_an_alerter_that_is_dropped_because_it_takes_too_long() {
    let (storage, probe) = (memory(), Probe::new());
    let worker = worker(&storage).alerter(Arc::new(Endless(probe.clone()))).on("a", kills).on("b", kills).build().unwrap().spawn();
    enqueue(&storage, Message::new("a", "first")).await;
    enqueue(&storage, Message::new("b", "first")).await;
    probe.reached(2).await;
    stop(worker).await;
}

/// Panics in every method, a span's included.
#[derive(Debug)]
struct Observer;

impl Metrics for Observer {
    fn message_enqueued(&self, _event_type: &str) {
        panic_any(Hydra);
    }

    fn handler_started(&self, _event_type: &str, _attempt: u16) {
        panic_any(Hydra);
    }

    fn handler_completed(&self, _event_type: &str, _attempt: u16, _ran: Option<Duration>, _outcome: HandlerOutcome) {
        panic_any(Hydra);
    }

    fn message_dead(&self, _event_type: &str) {
        panic_any(Hydra);
    }

    fn claim_batch(&self, _claimed: u32, _requested: u32, _duration: Duration) {
        panic_any(Hydra);
    }

    fn settle_batch(&self, _outcomes: u32, _duration: Duration) {
        panic_any(Hydra);
    }

    fn in_flight(&self, _n: u32) {
        panic_any(Hydra);
    }
}

#[tokio::test]
async fn of_metrics() {
    for (storage, builder) in on_both_clocks() {
        let client = Client::builder(storage.clone()).metrics(Arc::new(Observer)).build();
        let before = client.enqueue(Message::new("a", "")).await.expect("it is stored").id();
        goes_on(&storage, builder.metrics(Arc::new(Observer)).on("a", kills), Status::Dead).await;
        assert_eq!(status(&storage, before).await, Status::Success);
    }
}

/// Its spans panic when they begin or later.
#[derive(Debug)]
struct Tracing {
    begins: bool,
}

#[derive(Debug)]
struct Spanning {
    _hydra: Hydra,
}

impl Tracing {
    fn start(&self) -> Box<dyn Span> {
        if !self.begins {
            panic_any(Hydra);
        }
        Box::new(Spanning { _hydra: Hydra })
    }
}

impl Tracer for Tracing {
    fn start_enqueue_span(&self, _event_types: &[&str], _count: usize) -> Box<dyn Span> {
        self.start()
    }

    fn start_claim_span(&self, _worker: &str) -> Box<dyn Span> {
        self.start()
    }

    fn start_settle_span(&self, _worker: &str, _outcomes: usize) -> Box<dyn Span> {
        self.start()
    }

    fn start_handler_span(&self, _messages: &[&InboundMessage]) -> Box<dyn Span> {
        self.start()
    }

    fn inject_headers(&self, _span: &dyn Span, _headers: &mut Headers) {
        panic_any(Hydra);
    }
}

impl Span for Spanning {
    fn scope(&self, poll: &mut dyn FnMut()) {
        poll();
        panic_any(Hydra);
    }

    fn as_any(&self) -> &dyn Any {
        panic_any(Hydra);
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_tracer() {
    for begins in [false, true] {
        let storage = memory();
        let client = Client::builder(storage.clone()).tracer(Arc::new(Tracing { begins })).build();
        let before = client.enqueue(Message::new("a", "")).await.expect("it is stored").id();
        goes_on(&storage, worker(&storage).pool(1).tracer(Arc::new(Tracing { begins })).on("a", kills), Status::Dead).await;
        assert_eq!(status(&storage, before).await, Status::Success);
    }
}
