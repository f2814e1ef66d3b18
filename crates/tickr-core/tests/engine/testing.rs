//! What applications test with, and what the client does beside its storage.

use std::time::Duration;

use tickr_core::testing::{Bodies, Decode};
use tickr_core::{
    Admin, Batch, Client, Context, ErrorKind, EventType, Failure, Limits, MemoryStorage, Message, MessageId, Outcome, Raw, Selection,
    State, StoredMessage, Worker, assert_enqueued,
};

use super::support::{Fault, Faulty, Op, Probe, enqueue, enqueue_many, memory, record, secs, worker};

#[tokio::test(start_paused = true)]
async fn perform_calls_a_handler_without_storing_anything() {
    async fn greet(Raw(body): Raw, context: Context, State(probe): State<Probe>) -> Result<Outcome, Failure> {
        probe.note(format!("{body:?} {} of {}", context.attempt(), context.message().max_attempts));
        if body == "bad" { Err(Failure::dead("bad")) } else { Ok(Outcome::skip("done")) }
    }
    let (storage, probe) = (memory(), Probe::new());
    let worker = worker(&storage).max_attempts(4).state(probe.clone()).on("a", greet).build().unwrap();
    assert_eq!(worker.perform(Message::new("a", "good")).await.unwrap(), Outcome::skip("done"));
    assert!(worker.perform(Message::new("a", "bad")).await.unwrap_err().is_dead());
    assert_eq!(probe.notes(), ["b\"good\" 1 of 4", "b\"bad\" 1 of 4"]);
    assert_enqueued!(storage, "a", 0);
}

#[tokio::test(start_paused = true)]
async fn perform_calls_a_batch_handler_with_one_member() {
    async fn count(batch: Batch<Raw>) -> Result<(), Failure> {
        if batch.len() == 1 { Ok(()) } else { Err("not one".into()) }
    }
    let worker = worker(&memory()).on_batch("a", count).build().unwrap();
    assert_eq!(worker.perform(Message::new("a", "")).await.unwrap(), Outcome::Done);
}

#[tokio::test]
async fn assert_enqueued_gives_the_messages() {
    let storage = MemoryStorage::new();
    enqueue_many(&storage, "a", 2).await;
    let found = assert_enqueued!(storage, "a", 2);
    assert_eq!((&found[0].payload[..], &found[1].payload[..]), (&b"1"[..], &b"0"[..]), "newest first");
    let mut tx = storage.begin().await;
    Client::new(storage.clone()).enqueue_in(&mut tx, Message::new("a", "2")).await.unwrap();
    assert_enqueued!(storage, in &mut tx, "a", 3);
    assert_enqueued!(storage, "a", 2);
    tx.rollback().await;
    assert_enqueued!(storage, "a");
}

#[tokio::test]
#[should_panic(expected = "no message of type a is stored")]
async fn assert_enqueued_panics_when_there_is_none() {
    assert_enqueued!(MemoryStorage::new(), "a");
}

#[tokio::test(start_paused = true)]
async fn the_client_repeats_an_enqueue_whose_answer_was_lost_without_doubling_it() {
    let storage = Faulty::new();
    storage.next(Op::Enqueue, Fault::LoseAnswer);
    storage.next(Op::Enqueue, Fault::Refuse(ErrorKind::Unavailable));
    let stored = Client::new(storage.clone()).enqueue(Message::new("a", "")).await.unwrap();
    assert!(!stored.is_duplicate());
    assert_enqueued!(storage.inner, "a", 1);
    assert_eq!(storage.calls(Op::Enqueue), 3);
}

#[tokio::test(start_paused = true)]
async fn the_client_gives_up_after_its_retries_and_on_other_errors() {
    let storage = Faulty::new();
    storage.go_down();
    let error = Client::builder(storage.clone()).retries(2).build().enqueue(Message::new("a", "")).await.unwrap_err();
    assert_eq!((error.kind(), storage.calls(Op::Enqueue)), (ErrorKind::Unavailable, 3));
    storage.script(|_| Some(Fault::Refuse(ErrorKind::Corrupt)));
    let error = Client::new(storage.clone()).enqueue(Message::new("a", "")).await.unwrap_err();
    assert_eq!((error.kind(), storage.calls(Op::Enqueue)), (ErrorKind::Corrupt, 4));
}

