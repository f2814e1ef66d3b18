//! The worker of tickr-core on the storage under test, in real time: the road of a message from end to end.
//!
//! What the worker does under every fault is tested under paused time in tickr-core; here it is the storage that must carry it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tickr_core::{
    Admin, AnyAdmin, Context, Failure, Handler, Message, MessageId, Outcome, State, Status, Worker, WorkerBuilder, WorkerHandle,
};
use tokio::task::yield_now;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::faults::{Faulty, Op};
use crate::world::{World, failed, order, with};

const KIND: &str = "engine";
/// Longer than any case: what the lease does is tested under paused time.
const LEASE: Duration = Duration::from_secs(300);
/// Where a case waits for a heartbeat: one comes every third of it.
const BEATING: Duration = Duration::from_secs(9);

fn worker(storage: AnyAdmin, notes: &Notes) -> WorkerBuilder {
    Worker::builder(storage).name("engine").lease(LEASE).state(notes.clone())
}

/// What handlers were given, and how many run.
#[derive(Clone, Debug, Default)]
struct Notes {
    seen: Arc<Mutex<Vec<String>>>,
    running: Arc<AtomicUsize>,
    suspects: Arc<AtomicUsize>,
}

impl Notes {
    fn add(&self, note: impl Into<String>) {
        self.seen.lock().unwrap().push(note.into());
    }

    fn all(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    fn count(&self, note: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| *seen == note).count()
    }
}

fn enter(count: &Arc<AtomicUsize>) -> Inside {
    count.fetch_add(1, Ordering::SeqCst);
    Inside(Arc::clone(count))
}

struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn body(context: &Context) -> String {
    String::from_utf8_lossy(context.payload()).into_owned()
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
    let worker = worker(world.storage().clone(), &notes).on(KIND, by_body.max_attempts(4)).build().unwrap().spawn();
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
        let worker = worker(world.connect().await, &notes).on(KIND, by_body);
        workers.push(worker.build().unwrap().spawn());
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
    let worker = builder.on(KIND, by_body).build().unwrap().spawn();
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
    let builder = worker(world.storage().clone(), &notes).lease(BEATING).shutdown_grace(Duration::ZERO);
    let worker = builder.on(KIND, until_cancelled.no_timeout()).build().unwrap().spawn();
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
    let worker = worker(world.storage().clone(), &notes).on(KIND, by_body.max_attempts(2)).build().unwrap().spawn();
    until_status(&world, &[id], Status::Dead).await;
    assert_eq!(notes.all(), Vec::<String>::new());
    stop(worker).await;
}

/// How many messages a suspect enqueues while it runs.
const TEMPTATIONS: usize = 100;

/// Notes who runs beside a suspect. A chain goes on until "enough" is noted. Before "crash" is noted no handler ends.
async fn crowd(context: Context, State(notes): State<Notes>, State(world): State<World>) {
    let _inside = enter(&notes.running);
    if notes.count("crash") == 0 {
        notes.add("begun");
        std::future::pending::<()>().await;
    }
    let is_suspect = context.message().stored.ordering_key.is_some();
    // Whoever comes second sees it, however short it stays.
    let others = notes.running.load(Ordering::SeqCst) > 1;
    if others && (is_suspect || notes.suspects.load(Ordering::SeqCst) > 0) {
        notes.add("beside a suspect");
    }
    if !is_suspect && body(&context) == "chain" && notes.count("enough") == 0 {
        put(&world, &["chain"]).await;
    }
    if is_suspect {
        let _suspect = enter(&notes.suspects);
        // Each wakes the worker, and takes about as long as a claim does: time enough to start one beside the suspect.
        for _ in 0..TEMPTATIONS {
            put(&world, &["x"]).await;
            yield_now().await;
        }
        notes.add("suspect ran");
    }
}

/// Leaves two suspects behind: messages that ran when their worker died, twice.
async fn leave_suspects(world: &World, notes: &Notes) -> Vec<MessageId> {
    let marked = || Message::new(KIND, "s").ordering_key("suspect");
    let suspects = world.enqueue_all(vec![marked(), marked()]).await;
    let faulty = Faulty::new(world.storage().clone());
    // A process that dies says no last word: it neither gives back nor signs off, and no heartbeat of it comes late.
    for op in [Op::Settle, Op::Retire, Op::Heartbeat] {
        faulty.refuse(op, 1_000);
    }
    for crash in 1..=2 {
        let dying = crowded(world, AnyAdmin::new(faulty.clone()), notes).build().unwrap();
        let dying = world.spawn(async move { dying.run().await });
        eventually(|| notes.count("begun") == 2 * crash).await;
        dying.abort();
        assert!(dying.await.is_err_and(|error| error.is_cancelled()));
        eventually(|| notes.running.load(Ordering::SeqCst) == 0).await;
        world.advance(2 * LEASE);
        assert_eq!(world.reclaim().await.messages.len(), 2);
    }
    notes.add("crash");
    suspects
}

