//! Metrics, traces and alerts.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tickr_core::{
    Admin, Alerter, BoxFuture, Client, Context, ErrorEvent, ErrorEventKind, ErrorKind, Failure, HandlerOutcome, Headers, InboundMessage,
    LeaseLossPhase, MemoryStorage, Message, MessageId, Metrics, Outcome, Prefetch, Selection, Span, State, Stats, Status, Storage, Tracer,
};
use tokio::time::sleep;

use super::support::{
    Call, Fault, Faulty, Mortal, Op, Probe, enqueue, enqueue_many, eventually, memory, ms, secs, stop, until_status, worker,
};

// --- metrics --------------------------------------------------------------------------------------------------------

/// Writes every call down; of an outcome also what the storage says at that moment.
struct Book {
    probe: Probe,
    look: Option<(MemoryStorage, MessageId)>,
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Book")
    }
}

impl Metrics for Book {
    fn message_enqueued(&self, event_type: &str) {
        self.probe.note(format!("enqueued {event_type}"));
    }

    fn handler_started(&self, event_type: &str, attempt: u16) {
        self.probe.note(format!("started {event_type} {attempt}"));
    }

    fn handler_completed(&self, event_type: &str, attempt: u16, ran: Option<Duration>, outcome: HandlerOutcome) {
        let ran = ran.map_or_else(|| "unrun".to_owned(), |ran| format!("{ran:?}"));
        self.probe.note(format!("completed {event_type} {attempt} {ran} {outcome}"));
        if let Some((storage, id)) = &self.look {
            let record = futures_util::FutureExt::now_or_never(storage.get(*id)).unwrap().unwrap().unwrap();
            self.probe.note(format!("status {}", record.status));
        }
    }

    fn message_dead(&self, event_type: &str) {
        self.probe.note(format!("dead {event_type}"));
    }

    fn queue_sampled(&self, stats: &Stats) {
        self.probe.note(format!("sampled {}", stats.total(Status::Created).n));
    }

    fn claim_batch(&self, claimed: u32, _requested: u32, _duration: Duration) {
        if claimed > 0 {
            self.probe.note(format!("claimed {claimed}"));
        }
    }

    fn settle_batch(&self, outcomes: u32, _duration: Duration) {
        self.probe.note(format!("settled {outcomes}"));
    }

    fn settle_refused(&self, outcomes: u32) {
        self.probe.note(format!("refused {outcomes}"));
    }

    fn lease_reclaimed(&self, event_type: &str, n: u32) {
        self.probe.note(format!("reclaimed {event_type} {n}"));
    }

    fn lease_lost(&self, event_type: &str, phase: LeaseLossPhase) {
        self.probe.note(format!("lost {event_type} {}", phase.as_str()));
    }

    fn in_flight(&self, n: u32) {
        self.probe.note(format!("in flight {n}"));
    }
}

