//! Observers of the application that misbehave: an enqueue and an attempt end as if nobody observed them.

use std::any::Any;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tickr_core::{
    Client, ErrorKind, Failure, Headers, InboundMessage, MemoryStorage, Message, MessageId, Metrics, Outcome, Span, Status, Tracer,
};
use tokio::time::sleep;

use super::support::{Fault, Faulty, Op, enqueue_many, memory, ms, record, secs, status, worker};

/// Panics at every step that its number names, and counts the calls that came that far.
#[derive(Debug, Default)]
struct Burst {
    step: u32,
    calls: AtomicU32,
}

impl Burst {
    const STEPS: u32 = 7;

    fn at(step: u32) -> Arc<Self> {
        Arc::new(Self { step, calls: AtomicU32::new(0) })
    }

    fn reached(&self, step: u32) {
        if step == self.step {
            self.calls.fetch_add(1, Ordering::SeqCst);
            panic!("the observer is out of order");
        }
    }
}

#[derive(Debug)]
struct BurstTracer(Arc<Burst>);

#[derive(Debug)]
struct BurstSpan(Arc<Burst>);

impl BurstTracer {
    fn start(&self) -> Box<dyn Span> {
        self.0.reached(0);
        Box::new(BurstSpan(Arc::clone(&self.0)))
    }
}

impl Tracer for BurstTracer {
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

    fn inject_headers(&self, span: &dyn Span, headers: &mut Headers) {
        headers.insert("half", "way");
        span.as_any();
        self.0.reached(1);
    }
}

impl Span for BurstSpan {
    fn scope(&self, poll: &mut dyn FnMut()) {
        self.0.reached(2);
        poll();
        self.0.reached(3);
    }

    fn as_any(&self) -> &dyn Any {
        self.0.reached(4);
        self
    }

    fn end(self: Box<Self>, _error: Option<&(dyn Error + 'static)>) {
        self.0.reached(5);
    }
}

impl Drop for BurstSpan {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.reached(6);
        }
    }
}

impl Metrics for Burst {
    fn message_enqueued(&self, _event_type: &str) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        panic!("the observer is out of order");
    }
}

