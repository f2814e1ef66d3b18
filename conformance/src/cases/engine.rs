//! The worker of tickr-core on the storage under test, in real time: the road of a message from end to end.
//!
//! What the worker does under every fault is tested under paused time in tickr-core; here it is the storage that must carry it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tickr_core::{Admin, AnyAdmin, Context, Failure, Message, MessageId, Outcome, State, Status, Worker, WorkerBuilder, WorkerHandle};
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::faults::{Faulty, Op};
use crate::world::{World, failed, order, with};

const KIND: &str = "engine";
/// Long enough for a machine that does other things too.
const LEASE: Duration = Duration::from_secs(3);

fn worker(storage: AnyAdmin, notes: &Notes) -> WorkerBuilder {
    Worker::builder(storage).name("engine").lease(LEASE).state(notes.clone())
}

/// What handlers were given, and how many run.
#[derive(Clone, Debug, Default)]
struct Notes {
    seen: Arc<Mutex<Vec<String>>>,
    running: Arc<AtomicUsize>,
}

impl Notes {
    fn add(&self, note: impl Into<String>) {
        self.seen.lock().unwrap().push(note.into());
    }

    fn all(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    fn count(&self, note: &str) -> usize {
        self.all().iter().filter(|seen| *seen == note).count()
    }
}

fn body(context: &Context) -> String {
    String::from_utf8_lossy(&context.payload).into_owned()
}

/// Looks again and again; the patience is that of the case.
fn looks() -> Interval {
    let mut looks = interval(Duration::from_millis(10));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

async fn eventually(condition: impl Fn() -> bool + Send) {
    let mut looks = looks();
    while !condition() {
        looks.tick().await;
    }
}

async fn until_status(world: &World, ids: &[MessageId], wanted: Status) {
    let mut looks = looks();
    for id in ids {
        while world.status(*id).await != wanted {
            looks.tick().await;
        }
    }
}

async fn stop(worker: WorkerHandle) {
    worker.shutdown();
    worker.join().await.expect("a clean shutdown");
}

async fn put(world: &World, bodies: &[&str]) -> Vec<MessageId> {
    world.enqueue_all(bodies.iter().map(|body| Message::new(KIND, (*body).to_owned())).collect()).await
}

/// Starts a worker that dies without a word when the task is aborted.
fn mortal(world: &World, worker: Worker) -> JoinHandle<tickr_core::Result<()>> {
    world.spawn(async move { worker.run().await })
}

async fn by_body(context: Context, State(notes): State<Notes>) -> Result<Outcome, Failure> {
    notes.add(body(&context));
    match body(&context).as_str() {
        "skip" => Ok(Outcome::skip("nothing to do")),
        "dead" => Err(Failure::dead("no use")),
        "fail" if context.attempt() < 3 => Err(Failure::retry_after(Duration::ZERO, "not yet")),
        "exhaust" => Err(Failure::retry_after(Duration::ZERO, "never")),
        "snooze" if notes.count("snooze") < 3 => Ok(Outcome::snooze(Duration::from_millis(1))),
        _ => Ok(Outcome::Done),
    }
}

/// Every way that a handler can end reaches the storage, and the queue runs empty.
pub async fn every_outcome_is_carried_out(world: World) {
    let notes = Notes::default();
    let sent = put(&world, &["ok", "skip", "dead", "fail", "exhaust", "snooze"]).await;
    let worker = worker(world.storage().clone(), &notes).on(KIND, by_body, |o| o.max_attempts(4)).build().unwrap().spawn();
    use Status::{Dead, Success};
    for (id, end) in sent.iter().zip([Success, Success, Dead, Success, Dead, Success]) {
        until_status(&world, &[*id], end).await;
    }
    assert_eq!((notes.count("fail"), notes.count("exhaust"), notes.count("snooze")), (3, 4, 3));
    assert_eq!(world.state(sent[5]).await, (Success, 1), "a snooze costs no attempt");
    stop(worker).await;
    assert!(world.storage().workers().await.unwrap().is_empty(), "retired");
}

/// Several workers on handles of their own run each message once.
pub async fn several_workers_share_the_queue(world: World) {
    let notes = Notes::default();
    let bodies: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let sent = put(&world, &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        let builder = worker(world.connect().await, &notes).lease(Duration::from_secs(30));
        workers.push(builder.on(KIND, by_body, |o| o).build().unwrap().spawn());
    }
    until_status(&world, &sent, Status::Success).await;
    for worker in workers {
        stop(worker).await;
    }
    let mut seen = notes.all();
    seen.sort_by_key(|body| body.parse::<u32>().unwrap());
    assert_eq!(seen, bodies);
}

/// A message that nobody announces to this process is found by polling.
pub async fn wake_lost_bounded_by_poll(world: World) {
    let notes = Notes::default();
    let builder = worker(world.storage().clone(), &notes).notifier(false);
    let worker = builder.on(KIND, by_body, |o| o).build().unwrap().spawn();
    let elsewhere = world.through(world.connect().await);
    for round in 1..=3 {
        let sent = put(&elsewhere, &["x"]).await;
        let found = timeout(Duration::from_secs(15), eventually(|| notes.count("x") == round)).await;
        assert!(found.is_ok(), "not found by polling");
        until_status(&world, &sent, Status::Success).await;
    }
    stop(worker).await;
}

async fn until_cancelled(context: Context, State(notes): State<Notes>) -> Result<(), Failure> {
    notes.add(format!("{} begun", body(&context)));
    context.cancelled().cancelled().await;
    notes.add(format!("{} cancelled", body(&context)));
    Err("cancelled".into())
}

/// A kill reaches the running handler with its worker's next heartbeat; its neighbours go on.
pub async fn kill_revoked_bit_reaches_worker(world: World) {
    let notes = Notes::default();
    let sent = put(&world, &["a", "b"]).await;
    let builder = worker(world.storage().clone(), &notes).shutdown_grace(Duration::ZERO);
    let worker = builder.on(KIND, until_cancelled, |o| o.no_timeout()).build().unwrap().spawn();
    eventually(|| notes.all().len() == 2).await;
    world.kill(&sent[..1]).await;
    eventually(|| notes.count("a cancelled") == 1).await;
    assert_eq!(notes.count("b cancelled"), 0);
    assert_eq!((world.status(sent[0]).await, world.status(sent[1]).await), (Status::Dead, Status::Handling));
    stop(worker).await;
    assert_eq!(world.status(sent[0]).await, Status::Dead, "its late result does not overwrite it");
}

/// A message whose attempt is above a maximum that was lowered meanwhile goes dead without being run.
pub async fn attempt_above_lowered_max_goes_dead_unrun(world: World) {
    let notes = Notes::default();
    let id = put(&world, &["x"]).await[0];
    let before = world.worker_for(&[KIND], Duration::from_secs(30)).await;
    for _ in 0..3 {
        world.settle(with(&before.claim_of(&[KIND], 1).await, 0, failed("boom"))).await;
    }
    before.retire().await;
    let worker = worker(world.storage().clone(), &notes).on(KIND, by_body, |o| o.max_attempts(2)).build().unwrap().spawn();
    until_status(&world, &[id], Status::Dead).await;
    assert_eq!(notes.all(), Vec::<String>::new());
    stop(worker).await;
}

async fn crowd(context: Context, State(notes): State<Notes>) {
    struct Left(Notes);
    impl Drop for Left {
        fn drop(&mut self) {
            self.0.running.fetch_sub(1, Ordering::SeqCst);
        }
    }
    notes.running.fetch_add(1, Ordering::SeqCst);
    let _left = Left(notes.clone());
    if notes.count("crash") == 0 {
        notes.add("begun");
        std::future::pending::<()>().await;
    }
    if context.message().stored.ordering_key.is_some() {
        // Long enough for a worker that takes others meanwhile to start one.
        let mut beats = interval(Duration::from_millis(20));
        for _ in 0..10 {
            beats.tick().await;
            notes.add(format!("suspect among {}", notes.running.load(Ordering::SeqCst)));
        }
    }
}

/// Leaves two suspects behind: messages that ran when their worker died.
async fn leave_suspects(world: &World, notes: &Notes) -> Vec<MessageId> {
    let marked = || Message::new(KIND, "s").ordering_key("suspect");
    let suspects = world.enqueue_all(vec![marked(), marked()]).await;
    let dying = worker(world.storage().clone(), notes).on(KIND, crowd, |o| o.no_timeout()).build().unwrap();
    let dying = mortal(world, dying);
    eventually(|| notes.count("begun") == 2).await;
    dying.abort();
    assert!(dying.await.is_err_and(|error| error.is_cancelled()));
    notes.add("crash");
    world.advance_secs(60);
    assert_eq!(world.reclaim().await.messages.len(), 2);
    suspects
}

/// A suspect has its worker to itself while it runs.
pub async fn suspect_runs_alone_in_its_process(world: World) {
    let notes = Notes::default();
    let suspects = leave_suspects(&world, &notes).await;
    let rest = put(&world, &["x"; 40]).await;
    let worker = worker(world.storage().clone(), &notes).on(KIND, crowd, |o| o).build().unwrap().spawn();
    until_status(&world, &suspects, Status::Success).await;
    until_status(&world, &rest, Status::Success).await;
    assert_eq!(notes.count("suspect among 1"), 20, "{:?}", notes.all());
    stop(worker).await;
}

/// Suspects get their turn while there is always other work.
pub async fn suspects_do_not_starve_on_busy_workers(world: World) {
    let notes = Notes::default();
    let suspects = leave_suspects(&world, &notes).await;
    let producer = {
        let world = world.clone();
        world.clone().spawn(async move {
            let mut beats = interval(Duration::from_millis(20));
            loop {
                put(&world, &["x"; 5]).await;
                beats.tick().await;
            }
        })
    };
    let worker = worker(world.storage().clone(), &notes).on(KIND, crowd, |o| o).build().unwrap().spawn();
    until_status(&world, &suspects, Status::Success).await;
    producer.abort();
    // The last call of the producer ends before the audit looks.
    let _aborted = producer.await;
    stop(worker).await;
}

/// The work of a worker that died is done by another.
pub async fn work_of_a_dead_worker_is_taken_over(world: World) {
    let notes = Notes::default();
    let suspects = leave_suspects(&world, &notes).await;
    let heir = worker(world.connect().await, &notes).on(KIND, crowd, |o| o).build().unwrap().spawn();
    until_status(&world, &suspects, Status::Success).await;
    stop(heir).await;
    for id in suspects {
        assert_eq!(world.events(id).await, ["created", "claimed", "reclaimed", "claimed", "ok"]);
    }
}

/// A claim whose answer was lost is found by the heartbeat, given back and run.
pub async fn claim_with_lost_answer_is_recovered(world: World) {
    let (notes, faulty) = (Notes::default(), Faulty::new(world.storage().clone()));
    let sent = put(&world, &["x"; 5]).await;
    faulty.lose_answers(Op::Claim, 1);
    let storage = AnyAdmin::new(faulty);
    let worker = worker(storage, &notes).on(KIND, by_body, |o| o).build().unwrap().spawn();
    until_status(&world, &sent, Status::Success).await;
    assert_eq!(notes.count("x"), 5, "each ran once");
    for id in sent {
        assert_eq!(world.state(id).await, (Status::Success, 1), "the attempt was given back");
    }
    stop(worker).await;
}

/// Settles whose answers are lost, or that do not arrive, are repeated until they are recorded, and recorded once.
pub async fn lost_settles_are_repeated(world: World) {
    let (notes, faulty) = (Notes::default(), Faulty::new(world.storage().clone()));
    faulty.refuse(Op::Settle, 2);
    faulty.lose_answers(Op::Settle, 2);
    let sent = put(&world, &["ok", "fail", "dead"]).await;
    let builder = worker(AnyAdmin::new(faulty), &notes).lease(Duration::from_secs(30));
    let worker = builder.on(KIND, by_body, |o| o).build().unwrap().spawn();
    until_status(&world, &sent[..2], Status::Success).await;
    until_status(&world, &sent[2..], Status::Dead).await;
    assert_eq!((notes.count("ok"), notes.count("fail"), notes.count("dead")), (1, 3, 1));
    stop(worker).await;
}

/// A worker that is told to drain does so, says what it did, and leaves types that it does not know queued.
pub async fn drain_reports_what_it_did(world: World) {
    let notes = Notes::default();
    put(&world, &["ok", "skip", "dead", "fail"]).await;
    let stranger = world.put(order()).await;
    let worker = worker(world.storage().clone(), &notes).on(KIND, by_body, |o| o).build().unwrap();
    let report = worker.run_until_idle().await.unwrap();
    assert_eq!((report.succeeded, report.skipped, report.dead, report.retried), (2, 1, 1, 2), "{report:?}");
    assert_eq!(world.state(stranger).await, (Status::Created, 0));
}