fn book(probe: &Probe) -> Arc<Book> {
    Arc::new(Book { probe: probe.clone(), look: None })
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_every_outcome_with_its_labels() {
    async fn decide(context: Context) -> Result<Outcome, Failure> {
        sleep(ms(30)).await;
        match &context.payload()[..] {
            b"0" => Ok(Outcome::Done),
            b"1" => Ok(Outcome::skip("")),
            b"2" => Ok(Outcome::snooze(secs(60))),
            b"3" => Err(Failure::retry_after(secs(60), "")),
            _ => Err(Failure::dead("")),
        }
    }
    let (storage, probe) = (memory(), Probe::new());
    enqueue_many(&storage, "a", 5).await;
    let worker = worker(&storage).metrics(book(&probe)).on("a", decide).build().unwrap();
    worker.run_until_idle().await.unwrap();
    for outcome in ["success", "skip", "snooze", "retry", "dead"] {
        assert_eq!(probe.count(&format!("completed a 1 30ms {outcome}")), 1, "{:?}", probe.notes());
    }
    assert_eq!((probe.count("started a 1"), probe.count("claimed 5"), probe.count("dead a")), (5, 1, 1));
    assert!(probe.count("settled 5") == 1, "{:?}", probe.notes());
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_told_after_they_are_recorded() {
    async fn nothing() {}
    let (storage, probe) = (Faulty::new(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    storage.next(Op::Settle, Fault::Refuse(ErrorKind::Unavailable));
    storage.next(Op::Settle, Fault::LoseAnswer);
    let metrics = Arc::new(Book { probe: probe.clone(), look: Some((storage.inner.clone(), id)) });
    worker(&storage).metrics(metrics).on("a", nothing).build().unwrap().run_until_idle().await.unwrap();
    let notes = probe.notes();
    let told: Vec<_> = notes.iter().filter(|note| note.starts_with("completed") || note.starts_with("status")).collect();
    assert_eq!(told, ["completed a 1 0ns success", "status SUCCESS"], "once, and not before");
}

#[tokio::test(start_paused = true)]
async fn the_number_in_flight_goes_up_and_down_to_zero() {
    async fn slow() {
        sleep(ms(10)).await;
    }
    let (storage, probe) = (memory(), Probe::new());
    enqueue_many(&storage, "a", 4).await;
    worker(&storage).pool(2).metrics(book(&probe)).on("a", slow).build().unwrap().run_until_idle().await.unwrap();
    let told: Vec<String> = probe.notes().into_iter().filter(|note| note.starts_with("in flight")).collect();
    assert_eq!(told.last().map(String::as_str), Some("in flight 0"), "{told:?}");
    assert!(told.iter().any(|note| note == "in flight 2"));
}

/// Remembers the last number, and takes its time to hear it.
#[derive(Debug, Default)]
struct Gauge(AtomicU32);

impl Metrics for Gauge {
    fn in_flight(&self, n: u32) {
        std::thread::yield_now();
        self.0.store(n, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_number_in_flight_is_zero_whichever_threads_tell_it() {
    let (storage, gauge) = (MemoryStorage::new(), Arc::new(Gauge::default()));
    let worker = worker(&storage).pool(8).metrics(gauge.clone()).on("a", async || {}).build().unwrap();
    for _ in 0..300 {
        enqueue_many(&storage, "a", 8).await;
        worker.run_until_idle().await.unwrap();
        // The runner that ended last may still be about to tell.
        eventually("the gauge is at zero", async || gauge.0.load(Ordering::SeqCst) == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_is_told_as_lost_and_never_as_success() {
    async fn deaf(State(probe): State<Probe>) {
        probe.note("begun");
        sleep(secs(20)).await;
    }
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 2).await;
    let builder = worker(&storage).lease(secs(30)).abandon_after(secs(60)).state(probe.clone()).metrics(book(&probe));
    let worker = builder.on("a", deaf).build().unwrap().spawn();
    eventually("both run", async || probe.count("begun") == 2).await;
    storage.kill(&Selection::from(ids[0]), "no").await.unwrap();
    until_status(&storage, ids[1], Status::Success).await;
    sleep(ms(1)).await;
    assert_eq!((probe.count("lost a running"), probe.count("completed a 1 20s lost"), probe.count("completed a 1 20s success")), (1, 1, 1));
    assert_eq!(probe.count("lost a settling"), 0, "a lease is lost once");
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn leases_lost_with_their_worker_are_told_once() {
    async fn deaf(State(probe): State<Probe>) {
        probe.note("begun");
        sleep(secs(20)).await;
    }
    let (storage, probe) = (Faulty::new(), Probe::new());
    enqueue_many(&storage.inner, "a", 3).await;
    let builder = worker(&storage).pool(1).prefetch(Prefetch::Fixed(4)).lease(secs(30)).abandon_after(secs(60)).state(probe.clone());
    let worker = builder.metrics(book(&probe)).on("a", deaf).build().unwrap().spawn();
    eventually("one runs", async || probe.count("begun") == 1).await;
    storage.next(Op::Heartbeat, Fault::Refuse(ErrorKind::LeaseLost));
    eventually("its loss is recorded", async || probe.count("completed a 1 20s lost") == 1).await;
    let phases = ["queued", "running", "settling"].map(|phase| probe.count(&format!("lost a {phase}")));
    assert_eq!((phases, probe.count("completed a 0 unrun lost")), ([2, 1, 0], 2));
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_sampled_and_reclaimed_leases_are_told() {
    async fn never(State(probe): State<Probe>) {
        probe.note("begun");
        std::future::pending::<()>().await;
    }
    async fn nothing() {}
    let (storage, probe) = (memory(), Probe::new());
    enqueue_many(&storage, "a", 2).await;
    let mortal = Mortal::start(worker(&storage).lease(secs(2)).state(probe.clone()).on("a", never).build().unwrap());
    probe.reached(2).await;
    mortal.crash().await;
    enqueue_many(&storage, "unknown", 3).await;
    let builder = worker(&storage).lease(secs(2)).stats_interval(Some(secs(10))).metrics(book(&probe));
    let worker = builder.on("a", nothing).build().unwrap().spawn();
    sleep(secs(60)).await;
    assert_eq!(probe.count("reclaimed a 1"), 2);
    assert!((5..=8).contains(&probe.count("sampled 3")), "{}", probe.count("sampled 3"));
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn the_client_of_a_handler_counts_too() {
    async fn follow(context: Context) -> Result<(), Failure> {
        context.client().enqueue(Message::new("b", "")).await?;
        Ok(())
    }
    async fn nothing() {}
    let (storage, probe) = (memory(), Probe::new());
    enqueue(&storage, Message::new("a", "")).await;
    let builder = worker(&storage).metrics(book(&probe));
    let report = builder.on("a", follow).on("b", nothing).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.succeeded, probe.count("enqueued b"), probe.count("enqueued a")), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn metrics_and_tracers_that_panic_lose_no_message() {
    #[derive(Debug)]
    struct Burst;
    impl Metrics for Burst {
        fn handler_started(&self, _event_type: &str, _attempt: u16) {
            panic!("started")
        }

        fn handler_completed(&self, _event_type: &str, _attempt: u16, _ran: Option<Duration>, _outcome: HandlerOutcome) {
            panic!("completed")
        }

        fn settle_batch(&self, _outcomes: u32, _duration: Duration) {
            panic!("settled")
        }
    }
    async fn nothing() {}
    let storage = memory();
    enqueue_many(&storage, "a", 5).await;
    let worker = worker(&storage).metrics(Arc::new(Burst)).on("a", nothing).build().unwrap();
    let ended = tokio::time::timeout(secs(1_000), worker.run_until_idle()).await;
    assert_eq!(ended.expect("the worker ends").unwrap().succeeded, 5);
}

// --- alerts ---------------------------------------------------------------------------------------------------------

struct Bell {
    probe: Probe,
    delay: Duration,
    bursts: bool,
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bell")
    }
}

impl Alerter for Bell {
    fn on_error(&self, event: ErrorEvent) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            sleep(self.delay).await;
            let event_type = event.event_type.as_ref().map_or("-", |event_type| event_type.as_str());
            self.probe.note(format!("{} {event_type} x{}: {}", event.kind.as_str(), event.count, event.error));
            assert!(!self.bursts, "the bell is cracked");
        })
    }
}

fn bell(probe: &Probe) -> Arc<Bell> {
    Arc::new(Bell { probe: probe.clone(), delay: Duration::ZERO, bursts: false })
}

async fn fail(context: Context) -> Result<(), Failure> {
    Err(Failure::retry_after(secs(3_600), format!("no {}", String::from_utf8_lossy(context.payload()))))
}

#[tokio::test(start_paused = true)]
async fn the_first_alert_comes_at_once_and_then_one_every_ten_seconds_with_the_count() {
    let (storage, probe) = (memory(), Probe::new());
    let worker = worker(&storage).alerter(bell(&probe)).on("a", fail).on("b", fail).build().unwrap().spawn();
    for n in 0..70 {
        enqueue(&storage, Message::new("a", n.to_string())).await;
        sleep(ms(500)).await;
    }
    enqueue(&storage, Message::new("b", "other")).await;
    sleep(secs(30)).await;
    let (notes, times) = (probe.notes(), probe.times());
    assert_eq!(notes[0], "handler a x1: no 0");
    assert!(times[0] < ms(10) && (ms(9_900)..ms(10_100)).contains(&times[1]), "{times:?}");
    assert!(notes[1].starts_with("handler a x19: no 1") || notes[1].starts_with("handler a x20: no 1"), "{notes:?}");
    let counts: u64 = notes.iter().filter_map(|note| note.strip_prefix("handler a x")?.split(':').next()?.parse::<u64>().ok()).sum();
    assert_eq!((counts, probe.count("handler b x1: no other")), (70, 1), "every failure is counted: {notes:?}");
    assert!(notes.len() <= 6, "{notes:?}");
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn each_event_type_has_an_alert_window_of_its_own() {
    let (storage, probe) = (memory(), Probe::new());
    let worker = worker(&storage).alerter(bell(&probe)).on("a", fail).on("b", fail).build().unwrap().spawn();
    for (event_type, begins) in [("a", 0), ("b", 6)] {
        sleep(secs(begins)).await;
        enqueue_many(&storage, event_type, 3).await;
    }
    sleep(secs(30)).await;
    let told: Vec<_> = probe.notes().into_iter().zip(probe.times()).map(|(note, at)| (note[..12].to_owned(), at.as_secs())).collect();
    let wanted = [("handler a x1", 0), ("handler b x1", 6), ("handler a x2", 10), ("handler b x2", 16)];
    assert_eq!(told, wanted.map(|(note, at)| (note.to_owned(), at)));
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn alerts_that_wait_are_delivered_before_the_worker_ends() {
    let (storage, probe) = (memory(), Probe::new());
    enqueue_many(&storage, "a", 5).await;
    worker(&storage).alerter(bell(&probe)).on("a", fail).build().unwrap().run_until_idle().await.unwrap();
    let notes = probe.notes();
    assert_eq!(notes.len(), 2);
    assert!(notes[1].starts_with("handler a x4: "), "{notes:?}");
}

#[tokio::test(start_paused = true)]
async fn an_alerter_that_panics_or_hangs_holds_up_nobody() {
    async fn dead() -> Result<(), Failure> {
        Err(Failure::dead("no"))
    }
    for (delay, bursts) in [(secs(0), true), (secs(20), false)] {
        let (storage, probe) = (memory(), Probe::new());
        let bell = Arc::new(Bell { probe: probe.clone(), delay, bursts });
        let worker = worker(&storage).alerter(bell).on("a", dead).build().unwrap().spawn();
        for n in 1..=5 {
            let begun = tokio::time::Instant::now();
            let id = enqueue(&storage, Message::new("a", "")).await;
            until_status(&storage, id, Status::Dead).await;
            assert!(begun.elapsed() < ms(5), "message {n} waited {:?}", begun.elapsed());
            sleep(secs(15)).await;
        }
        probe.reached(2).await;
        stop(worker).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_trouble_is_told() {
    async fn dead() -> Result<(), Failure> {
        Err(Failure::dead("hopeless"))
    }
    let (storage, probe) = (Faulty::new(), Probe::new());
    enqueue(&storage, Message::new("a", "")).await;
    enqueue(&storage, Message::new("unknown", "")).await;
    for op in [Op::Claim, Op::Settle, Op::Heartbeat, Op::Promote, Op::Reclaim, Op::Purge, Op::Stats] {
        storage.next(op, Fault::Refuse(ErrorKind::Unavailable));
    }
    let worker = worker(&storage).alerter(bell(&probe)).on("a", dead).build().unwrap().spawn();
    sleep(secs(120)).await;
    let notes = probe.notes();
    for wanted in [
        "dead_letter a x1: hopeless",
        "no_handler unknown x1: no live worker handles unknown",
        "claim - x1: unavailable: claim: refused by the test",
        "lease - x1: unavailable: heartbeat: refused by the test",
        "reclaimer - x1: unavailable: reclaim: refused by the test",
        "janitor - x1: unavailable: promote: refused by the test",
        "janitor - x1: unavailable: purge: refused by the test",
    ] {
        assert!(notes.iter().any(|note| note == wanted), "{wanted} is not among {notes:#?}");
    }
    assert!(notes.iter().any(|note| note.starts_with("storage - x")), "{notes:#?}");
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_told() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    storage.script(|call| matches!(call, Call::Heartbeat(_)).then_some(Fault::Refuse(ErrorKind::LeaseLost)));
    let worker = worker(&storage).alerter(bell(&probe)).on("a", fail).build().unwrap().spawn();
    probe.reached(1).await;
    assert!(probe.notes()[0].starts_with("lease - x1: lease lost"), "{:?}", probe.notes());
    storage.heal();
    stop(worker).await;
    assert_eq!(ErrorEventKind::Lease.as_str(), "lease");
}

// --- traces ---------------------------------------------------------------------------------------------------------

thread_local! {
    static CURRENT: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

/// Numbers its spans, and writes down how they go.
#[derive(Debug, Clone)]
struct Trace {
    probe: Probe,
    last: Arc<Mutex<u32>>,
}

#[derive(Debug)]
struct Numbered {
    number: u32,
    name: String,
    probe: Probe,
}

impl Trace {
    fn start(&self, name: String) -> Box<dyn Span> {
        let mut last = self.last.lock().unwrap();
        *last += 1;
        self.probe.note(format!("start {name}"));
        Box::new(Numbered { number: *last, name, probe: self.probe.clone() })
    }
}

impl Tracer for Trace {
    fn start_enqueue_span(&self, event_types: &[&str], count: usize) -> Box<dyn Span> {
        self.start(format!("enqueue {event_types:?} {count}"))
    }

    fn start_claim_span(&self, worker: &str) -> Box<dyn Span> {
        self.start(format!("claim {worker}"))
    }

    fn start_settle_span(&self, worker: &str, outcomes: usize) -> Box<dyn Span> {
        self.start(format!("settle {worker} {outcomes}"))
    }

    fn start_handler_span(&self, messages: &[&InboundMessage]) -> Box<dyn Span> {
        let parents: Vec<_> = messages.iter().map(|message| message.headers.get("trace").unwrap_or("none")).collect();
        self.start(format!("handler of {parents:?}"))
    }

    /// A careless one: the client sees to it that nothing is overwritten.
    fn inject_headers(&self, span: &dyn Span, headers: &mut Headers) {
        let span = span.as_any().downcast_ref::<Numbered>().unwrap();
        headers.insert("trace", format!("from {}", span.name));
    }
}

impl Span for Numbered {
    fn scope(&self, poll: &mut dyn FnMut()) {
        let before = CURRENT.replace(Some(self.number));
        poll();
        CURRENT.set(before);
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn end(self: Box<Self>, error: Option<&(dyn std::error::Error + 'static)>) {
        self.probe.note(format!("end {} {error:?}", self.name));
    }
}

#[tokio::test(start_paused = true)]
async fn spans_go_from_the_producer_to_the_handler_and_are_current_at_every_poll() {
    async fn look(context: Context, State(probe): State<Probe>) -> Result<(), Failure> {
        let before = CURRENT.get();
        sleep(ms(5)).await;
        assert!(before.is_some() && before == CURRENT.get());
        probe.note("in scope");
        if context.payload() == "fail" { Err(Failure::dead("no")) } else { Ok(()) }
    }
    let (storage, probe) = (memory(), Probe::new());
    let tracer = Arc::new(Trace { probe: probe.clone(), last: Arc::default() });
    let client = Client::builder(storage.clone()).tracer(Arc::<Trace>::clone(&tracer)).build();
    client.enqueue_all([Message::new("a", ""), Message::new("a", "fail").header("trace", "mine")]).await.unwrap();
    let worker = worker(&storage).state(probe.clone()).tracer(tracer).on("a", look).build().unwrap();
    worker.run_until_idle().await.unwrap();
    let notes = probe.notes();
    for wanted in [
        "start enqueue [\"a\"] 2",
        "end enqueue [\"a\"] 2 None",
        "start claim w",
        "start settle w 2",
        "end settle w 2 None",
        "start handler of [\"from enqueue [\\\"a\\\"] 2\"]",
        "end handler of [\"from enqueue [\\\"a\\\"] 2\"] None",
        "start handler of [\"mine\"]",
        "end handler of [\"mine\"] Some(Failed(\"no\"))",
    ] {
        assert!(notes.iter().any(|note| note == wanted), "{wanted} is not among {notes:#?}");
    }
    assert_eq!((probe.count("in scope"), CURRENT.get()), (2, None));
}

#[tokio::test(start_paused = true)]
async fn spans_tell_the_errors_of_the_storage() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    storage.next(Op::Claim, Fault::Refuse(ErrorKind::Unavailable));
    let tracer = Arc::new(Trace { probe: probe.clone(), last: Arc::default() });
    let worker = worker(&storage).tracer(tracer).on("a", fail).build().unwrap();
    worker.run_until_idle().await.unwrap_err();
    assert!(probe.notes().iter().any(|note| note == "end claim w Some(unavailable: claim: refused by the test)"), "{:?}", probe.notes());
    assert!(storage.inner.now().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_is_refused_for_good_is_told_by_health_metrics_and_alerts() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    enqueue(&storage, Message::new("a", "")).await;
    storage.script(|call| (call.op() == Op::Settle).then_some(Fault::Refuse(ErrorKind::Corrupt)));
    let builder = worker(&storage).metrics(book(&probe)).alerter(bell(&probe));
    let worker = builder.on("a", async || {}).build().unwrap().spawn();
    probe.noted("storage - x1: corrupt data: settle: refused by the test").await;
    probe.noted("refused 1").await;
    assert_eq!((worker.health().alive, worker.health().refused), (true, 1));
    storage.heal();
    eventually("it is recorded", async || worker.health().unsettled == 0).await;
    assert_eq!(worker.health().refused, 0);
    stop(worker).await;
}