/// One message on each road; all of them are stored once.
async fn enqueue_on_every_road(client: &Client<MemoryStorage>) -> Vec<MessageId> {
    let mut ids = vec![client.enqueue(Message::new("a", "1").header("mine", "stays")).await.unwrap().id()];
    ids.push(client.enqueue_all([Message::new("a", "2").header("mine", "stays")]).await.unwrap()[0].id());
    let mut tx = client.storage().begin().await;
    ids.push(client.enqueue_in(&mut tx, Message::new("a", "3").header("mine", "stays")).await.unwrap().id());
    tx.commit().await.unwrap();
    let checked = client.check([Message::new("a", "4").header("mine", "stays")]).unwrap();
    tickr_core::Storage::enqueue(client.storage(), &checked).await.unwrap();
    ids.push(checked[0].id());
    for id in &ids {
        assert_eq!(record(client.storage(), *id).await.stored.headers.get("mine"), Some("stays"));
    }
    let stored = tickr_core::testing::enqueued(client.storage(), "a").await.unwrap();
    assert_eq!(stored.len(), ids.len(), "each is stored once");
    ids
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_does_not_depend_on_a_tracer_that_panics() {
    for step in 0..Burst::STEPS {
        let burst = Burst::at(step);
        let client = Client::builder(memory()).tracer(Arc::new(BurstTracer(Arc::clone(&burst)))).build();
        enqueue_on_every_road(&client).await;
        // The scope of a span is entered only around handlers.
        assert_eq!(burst.calls.load(Ordering::SeqCst) > 0, step != 2 && step != 3, "step {step}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_does_not_depend_on_metrics_that_panic() {
    let burst = Burst::at(u32::MAX);
    let client = Client::builder(memory()).metrics(Arc::<Burst>::clone(&burst)).build();
    enqueue_on_every_road(&client).await;
    assert_eq!(burst.calls.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_that_fails_does_so_with_the_storages_error_whatever_the_tracer_does() {
    let storage = Faulty::new();
    storage.next(Op::Enqueue, Fault::Refuse(ErrorKind::Corrupt));
    let client = Client::builder(storage).tracer(Arc::new(BurstTracer(Burst::at(5)))).build();
    assert_eq!(client.enqueue(Message::new("a", "")).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test(start_paused = true)]
async fn headers_of_a_tracer_that_no_message_can_have_are_left_out() {
    #[derive(Debug)]
    struct Careless(&'static str, usize);

    impl Tracer for Careless {
        fn inject_headers(&self, _span: &dyn Span, headers: &mut Headers) {
            headers.remove("mine");
            headers.insert(self.0, "v".repeat(self.1));
            headers.insert("also", "x");
        }
    }
    for (name, bytes) in [("large", 64 << 10), ("", 1), ("nul\0", 1)] {
        let client = Client::builder(memory()).tracer(Arc::new(Careless(name, bytes))).build();
        for id in enqueue_on_every_road(&client).await {
            let headers = record(client.storage(), id).await.stored.headers;
            assert_eq!((headers.len(), headers.get("mine")), (1, Some("stays")), "{name:?}");
        }
    }
    let client = Client::builder(memory()).tracer(Arc::new(Careless("fine", 5))).build();
    let id = client.enqueue(Message::new("a", "").header("mine", "stays")).await.unwrap().id();
    assert_eq!(record(client.storage(), id).await.stored.headers.len(), 3, "what fits is kept");
    // What the caller wrote is judged as ever.
    let refused = client.enqueue(Message::new("a", "").header("nul", "\0")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_does_not_depend_on_a_tracer_that_panics() {
    async fn work(context: tickr_core::Context) -> Result<Outcome, Failure> {
        sleep(ms(5)).await;
        match &context.payload()[..] {
            b"0" => panic!("the handler's own"),
            b"1" => Err(Failure::dead("no")),
            _ => Ok(Outcome::Done),
        }
    }
    for step in 0..Burst::STEPS {
        let (storage, burst) = (memory(), Burst::at(step));
        let ids = enqueue_many(&storage, "a", 4).await;
        let builder = worker(&storage).max_attempts(1).tracer(Arc::new(BurstTracer(Arc::clone(&burst))));
        let worker = builder.on("a", work).build().unwrap();
        let report = tokio::time::timeout(secs(1_000), worker.run_until_idle()).await.expect("the worker ends").unwrap();
        assert_eq!((report.succeeded, report.dead), (2, 2), "step {step}");
        assert_eq!(status(&storage, ids[2]).await, Status::Success);
        let error = record(&storage, ids[0]).await.last_error;
        assert_eq!(error.as_deref(), Some("handler panicked: the handler's own"));
        // Nothing is injected, and no span asked for what it is.
        assert_eq!(burst.calls.load(Ordering::SeqCst) > 0, step != 1 && step != 4, "step {step}");
    }
}

/// Never lets the handler run.
#[derive(Debug)]
struct Forgetful;

#[derive(Debug)]
struct ForgetfulSpan;

impl Tracer for Forgetful {
    fn start_handler_span(&self, _messages: &[&InboundMessage]) -> Box<dyn Span> {
        Box::new(ForgetfulSpan)
    }
}

impl Span for ForgetfulSpan {
    fn scope(&self, _poll: &mut dyn FnMut()) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[tokio::test(start_paused = true)]
async fn a_span_that_forgets_to_run_the_handler_does_not_stop_it() {
    let storage = memory();
    enqueue_many(&storage, "a", 1).await;
    let worker = worker(&storage).tracer(Arc::new(Forgetful)).on("a", async || {}).build().unwrap();
    let report = tokio::time::timeout(secs(1_000), worker.run_until_idle()).await.expect("the worker ends").unwrap();
    assert_eq!(report.succeeded, 1);
}
