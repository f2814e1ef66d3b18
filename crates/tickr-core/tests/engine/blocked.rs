//! Handlers, and other code of the application, that block every thread of its runtime.
//!
//! In real time, with real runtimes: a paused clock would stand still with them. Everything is judged from outside of the runtime
//! that is blocked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tickr_core::{
    Admin, Alerter, BoxFuture, Clock, Context, ErrorEvent, ErrorKind, Handler, MemoryStorage, Message, MessageId, Prefetch, State, Status,
    Storage, Worker, WorkerBuilder,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use super::log::Lines;
use super::support::{Call, Fault, Faulty, Gate, enqueue, ms, secs, sound, steps};

const LEASE: Duration = ms(1_500);
const TIMEOUT: Duration = secs(1);
const ABANDON: Duration = ms(200);

/// How long messages may stay with a worker that is blocked: as `WorkerHealth` promises, and what a busy machine adds.
const BOUND: Duration = secs(1 + 1 + 2 * 2 + 1 + 10);

/// Closed until the test opens it.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<bool>, Condvar)>);

impl Door {
    /// Blocks the thread.
    fn pass(&self) {
        let closed = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(closed, secs(100), |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

/// What ran where.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<Vec<String>>>);

impl Runs {
    fn note(&self, worker: &str, what: &str) {
        self.0.lock().unwrap().push(format!("{worker} {what}"));
    }

    fn count(&self, begins: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|run| run.starts_with(begins)).count()
    }
}

async fn work(context: Context, State(runs): State<Runs>, State(door): State<Door>) {
    let body = String::from_utf8_lossy(context.payload()).into_owned();
    runs.note(context.worker(), &body);
    if body == "blocks" && context.worker() == "first" {
        door.pass();
    }
}

fn becomes(what: &str, within: Duration, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < within, "{what}: in vain");
        thread::sleep(ms(5));
    }
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn threads(n: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(n).enable_all().build().unwrap()
}

/// A worker on a runtime and a thread of its own, as another process has it.
struct Process {
    worker: Arc<Worker>,
    stop: Arc<Notify>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Process {
    fn start(runtime: Runtime, worker: Worker) -> Self {
        let (worker, stop) = (Arc::new(worker), Arc::new(Notify::new()));
        let (running, stopped) = (Arc::clone(&worker), Arc::clone(&stop));
        let thread = thread::spawn(move || runtime.block_on(running.run_until(async move { stopped.notified().await })).unwrap());
        Self { worker, stop, thread: Some(thread) }
    }

    fn stop(mut self) {
        self.stop.notify_one();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn builder(storage: &(impl Storage + Clone), name: &str, runs: &Runs, door: &Door) -> WorkerBuilder {
    let builder = Worker::builder(storage.clone()).name(name).seed(7).clock(Clock::Boot).lease(LEASE).abandon_after(ABANDON);
    builder.reclaim_interval(ms(200)).shutdown_grace(secs(5)).state(runs.clone()).state(door.clone())
}

fn put(storage: &(impl Storage + Clone), bodies: &[&str]) -> Vec<MessageId> {
    let put = async |body: &&str| enqueue(storage, Message::new("a", (*body).to_owned())).await;
    bodies.iter().map(|body| current_thread().block_on(put(body))).collect()
}

fn history(storage: &MemoryStorage, id: MessageId) -> Vec<&'static str> {
    current_thread().block_on(steps(storage, id))
}

fn status(storage: &MemoryStorage, id: MessageId) -> Status {
    current_thread().block_on(storage.get(id)).unwrap().unwrap().status
}

#[test]
fn a_runtime_that_handlers_block_loses_its_messages_to_others_and_is_not_live() {
    for (runtime, blockers) in [(threads(1), 1), (threads(2), 2), (current_thread(), 1)] {
        let (storage, runs, door) = (MemoryStorage::new(), Runs::default(), Door::default());
        let blocking = put(&storage, &vec!["blocks"; blockers]);
        let others = put(&storage, &["other"; 20]);
        let first = builder(&storage, "first", &runs, &door).pool(u32::try_from(blockers).unwrap()).prefetch(Prefetch::Fixed(50));
        let first = Process::start(runtime, first.on("a", work.timeout(TIMEOUT).retry(ms(1))).build().unwrap());
        becomes("it is blocked", secs(30), || runs.count("first blocks") == blockers);
        let begun = Instant::now();
        let second = builder(&storage, "second", &runs, &door).on("a", work.timeout(TIMEOUT)).build().unwrap();
        let second = Process::start(threads(2), second);

        becomes("others have its messages", BOUND, || runs.count("second") == 20 + blockers);
        assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
        becomes("it is not live", BOUND, || !first.worker.health().live);
        assert!(!first.worker.health().ready);
        assert!(second.worker.health().live && second.worker.health().ready);
        for id in &blocking {
            becomes("the blocked ones succeed elsewhere", BOUND, || status(&storage, *id) == Status::Success);
        }

        door.open();
        becomes("it goes on", BOUND, || first.worker.health().live && first.worker.health().ready);
        second.stop();
        let late = put(&storage, &["late"])[0];
        becomes("it works", BOUND, || status(&storage, late) == Status::Success);
        first.stop();
        assert_eq!(runs.count("first late"), 1);
        for id in others {
            assert_eq!(history(&storage, id).iter().filter(|event| **event == "ok").count(), 1);
        }
        for id in blocking {
            assert_eq!(
                history(&storage, id),
                ["created", "claimed", "failed", "retrying", "claimed", "ok"],
                "the late success is not recorded"
            );
        }
        current_thread().block_on(sound(&storage));
    }
}

/// Runners of other messages wait for the thread that the first handler has: their handlers were not called, and nothing timed out.
#[test]
fn messages_whose_handlers_were_not_called_lose_no_attempt() {
    for runtime in [threads(1), current_thread()] {
        let (storage, runs, door) = (MemoryStorage::new(), Runs::default(), Door::default());
        let ids = put(&storage, &["blocks"; 20]);
        let first = builder(&storage, "first", &runs, &door).pool(32).on("a", work.timeout(TIMEOUT).max_attempts(1));
        let first = Process::start(runtime, first.build().unwrap());
        becomes("it is blocked", secs(30), || runs.count("first blocks") == 1);
        let second = builder(&storage, "second", &runs, &door).on("a", work.timeout(TIMEOUT).max_attempts(1));
        let second = Process::start(threads(2), second.build().unwrap());
        becomes("others have its messages", BOUND, || runs.count("second blocks") == ids.len() - 1);
        let is = |wanted| ids.iter().filter(|id| status(&storage, **id) == wanted).count();
        becomes("they succeed, and one timed out", BOUND, || (is(Status::Success), is(Status::Dead)) == (ids.len() - 1, 1));
        door.open();
        becomes("it goes on", BOUND, || first.worker.health().live && first.worker.health().ready);
        let late = put(&storage, &["late"])[0];
        becomes("they work", BOUND, || status(&storage, late) == Status::Success);
        first.stop();
        second.stop();
        assert_eq!(runs.count("first blocks"), 1, "what was given back is not called");
        current_thread().block_on(sound(&storage));
    }
}

/// Rings when the runtime is blocked.
#[derive(Debug, Default)]
struct Bell(Mutex<Vec<String>>);

impl Alerter for Bell {
    fn on_error(&self, event: ErrorEvent) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Needs the timer of a runtime that runs.
            tokio::time::sleep(ms(1)).await;
            self.0.lock().unwrap().push(event.kind.as_str().to_owned());
        })
    }
}

