//! A worker whose runtime is blocked by a handler, and another one on the same file.
#![allow(clippy::disallowed_methods, reason = "a runtime that is blocked, in real time")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tickr_core::{Admin, Context, Handler, Message, Prefetch, State, Status, Worker};
use tickr_sqlite::SqliteStorage;

use crate::{Database, ORDER};

/// What a message waits at most: the longer of timeout + abandon + 0.5 s and one lease, another lease, a look of the reclaimer, 2 s;
/// and what a busy machine adds.
const BOUND: Duration = Duration::from_secs(2 + 2 + 1 + 2 + 10);

#[derive(Clone, Default)]
struct Shared {
    door: Arc<(Mutex<bool>, Condvar)>,
    blocked: Arc<AtomicUsize>,
    elsewhere: Arc<AtomicUsize>,
}

async fn work(context: Context, State(shared): State<Shared>) {
    if context.worker() != "first" {
        shared.elsewhere.fetch_add(1, Ordering::SeqCst);
    } else if context.payload() == "blocks" {
        shared.blocked.fetch_add(1, Ordering::SeqCst);
        let closed = shared.door.0.lock().unwrap();
        drop(shared.door.1.wait_timeout_while(closed, Duration::from_secs(100), |open| !*open).unwrap());
    }
}

fn becomes(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < BOUND, "{what}: in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A worker as another process has it: on a runtime and a handle of its own.
fn start(database: &Database, name: &str, shared: &Shared) -> (Arc<Worker>, Arc<tokio::sync::Notify>, thread::JoinHandle<()>) {
    let storage = SqliteStorage::open(database.path()).unwrap();
    let builder = Worker::builder(storage).name(name).lease(Duration::from_millis(1_500)).abandon_after(Duration::from_millis(200));
    let builder = builder.pool(1).prefetch(Prefetch::Fixed(50)).reclaim_interval(Duration::from_millis(500)).state(shared.clone());
    let handler = work.timeout(Duration::from_secs(1)).retry(Duration::from_millis(1));
    let worker = Arc::new(builder.on(ORDER, handler).build().unwrap());
    let (running, stop) = (Arc::clone(&worker), Arc::new(tokio::sync::Notify::new()));
    let stopped = Arc::clone(&stop);
    let thread = thread::spawn(move || runtime().block_on(running.run_until(async move { stopped.notified().await })).unwrap());
    (worker, stop, thread)
}

#[test]
fn a_runtime_that_is_blocked_loses_its_messages_to_another_process() {
    let setup = runtime();
    let (database, storage) = setup.block_on(Database::migrated());
    let client = tickr_core::Client::new(storage.clone());
    let mut ids = Vec::new();
    for body in std::iter::once("blocks").chain(std::iter::repeat_n("other", 20)) {
        ids.push(setup.block_on(client.enqueue(Message::new(ORDER, body))).unwrap().id());
    }
    let shared = Shared::default();
    let (first, stop_first, first_thread) = start(&database, "first", &shared);
    becomes("it is blocked", || shared.blocked.load(Ordering::SeqCst) == 1);
    let (second, stop_second, second_thread) = start(&database, "second", &shared);
    becomes("others have its messages", || shared.elsewhere.load(Ordering::SeqCst) == ids.len());
    becomes("it is not live", || !first.health().live);
    assert!(second.health().live);

    shared.door.0.lock().map(|mut open| *open = true).unwrap();
    shared.door.1.notify_all();
    becomes("it goes on", || first.health().live && first.health().ready);
    for stop in [stop_first, stop_second] {
        stop.notify_one();
    }
    first_thread.join().unwrap();
    second_thread.join().unwrap();
    for id in ids {
        assert_eq!(setup.block_on(storage.get(id)).unwrap().unwrap().status, Status::Success);
        let history = setup.block_on(storage.history(id)).unwrap();
        assert_eq!(history.iter().filter(|step| step.event == "ok").count(), 1, "the late success is not recorded");
    }
    assert_eq!(setup.block_on(storage.audit()).unwrap().findings, []);
}