fn crowded(world: &World, storage: AnyAdmin, notes: &Notes) -> WorkerBuilder {
    worker(storage, notes).state(world.clone()).on(KIND, crowd.no_timeout())
}

/// A suspect has its worker to itself while its claim is exclusive in the storage, however long it takes to end that.
pub async fn suspect_runs_alone_in_its_process(world: World) {
    let notes = Notes::default();
    let suspects = leave_suspects(&world, &notes).await;
    let rest = put(&world, &["x"; 40]).await;
    let faulty = Faulty::new(world.storage().clone());
    faulty.refuse(Op::EndExclusive, 100_000);
    let worker = crowded(&world, AnyAdmin::new(faulty), &notes).build().unwrap().spawn();
    until_status(&world, &suspects, Status::Success).await;
    until_status(&world, &rest, Status::Success).await;
    stop(worker).await;
    assert!(notes.count("suspect ran") >= 2);
    assert_eq!(notes.count("beside a suspect"), 0);
}

/// Suspects get their turn while there is always other work.
pub async fn suspects_do_not_starve_on_busy_workers(world: World) {
    let notes = Notes::default();
    let suspects = leave_suspects(&world, &notes).await;
    put(&world, &["chain"; 5]).await;
    let worker = crowded(&world, world.storage().clone(), &notes).lease(BEATING).build().unwrap().spawn();
    until_status(&world, &suspects, Status::Success).await;
    notes.add("enough");
    stop(worker).await;
}

/// The work of a worker that died is done by another.
pub async fn work_of_a_dead_worker_is_taken_over(world: World) {
    let notes = Notes::default();
    let suspects = leave_suspects(&world, &notes).await;
    let heir = crowded(&world, world.connect().await, &notes).build().unwrap().spawn();
    until_status(&world, &suspects, Status::Success).await;
    stop(heir).await;
    for id in suspects {
        assert_eq!(world.events(id).await, ["created", "claimed", "reclaimed", "claimed", "reclaimed", "claimed", "ok"]);
    }
}

/// A claim whose answer was lost is found by the heartbeat, given back and run.
pub async fn claim_with_lost_answer_is_recovered(world: World) {
    let (notes, faulty) = (Notes::default(), Faulty::new(world.storage().clone()));
    let sent = put(&world, &["x"; 5]).await;
    faulty.lose_answers(Op::Claim, 1);
    let builder = worker(AnyAdmin::new(faulty), &notes).lease(BEATING);
    let worker = builder.on(KIND, by_body).build().unwrap().spawn();
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
    let worker = worker(AnyAdmin::new(faulty), &notes).on(KIND, by_body).build().unwrap().spawn();
    until_status(&world, &sent[..2], Status::Success).await;
    until_status(&world, &sent[2..], Status::Dead).await;
    assert_eq!((notes.count("ok"), notes.count("fail"), notes.count("dead")), (1, 3, 1));
    stop(worker).await;
}

/// A worker of 3,000 event types finds the one message of each soon, and that nothing is left.
pub async fn three_thousand_types_are_served(world: World) {
    let notes = Notes::default();
    let types: Vec<String> = (0..3_000).map(|n| format!("type-{n:04}")).collect();
    for types in types.chunks(500) {
        world.enqueue_all(types.iter().map(|event_type| Message::new(event_type, "ok")).collect()).await;
    }
    let builder = types.iter().fold(worker(world.storage().clone(), &notes), |builder, event_type| builder.on(event_type, by_body));
    let worker = builder.build().unwrap();
    let begun = world.now().await;
    let report = worker.run_until_idle().await.unwrap();
    let took = world.now().await.since(begun);
    assert_eq!((report.succeeded, notes.count("ok")), (3_000, 3_000));
    // Two seconds on a machine that does nothing else, and 43 before claims looked into a part of the types.
    assert!(took < Duration::from_secs(10), "3,000 types took {took:?}");
}

/// A worker that is told to drain does so, says what it did, and leaves types that it does not know queued.
pub async fn drain_reports_what_it_did(world: World) {
    let notes = Notes::default();
    put(&world, &["ok", "skip", "dead", "fail"]).await;
    let stranger = world.put(order()).await;
    let worker = worker(world.storage().clone(), &notes).on(KIND, by_body).build().unwrap();
    let report = worker.run_until_idle().await.unwrap();
    assert_eq!((report.succeeded, report.skipped, report.dead, report.retried), (2, 1, 1, 2), "{report:?}");
    assert_eq!(world.state(stranger).await, (Status::Created, 0));
}