#[test]
fn a_handler_without_timeout_that_blocks_the_runtime_keeps_its_lease_and_gives_back_what_waits() {
    for runtime in [threads(1), current_thread()] {
        let (storage, runs, door, bell) = (MemoryStorage::new(), Runs::default(), Door::default(), Arc::new(Bell::default()));
        let blocking = put(&storage, &["blocks"])[0];
        let others = put(&storage, &["other"; 20]);
        let first = builder(&storage, "first", &runs, &door).pool(1).prefetch(Prefetch::Fixed(50)).alerter(Arc::<Bell>::clone(&bell));
        let first = Process::start(runtime, first.on("a", work.no_timeout()).build().unwrap());
        becomes("it is blocked", secs(30), || runs.count("first blocks") == 1);
        let second = builder(&storage, "second", &runs, &door).on("a", work.no_timeout()).build().unwrap();
        let second = Process::start(threads(2), second);

        becomes("others have what waited", BOUND, || runs.count("second other") == others.len());
        becomes("somebody is told", BOUND, || bell.0.lock().unwrap().contains(&"blocked".to_owned()));
        // Longer than any lease that it had when it was blocked.
        let last = first.worker.health().last_heartbeat.unwrap();
        assert!(last < LEASE);
        thread::sleep(LEASE * 2);
        let health = first.worker.health();
        assert!(health.live && health.alive && !health.ready && health.running == 1, "{health:?}");
        assert!(health.last_heartbeat.unwrap() < LEASE);
        assert_eq!(status(&storage, blocking), Status::Handling);

        door.open();
        becomes("it succeeds where it ran", BOUND, || status(&storage, blocking) == Status::Success);
        becomes("it is ready again", BOUND, || first.worker.health().ready);
        first.stop();
        second.stop();
        assert_eq!(history(&storage, blocking), ["created", "claimed", "ok"]);
        assert_eq!(bell.0.lock().unwrap().iter().filter(|kind| *kind == "blocked").count(), 1);
        current_thread().block_on(sound(&storage));
    }
}

