//! Messages reach their handlers, and outcomes are recorded as handlers say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tickr_core::{Admin, Batch, BatchHandler, Client, Context, Failure, MemoryStorage, Message, Outcome, Raw, State, Status, Worker};

type Seen = Arc<AtomicU32>;

async fn count(State(seen): State<Seen>) {
    seen.fetch_add(1, Ordering::SeqCst);
}

#[tokio::test]
async fn every_message_is_handled_once() {
    let storage = MemoryStorage::new();
    let client = Client::new(storage.clone());
    client.enqueue_all((0..1_000).map(|n| Message::new("a", n.to_string()))).await.unwrap();
    let seen = Seen::default();
    let worker = Worker::builder(storage.clone()).state(Arc::clone(&seen)).on("a", count).build().unwrap();
    let report = worker.run_until_idle().await.unwrap();
    assert_eq!((report.claimed, report.succeeded, seen.load(Ordering::SeqCst)), (1_000, 1_000, 1_000));
    assert!(storage.audit().await.unwrap().findings.is_empty());
    assert!(storage.workers().await.unwrap().is_empty(), "the worker signed off");
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_when_its_message_was_due_and_by_which_worker_it_is_run() {
    type Seen = Arc<std::sync::Mutex<Vec<(bool, String)>>>;
    async fn look(context: Context, State(seen): State<Seen>) {
        let due = context.scheduled_at().map(|due| due.since(context.message().stored.created_at));
        assert!(due.is_none_or(|due| due == Duration::from_secs(5)), "{due:?}");
        seen.lock().unwrap().push((due.is_some(), context.worker().to_owned()));
    }
    let (storage, seen) = (super::support::memory(), Seen::default());
    let client = Client::new(storage.clone());
    client.enqueue(Message::new("a", "").after(Duration::from_secs(5))).await.unwrap();
    client.enqueue(Message::new("a", "")).await.unwrap();
    let worker = Worker::builder(storage).clock(tickr_core::Clock::runtime()).state(Arc::clone(&seen)).on("a", look).build().unwrap();
    worker.run_until_idle().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    worker.run_until_idle().await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.iter().map(|(due, _)| *due).collect::<Vec<_>>(), [false, true]);
    let host = seen[0].1.strip_suffix(&format!("-{}", std::process::id())).unwrap();
    assert!(!host.is_empty(), "by default it is named after the machine and the process");
}

#[tokio::test]
async fn verdicts_are_recorded() {
    async fn decide(Raw(body): Raw, context: Context) -> Result<Outcome, Failure> {
        match &body[..] {
            b"skip" => Ok(Outcome::skip("no need")),
            b"snooze" => Ok(Outcome::snooze(Duration::from_secs(60))),
            b"dead" => Err(Failure::dead("cannot be")),
            b"retry" => Err(Failure::retry_after(Duration::from_secs(60), "later")),
            b"last" => Err(format!("failed at attempt {}", context.attempt()).into()),
            b"panic" => panic!("boom"),
            _ => Ok(Outcome::Done),
        }
    }
    let storage = MemoryStorage::new();
    let client = Client::new(storage.clone());
    let once = 1;
    let mut ids = Vec::new();
    for body in ["ok", "skip", "snooze", "dead", "retry", "last", "panic"] {
        let message = Message::new("a", body);
        let message = if matches!(body, "last" | "panic") { message.max_attempts(once) } else { message };
        ids.push(client.enqueue(message).await.unwrap().id());
    }
    let worker = Worker::builder(storage.clone()).on("a", decide).build().unwrap();
    let report = worker.run_until_idle().await.unwrap();
    assert_eq!((report.succeeded, report.skipped, report.retried, report.dead), (1, 1, 2, 3));
    let mut found = Vec::new();
    for id in ids {
        let record = storage.get(id).await.unwrap().unwrap();
        found.push((record.status, record.attempt, record.last_error));
    }
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found[0].0, Status::Success);
    assert_eq!((found[1].0, found[1].2.clone()), (Status::Success, text("no need")));
    assert_eq!((found[2].0, found[2].1), (Status::Created, 0), "a snooze gives the attempt back");
    assert_eq!((found[3].0, found[3].2.clone()), (Status::Dead, text("cannot be")));
    assert_eq!((found[4].0, found[4].1, found[4].2.clone()), (Status::Retrying, 1, text("later")));
    assert_eq!((found[5].0, found[5].2.clone()), (Status::Dead, text("failed at attempt 1")));
    assert_eq!((found[6].0, found[6].2.clone()), (Status::Dead, text("handler panicked: boom")));
}

#[tokio::test]
async fn a_batch_handler_gets_chunks_of_its_size() {
    async fn store(batch: Batch<Raw>, State(sizes): State<Arc<std::sync::Mutex<Vec<usize>>>>) {
        sizes.lock().unwrap().push(batch.len());
    }
    let storage = MemoryStorage::new();
    Client::new(storage.clone()).enqueue_all((0..25).map(|n| Message::new("a", n.to_string()))).await.unwrap();
    let sizes = Arc::new(std::sync::Mutex::new(Vec::<usize>::new()));
    let worker = Worker::builder(storage).state(Arc::clone(&sizes)).on_batch("a", store.max_batch(10)).build().unwrap();
    let report = worker.run_until_idle().await.unwrap();
    assert_eq!(report.succeeded, 25);
    assert_eq!(*sizes.lock().unwrap(), [10, 10, 5]);
}
