//! Pauses that handlers ask for, and what workers and alerts make of pauses.

use tickr_core::{
    Admin, Batch, BatchHandler, Context, ErrorKind, Failure, Handler, Message, Outcome, PauseRequest, PauseScope, Raw, State, Status,
    Storage, Timestamp,
};
use tokio::time::Instant;

use super::support::{
    Fault, Faulty, Op, Probe, enqueue, enqueue_many, eventually, memory, ms, record, secs, sound, status, steps, stop, until_status, worker,
};

/// Answers as an API with a rate limit does, until told otherwise.
async fn limited(context: Context, State(probe): State<Probe>) -> Result<Outcome, Failure> {
    probe.note(context.id().to_string());
    if probe.len() == 1 { Err(Failure::pause_type(secs(30), "the API answered 429")) } else { Ok(Outcome::Done) }
}

#[tokio::test(start_paused = true)]
async fn a_handler_pauses_its_type_for_all_workers_and_burns_no_attempt() {
    let (storage, probe) = (memory(), Probe::new());
    let other = enqueue(&storage, Message::new("other", "")).await;
    let ids = enqueue_many(&storage, "a", 3).await;
    let build = |name: &str| {
        async fn nothing() {}
        let handler = limited.max_attempts(1);
        worker(&storage).name(name).pool(1).batch(1).state(probe.clone()).on("a", handler).on("other", nothing).build().unwrap()
    };
    let first = build("first").spawn();
    eventually("the pause", async || !storage.paused().await.unwrap().is_empty()).await;
    let begun = Instant::now();
    let second = build("second").spawn();
    until_status(&storage, other, Status::Success).await;
    let pause = storage.paused().await.unwrap().remove(0);
    assert_eq!(pause.scope, PauseScope::from("a"));
    assert_eq!((pause.reason.as_deref(), pause.by.as_deref()), (Some("the API answered 429"), Some("first")));
    tokio::time::sleep(secs(25)).await;
    assert_eq!(probe.len(), 1, "nobody runs the type before the pause ends");
    for id in &ids {
        until_status(&storage, *id, Status::Success).await;
        assert_eq!(record(&storage, *id).await.attempt, 1, "its only attempt was given back");
    }
    assert!(begun.elapsed() < secs(33), "found within the poll bound: {:?}", begun.elapsed());
    assert_eq!(probe.notes()[1], ids[0].to_string(), "what was given back runs first");
    let last_error = storage.history(ids[0]).await.unwrap().into_iter().find_map(|step| step.error);
    assert_eq!(last_error.as_deref(), Some("type paused: the API answered 429"));
    stop(first).await;
    stop(second).await;
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_this_process_is_given_back_without_a_call() {
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 20).await;
    let worker = worker(&storage).pool(1).batch(20).state(probe.clone()).on("a", limited).build().unwrap();
    let report = worker.run_until_idle().await.unwrap();
    assert_eq!((probe.len(), report.succeeded, report.retried, report.dead), (1, 0, 0, 0), "{report:?}");
    for id in &ids {
        assert_eq!((status(&storage, *id).await, record(&storage, *id).await.attempt), (Status::Created, 0));
    }
    tokio::time::sleep(secs(30)).await;
    assert_eq!(worker.run_until_idle().await.unwrap().succeeded, 20);
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_handler_pauses_its_type_too() {
    async fn limited(Batch(batch): Batch<Raw>, State(probe): State<Probe>) -> Result<(), Failure> {
        probe.note(batch.len().to_string());
        if probe.len() == 1 { Err(Failure::pause_type(secs(5), "limit")) } else { Ok(()) }
    }
    let (storage, probe) = (memory(), Probe::new());
    enqueue_many(&storage, "a", 9).await;
    let worker = worker(&storage).state(probe.clone()).on_batch("a", limited.max_batch(3)).build().unwrap();
    worker.run_until_idle().await.unwrap();
    assert_eq!((probe.len(), storage.paused().await.unwrap().len()), (1, 1));
    tokio::time::sleep(secs(5)).await;
    assert_eq!(worker.run_until_idle().await.unwrap().succeeded, 9);
}

#[tokio::test(start_paused = true)]
async fn a_handlers_pause_never_shortens_an_operators() {
    let (storage, probe) = (memory(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    async fn pauses_while_paused(State(probe): State<Probe>, State(storage): State<tickr_core::MemoryStorage>) -> Result<(), Failure> {
        probe.note("called");
        storage.pause(&PauseRequest::event_type("a").reason("by hand").by("anna")).await?;
        Err(Failure::pause_type(secs(1), "limit"))
    }
    let builder = worker(&storage).state(probe.clone()).state(storage.clone());
    let worker = builder.on("a", pauses_while_paused).build().unwrap();
    worker.run_until_idle().await.unwrap();
    let pause = storage.paused().await.unwrap().remove(0);
    assert_eq!((pause.until, pause.by.as_deref()), (None, Some("anna")));
    assert_eq!(status(&storage, id).await, Status::Created);
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_no_time_lasts_a_second() {
    async fn at_once(State(probe): State<Probe>) -> Result<(), Failure> {
        probe.note("called");
        Err(Failure::pause_type(ms(0), "again after 0 seconds"))
    }
    let (storage, probe) = (memory(), Probe::new());
    enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).state(probe.clone()).on("a", at_once).build().unwrap().spawn();
    tokio::time::sleep(secs(10)).await;
    assert!((2..=10).contains(&probe.len()), "{}", probe.len());
    stop(worker).await;
}

/// By an outage, or because the moment has come already: the messages are snoozed, and no attempt is burnt.
#[tokio::test(start_paused = true)]
async fn messages_are_snoozed_when_the_pause_cannot_be_stored() {
    async fn limited(State(probe): State<Probe>) -> Result<(), Failure> {
        probe.note("called");
        Err(Failure::pause_type(secs(60), "limit"))
    }
    async fn too_late(State(probe): State<Probe>) -> Result<(), Failure> {
        probe.note("called");
        Err(Failure::pause_type(Timestamp::from_micros(0), "limit"))
    }
    for late in [false, true] {
        let (storage, probe) = (Faulty::new(), Probe::new());
        let id = enqueue(&storage, Message::new("a", "")).await;
        if !late {
            storage.next(Op::Pause, Fault::Refuse(ErrorKind::Unavailable));
        }
        let builder = worker(&storage).state(probe.clone());
        let worker = if late { builder.on("a", too_late) } else { builder.on("a", limited) }.build().unwrap();
        let report = worker.run_until_idle().await.unwrap();
        assert_eq!((probe.len(), report.dead), (1, 0), "{report:?}");
        let record = record(&storage.inner, id).await;
        let delay = record.due_at.unwrap().since(storage.now().await.unwrap());
        let expected = if late { secs(1) } else { secs(60) };
        assert!(delay <= expected && delay > expected - ms(500), "{delay:?}");
        assert_eq!((record.attempt, steps(&storage.inner, id).await.last().copied()), (0, Some("snoozed")));
        assert_eq!(storage.inner.paused().await.unwrap(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sleeping_worker_finds_the_end_of_a_pause_within_its_poll() {
    let (storage, probe) = (memory(), Probe::new());
    storage.pause(&PauseRequest::everything().until(secs(60))).await.unwrap();
    enqueue(&storage, Message::new("a", "")).await;
    async fn note(State(probe): State<Probe>) {
        probe.note("called");
    }
    let begun = Instant::now();
    let worker = worker(&storage).state(probe.clone()).on("a", note).build().unwrap().spawn();
    probe.reached(1).await;
    let waited = begun.elapsed();
    assert!(waited >= secs(60) && waited <= secs(62) + ms(200), "{waited:?}");
    stop(worker).await;
}