async fn finish(context: Context, State(runs): State<Runs>, State(door): State<Door>) {
    runs.note("first", "ran");
    if context.payload() == "blocks" {
        // The others have finished in the same turn of the runtime, and nothing of them is recorded.
        door.pass();
    }
}

#[test]
fn outcomes_that_waited_when_the_runtime_was_blocked_are_recorded_all_the_same() {
    let (storage, runs, door) = (MemoryStorage::new(), Runs::default(), Door::default());
    let done = put(&storage, &["done"; 5]);
    let blocking = put(&storage, &["blocks"])[0];
    let first = builder(&storage, "first", &runs, &door).pool(1).prefetch(Prefetch::Fixed(50)).on("a", finish.no_timeout());
    let first = Process::start(current_thread(), first.build().unwrap());
    for id in &done {
        becomes("it is recorded", BOUND, || status(&storage, *id) == Status::Success);
    }
    assert_eq!((runs.count("first ran"), status(&storage, blocking)), (6, Status::Handling));
    door.open();
    becomes("it goes on", BOUND, || status(&storage, blocking) == Status::Success);
    first.stop();
    assert_eq!(runs.count("first ran"), 6);
}

/// Whose fault it is can only be found out once the runtime goes on.
#[test]
fn outcomes_that_are_refused_while_the_runtime_is_blocked_are_kept() {
    for kind in [ErrorKind::Corrupt, ErrorKind::Unavailable] {
        let (storage, runs, door, tries) = (MemoryStorage::new(), Runs::default(), Door::default(), Arc::new(AtomicUsize::new(0)));
        let (faulty, tried) = (Faulty::over(storage.clone()), Arc::clone(&tries));
        faulty.script(move |call| {
            let apart = thread::current().name() == Some("tickr-heartbeat") && matches!(call, Call::Settle(_));
            apart.then(|| {
                tried.fetch_add(1, Ordering::SeqCst);
                Fault::Refuse(kind)
            })
        });
        let mut all = put(&storage, &["done"; 5]);
        all.extend(put(&storage, &["blocks"]));
        let first = builder(&faulty, "first", &runs, &door).pool(1).prefetch(Prefetch::Fixed(50)).on("a", finish.no_timeout());
        let first = Process::start(current_thread(), first.build().unwrap());
        becomes("it is tried", BOUND, || tries.load(Ordering::SeqCst) > 1);
        assert!(all.iter().all(|id| status(&storage, *id) == Status::Handling));
        door.open();
        for id in &all {
            becomes("it is recorded", BOUND, || status(&storage, *id) == Status::Success);
        }
        first.stop();
        assert_eq!(runs.count("first ran"), 6);
    }
}

/// As with connections that the blocked runtime drives.
#[test]
fn where_the_heartbeats_thread_can_record_nothing_the_lease_runs_out() {
    let (storage, runs, door) = (MemoryStorage::new(), Runs::default(), Door::default());
    let faulty = Faulty::over(storage.clone());
    faulty.script(|call| {
        let apart = thread::current().name() == Some("tickr-heartbeat") && !matches!(call, Call::Heartbeat(_));
        apart.then_some(Fault::Hang)
    });
    put(&storage, &["blocks"]);
    put(&storage, &["other"; 20]);
    let first = builder(&faulty, "first", &runs, &door).pool(1).prefetch(Prefetch::Fixed(50)).on("a", work.timeout(TIMEOUT));
    let first = Process::start(threads(1), first.build().unwrap());
    becomes("it is blocked", secs(30), || runs.count("first blocks") == 1);
    let second = Process::start(threads(2), builder(&storage, "second", &runs, &door).on("a", work.timeout(TIMEOUT)).build().unwrap());
    becomes("others have its messages", BOUND, || runs.count("second") == 21);
    let health = first.worker.health();
    assert!(!health.live && !health.alive && !health.ready, "{health:?}");
    door.open();
    becomes("it goes on", BOUND, || first.worker.health().live && first.worker.health().ready);
    first.stop();
    second.stop();
    current_thread().block_on(sound(&storage));
}