#[tokio::test(start_paused = true)]
async fn a_batch_with_one_wrong_message_is_refused_as_a_whole() {
    let storage = memory();
    let client = Client::builder(storage.clone()).limits(Limits::default().payload_bytes(3).delay_max(secs(10))).build();
    let error = client.enqueue_all([Message::new("a", "abc"), Message::new("a", "abcd")]).await.unwrap_err();
    assert_eq!(error.to_string(), "invalid argument: payload of a has 4 bytes, the limit is 3");
    let error = client.enqueue(Message::new("a", "").after(secs(11))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let id = MessageId::new();
    let error = client.enqueue_all([Message::new("a", "").id(id), Message::new("a", "").id(id)]).await.unwrap_err();
    assert!(error.to_string().contains(&id.to_string()));
    assert_enqueued!(storage, "a", 0);
}

#[tokio::test]
async fn spawned_workers_run_on_the_machines_clock_with_a_heartbeat_of_their_own() {
    async fn nothing(State(probe): State<Probe>) {
        probe.note("run");
    }
    let (storage, probe) = (MemoryStorage::new(), Probe::new());
    let builder = Worker::builder(storage.clone()).name("real").lease(Duration::from_millis(200)).state(probe.clone());
    let worker = builder.on("a", nothing).build().unwrap().spawn();
    enqueue_many(&storage, "a", 100).await;
    probe.reached(100).await;
    assert!(worker.health().alive);
    assert_eq!(storage.workers().await.unwrap()[0].name, "real");
    worker.shutdown();
    worker.join().await.unwrap();
    assert!(storage.workers().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_message_with_no_attempts_is_refused() {
    let error = Client::new(MemoryStorage::new()).enqueue(Message::new("a", "").max_attempts(0)).await.unwrap_err();
    let said = "invalid argument: max_attempts of a message of a is 0; leave it out to inherit the handler's";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Config, said.to_owned()));
}

#[tokio::test]
async fn a_selection_narrows_by_type_tenant_and_number() {
    let storage = MemoryStorage::new();
    let client = Client::new(storage.clone());
    for (event_type, tenant) in [("a", "acme"), ("a", "acme"), ("a", "other"), ("b", "acme")] {
        client.enqueue(Message::new(event_type, "").tenant(tenant)).await.unwrap();
    }
    let kill = async |selection: Selection| storage.kill(&selection, "by hand").await.unwrap().done.len();
    assert_eq!(kill(Selection::event_type("a").tenant("acme").limit(1)).await, 1);
    assert_eq!(kill(Selection::event_type("a").tenant("acme")).await, 1);
    assert_eq!(kill(Selection::all().tenant("acme")).await, 1);
    assert_eq!(kill(Selection::all()).await, 1);
}

#[test]
#[should_panic(expected = "a selection by ids takes no tenant")]
fn a_selection_by_ids_is_not_silently_wider_than_it_reads() {
    let _ = Selection::from(MessageId::new()).tenant("acme");
}

#[test]
fn an_event_type_is_parsed_from_text() {
    assert_eq!("order.placed".parse::<EventType>().unwrap().as_str(), "order.placed");
    assert_eq!("".parse::<EventType>().unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_memory_without_history_records_no_texts() {
    let storage = MemoryStorage::builder().history(false).build();
    let id = Client::new(storage.clone()).enqueue(Message::new("a", "")).await.unwrap().id();
    let worker = Worker::builder(storage.clone()).on("a", async || Err::<(), _>(Failure::dead("no"))).build().unwrap();
    worker.run_until_idle().await.unwrap();
    assert!(storage.history(id).await.unwrap().iter().all(|step| step.error.is_none()));
}

#[tokio::test]
#[should_panic(expected = "this worker has no handler for b")]
async fn perform_panics_without_a_handler() {
    let worker = worker(&memory()).on("a", async || ()).build().unwrap();
    drop(worker.perform(Message::new("b", "")).await);
}

#[tokio::test]
async fn an_inline_client_returns_when_the_message_and_what_follows_are_handled() {
    async fn first(context: Context) -> Result<(), Failure> {
        context.client().enqueue(Message::new("second", "")).await?;
        Ok(())
    }
    let (storage, probe) = (memory(), Probe::new());
    let second = async |State(probe): State<Probe>| probe.note("second");
    let handlers = worker(&storage).state(probe.clone()).on("first", first).on("second", second).build().unwrap();
    let client = Client::builder(storage.clone()).inline(std::sync::Arc::new(handlers)).build();
    let id = client.enqueue(Message::new("first", "")).await.unwrap().id();
    assert_eq!(probe.notes(), ["second"]);
    assert_eq!(super::support::status(&storage, id).await, tickr_core::Status::Success);
    let mut tx = storage.begin().await;
    client.enqueue_in(&mut tx, Message::new("first", "")).await.unwrap();
    assert_eq!(probe.len(), 1, "nothing is handled before the commit");
    tx.rollback().await;
}

#[tokio::test]
async fn headers_are_set_as_a_whole_and_one_by_one() {
    let storage = memory();
    let mut headers = tickr_core::Headers::new();
    headers.insert("one", "1");
    let message = Message::new("a", "").header("before", "gone").headers(headers).header("two", "2");
    let id = enqueue(&storage, message).await;
    let stored = record(&storage, id).await.stored.headers;
    assert_eq!(stored.iter().collect::<Vec<_>>(), [("one", "1"), ("two", "2")]);
}

#[tokio::test(start_paused = true)]
async fn reports_add_up() {
    let storage = memory();
    let worker = worker(&storage).on("a", async || ()).build().unwrap();
    let mut total = tickr_core::DispatchReport::default();
    for _ in 0..2 {
        enqueue_many(&storage, "a", 3).await;
        total += worker.run_until_idle().await.unwrap();
    }
    assert_eq!((total.claimed, total.succeeded), (6, 6));
    assert_eq!([total, total].into_iter().sum::<tickr_core::DispatchReport>(), total + total);
}

struct Placed(String);

impl tickr_core::Event for Placed {
    const TYPE: &'static str = "order.placed";
}

/// A codec of which bodies that begin with `?` are none.
struct Text;

impl Decode<Text, Placed> for Bodies {
    fn decode(message: &StoredMessage) -> Result<Placed, tickr_core::BoxError> {
        let text = String::from_utf8(message.payload.to_vec())?;
        if text.starts_with('?') { Err("no text".into()) } else { Ok(Placed(text)) }
    }
}

#[tokio::test]
async fn messages_are_matched_by_their_decoded_bodies() {
    let storage = memory();
    for body in ["red", "blue", "?", "red"] {
        enqueue(&storage, Message::new("order.placed", body)).await;
    }
    let mut stored = tickr_core::testing::enqueued(&storage, "order.placed").await.unwrap();
    stored.reverse();
    let matching = |count, body: &str| {
        let found = tickr_core::testing::matching::<Text, Placed>(stored.clone(), count, "a pattern", |placed| placed.0 == body);
        found.map(|found| found.iter().map(|message| message.id).collect::<Vec<_>>())
    };
    assert_eq!((matching(None, "blue"), matching(Some(2), "red")), (Ok(vec![stored[1].id]), Ok(vec![stored[0].id, stored[3].id])));
    assert_eq!(matching(Some(0), "green"), Ok(vec![]));
    let said = matching(None, "green").unwrap_err();
    assert!(said.contains("a pattern") && said.contains("\n  red\n  blue\n  ? (no text)\n  red"), "{said}");
    assert!(matching(Some(1), "red").is_err());
}