#[test]
fn a_runtime_that_is_stuck_is_logged_once() {
    let (storage, runs, door, lines) = (MemoryStorage::new(), Runs::default(), Door::default(), Lines::default());
    lines.capture_warnings_of_all_threads();
    let faulty = Faulty::over(storage);
    faulty.script(|call| {
        let apart = thread::current().name() == Some("tickr-heartbeat") && !matches!(call, Call::Heartbeat(_));
        apart.then_some(Fault::Hang)
    });
    put(&faulty, &["blocks"]);
    let first = builder(&faulty, "first", &runs, &door).on("a", work.timeout(TIMEOUT)).build().unwrap();
    let first = Process::start(threads(1), first);
    becomes("it says so", BOUND, || lines.text().contains("the runtime is stuck"));
    // Its thread looks again every tenth of a lease.
    thread::sleep(LEASE);
    let text = lines.text();
    let of_first = text.lines().filter(|line| line.contains("the runtime is stuck; the lease is not extended any more worker=first"));
    assert_eq!(of_first.count(), 1, "{text}");
    door.open();
    becomes("it goes on", BOUND, || first.worker.health().live && first.worker.health().ready);
    first.stop();
}

#[test]
fn an_application_that_blocks_the_runtime_itself_is_not_live() {
    let (storage, runs, door) = (MemoryStorage::new(), Runs::default(), Door::default());
    let (runtime, blocks) = (threads(1), door.clone());
    let handle = runtime.handle().clone();
    let first = Process::start(runtime, builder(&storage, "first", &runs, &door).on("a", work.timeout(TIMEOUT)).build().unwrap());
    becomes("it is ready", secs(30), || first.worker.health().ready);
    handle.spawn(async move { blocks.pass() });
    becomes("it is not ready", BOUND, || !first.worker.health().ready);
    becomes("it is not live", BOUND, || !first.worker.health().live);
    door.open();
    becomes("it goes on", BOUND, || first.worker.health().live && first.worker.health().ready);
    first.stop();
}

#[test]
fn what_a_claim_brings_to_a_runtime_that_is_blocked_is_given_back() {
    async fn hold(context: Context, State(runs): State<Runs>, State(door): State<Door>, State(go): State<Arc<Notify>>) {
        let body = String::from_utf8_lossy(context.payload()).into_owned();
        runs.note(context.worker(), &body);
        if body == "blocks" {
            go.notified().await;
            door.pass();
        }
    }
    let (storage, runs, door, gate) = (MemoryStorage::new(), Runs::default(), Door::default(), Gate::new());
    let (faulty, go) = (Faulty::over(storage.clone()), Arc::new(Notify::new()));
    let claims = AtomicUsize::new(0);
    faulty.script({
        let gate = gate.clone();
        move |call| {
            let is_second = matches!(call, Call::Claim(request) if !request.solo) && claims.fetch_add(1, Ordering::SeqCst) == 1;
            is_second.then(|| Fault::LateAnswer(gate.clone()))
        }
    });
    put(&storage, &["blocks", "claimed"]);
    let first = builder(&faulty, "first", &runs, &door).pool(4).batch(1).state(Arc::clone(&go)).on("a", hold.no_timeout());
    let first = Process::start(current_thread(), first.build().unwrap());
    becomes("it runs", secs(30), || runs.count("first blocks") == 1);
    current_thread().block_on(gate.arrived());
    go.notify_one();

    let second = builder(&storage, "second", &runs, &door).state(go).on("a", hold.no_timeout()).build().unwrap();
    let second = Process::start(threads(2), second);
    becomes("others have what it claimed", BOUND, || runs.count("second claimed") == 1);
    gate.open();
    door.open();
    becomes("it goes on", BOUND, || first.worker.health().ready);
    let late = put(&storage, &["late"])[0];
    becomes("it works", BOUND, || status(&storage, late) == Status::Success);
    first.stop();
    second.stop();
    assert_eq!(runs.count("first claimed"), 0, "an answer that is given up is not taken in");
    current_thread().block_on(sound(&storage));
}
