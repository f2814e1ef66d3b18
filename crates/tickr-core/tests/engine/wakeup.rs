//! When a worker looks for work: at once when it is told, by polling when it is not, and seldom when there is nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tickr_core::{BoxFuture, Client, Error, ErrorKind, EventType, Listener, Message, Notifier, State, Status, Storage};
use tokio::time::{Instant, sleep};

use super::support::{Call, Fault, Faulty, Op, Probe, enqueue, enqueue_many, eventually, memory, ms, secs, stop, until_status, worker};

async fn note(State(probe): State<Probe>) {
    probe.note("run");
}

/// A worker that has been idle for a minute.
macro_rules! idle_worker {
    ($storage:expr, $probe:expr) => {{
        let worker = worker(&$storage).state($probe.clone()).on("a", note).build().unwrap().spawn();
        sleep(secs(60)).await;
        worker
    }};
}

/// The worker in the same process learns of the message of a batch that is due first.
#[tokio::test(start_paused = true)]
async fn a_batch_is_known_by_its_first_due_time() {
    let storage = memory();
    let wakeups = storage.wakeups().subscribe([]);
    let after = |seconds| Message::new("a", "").after(secs(seconds));
    Client::new(storage.clone()).enqueue_all([after(60), after(5), after(600)]).await.unwrap();
    let delay = wakeups.next_scheduled().await;
    assert!(delay > secs(4) && delay <= secs(5), "{delay:?}");
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_wakes_at_once() {
    let (storage, probe) = (memory(), Probe::new());
    let worker = idle_worker!(storage, probe);
    let begun = Instant::now();
    enqueue(&storage, Message::new("a", "")).await;
    probe.reached(1).await;
    assert_eq!(begun.elapsed(), secs(0));
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_in_a_transaction_starts_a_burst_of_polls() {
    let (storage, probe) = (memory(), Probe::new());
    let worker = idle_worker!(storage, probe);
    for (commit_after, found_within) in [(0, 2), (3, 6), (30, 45)] {
        let mut tx = storage.begin().await;
        Client::new(storage.clone()).enqueue_in(&mut tx, Message::new("a", "")).await.unwrap();
        let ran = probe.len();
        sleep(ms(commit_after)).await;
        tx.commit().await.unwrap();
        let begun = Instant::now();
        probe.reached(ran + 1).await;
        assert!(begun.elapsed() <= ms(found_within), "committed after {commit_after} ms, found {:?} later", begun.elapsed());
        sleep(secs(60)).await;
    }
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn wake_finds_what_was_committed() {
    let (storage, probe) = (memory(), Probe::new());
    let worker = idle_worker!(storage, probe);
    let client = Client::new(storage.clone());
    let mut tx = storage.begin().await;
    client.enqueue_in(&mut tx, Message::new("a", "")).await.unwrap();
    sleep(secs(10)).await;
    tx.commit().await.unwrap();
    let begun = Instant::now();
    client.wake();
    probe.reached(1).await;
    assert_eq!(begun.elapsed(), secs(0));
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_wake_up_costs_no_more_than_the_idle_interval() {
    let (storage, probe) = (memory(), Probe::new());
    let worker = idle_worker!(storage, probe);
    for n in 1..=10 {
        sleep(ms(777)).await;
        let begun = Instant::now();
        enqueue(&storage.other_process(), Message::new("a", "")).await;
        probe.reached(n).await;
        assert!(begun.elapsed() <= secs(2), "{:?}", begun.elapsed());
    }
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_had_work_polls_eagerly_for_a_while() {
    let (storage, probe) = (memory(), Probe::new());
    let worker = idle_worker!(storage, probe);
    enqueue(&storage, Message::new("a", "")).await;
    probe.reached(1).await;
    sleep(ms(500)).await;
    let begun = Instant::now();
    enqueue(&storage.other_process(), Message::new("a", "")).await;
    probe.reached(2).await;
    assert!(begun.elapsed() <= ms(100), "{:?}", begun.elapsed());
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_of_another_type_is_none() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let worker = idle_worker!(storage, probe);
    let before = storage.calls(Op::Claim);
    for _ in 0..100 {
        enqueue(&storage, Message::new("other", "")).await;
    }
    sleep(ms(1)).await;
    assert!(storage.calls(Op::Claim) - before <= 2);
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_asks_seldom() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let worker = idle_worker!(storage, probe);
    let all_claims = || storage.calls(Op::Claim) + storage.calls(Op::ClaimExclusive);
    let (before, promotions, reclaims) = (all_claims(), storage.calls(Op::Promote), storage.calls(Op::Reclaim));
    sleep(secs(600)).await;
    let claims = all_claims() - before;
    // One each 1.6 to 2 s, and one for suspects each 10 s. Claims see whether something is due, but for what is committed late.
    assert!((350..=440).contains(&claims), "{claims} claims in ten minutes");
    let promotions = storage.calls(Op::Promote) - promotions;
    assert!((55..=65).contains(&promotions), "{promotions} promotions in ten minutes");
    let reclaims = storage.calls(Op::Reclaim) - reclaims;
    assert!((50..=75).contains(&reclaims), "{reclaims} reclaims in ten minutes");
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn workers_that_were_started_together_do_not_poll_together() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let mut workers = Vec::new();
    for seed in 0..2 {
        workers.push(worker(&storage).seed(seed).state(probe.clone()).on("a", note).build().unwrap().spawn());
    }
    sleep(secs(120)).await;
    let times: Vec<Duration> = storage.times(Op::Claim).into_iter().filter(|at| *at > secs(30)).collect();
    let together = times.chunk_by(|a, b| a == b).filter(|chunk| chunk.len() > 2).count();
    assert!(together < 5, "{together} of {} looks were at the same moment", times.len());
    for worker in workers {
        stop(worker).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_full_claims_again_at_once() {
    async fn second() {
        sleep(secs(1)).await;
    }
    let storage = memory();
    let ids = enqueue_many(&storage, "a", 300).await;
    let worker = worker(&storage).pool(100).on("a", second).build().unwrap().spawn();
    let begun = Instant::now();
    until_status(&storage, ids[299], Status::Success).await;
    assert!(begun.elapsed() < ms(3_100), "three rounds of a second took {:?}", begun.elapsed());
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_scheduled_here_is_due_in_time() {
    let (storage, probe) = (memory(), Probe::new());
    let worker = idle_worker!(storage, probe);
    let begun = Instant::now();
    for delay in [secs(90), ms(1_234), ms(300)] {
        enqueue(&storage, Message::new("a", "").after(delay)).await;
    }
    for (n, delay) in [(1, ms(300)), (2, ms(1_234)), (3, secs(90))] {
        probe.reached(n).await;
        let late = begun.elapsed() - delay;
        assert!(late <= ms(5), "due after {delay:?}, run {late:?} late");
    }
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn what_another_process_schedules_is_due_within_the_idle_interval() {
    let (storage, probe) = (memory(), Probe::new());
    let worker = idle_worker!(storage, probe);
    for n in 1..=5 {
        let begun = Instant::now();
        enqueue(&storage.other_process(), Message::new("a", "").after(ms(300))).await;
        probe.reached(n).await;
        assert!(begun.elapsed() >= ms(300) && begun.elapsed() < ms(4_100), "{:?}", begun.elapsed());
        sleep(ms(777)).await;
    }
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn no_loop_runs_hot_when_everything_fails() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Internal, ErrorKind::LeaseLost] {
        let (storage, probe) = (Faulty::new(), Probe::new());
        enqueue_many(&storage, "a", 3).await;
        let builder = worker(&storage).state(probe.clone()).stats_interval(Some(secs(15))).metrics(Arc::new(()));
        let worker = builder.on("a", note).build().unwrap().spawn();
        sleep(secs(1)).await;
        storage.script(move |_| Some(Fault::Refuse(kind)));
        enqueue_many(&storage.inner, "a", 3).await;
        let all =
            [Op::Register, Op::Claim, Op::Settle, Op::Heartbeat, Op::Promote, Op::Reclaim, Op::Stats, Op::Purge, Op::Retire, Op::Adopt];
        let before = all.map(|op| storage.calls(op));
        sleep(secs(600)).await;
        for (op, before) in all.into_iter().zip(before) {
            let calls = storage.calls(op) - before;
            assert!(calls <= 450, "{kind:?}: {op:?} was called {calls} times in ten minutes");
        }
        storage.heal();
        probe.reached(6).await;
        stop(worker).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_claim_is_followed_by_others_with_growing_pauses() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    storage.script(|call| matches!(call, Call::Claim(_)).then_some(Fault::Refuse(ErrorKind::Unavailable)));
    let worker = worker(&storage).state(probe.clone()).on("a", note).build().unwrap().spawn();
    sleep(secs(60)).await;
    // The first one looks for suspects.
    let times = [storage.times(Op::ClaimExclusive), storage.times(Op::Claim)].concat();
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] <= ms(41) && pauses.iter().all(|pause| *pause <= secs(5)), "{pauses:?}");
    assert!((12..40).contains(&times.len()), "{} claims in a minute", times.len());
    storage.heal();
    enqueue(&storage, Message::new("a", "")).await;
    let begun = Instant::now();
    probe.reached(1).await;
    assert!(begun.elapsed() <= secs(5), "{:?}", begun.elapsed());
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_claim_ends_the_growth_of_its_pauses() {
    for answer in ["messages", "nothing"] {
        let (storage, probe) = (Faulty::new(), Probe::new());
        let worker = idle_worker!(storage, probe);
        if answer == "messages" {
            enqueue_many(&storage.inner.other_process(), "a", 1).await;
        }
        let (before, mut claims) = (storage.calls(Op::Claim), 0);
        // Seven fail in a row, the eighth is answered, and the ninth fails.
        storage.script(move |call| {
            claims += u32::from(call.op() == Op::Claim);
            (call.op() == Op::Claim && claims <= 9 && claims != 8).then_some(Fault::Refuse(ErrorKind::Unavailable))
        });
        eventually("ten claims", async || storage.calls(Op::Claim) >= before + 10).await;
        let times = &storage.times(Op::Claim)[before..];
        assert!(times[6] - times[5] >= ms(640) && times[9] - times[8] <= ms(41), "after {answer}: {times:?}");
        stop(worker).await;
    }
}

/// Tells of other processes when it is told to, and breaks when it is told to.
#[derive(Debug, Default)]
struct Wire {
    listens: std::sync::atomic::AtomicUsize,
    broken: std::sync::atomic::AtomicBool,
    signal: tokio::sync::Notify,
}

#[derive(Debug)]
struct Ear(Arc<Wire>);

#[derive(Debug)]
struct Wires(Arc<Wire>);

impl Notifier for Wires {
    fn listen<'a>(&'a self, _event_types: &'a [EventType]) -> BoxFuture<'a, tickr_core::Result<Box<dyn Listener>>> {
        self.0.listens.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok(Box::new(Ear(Arc::clone(&self.0))) as Box<dyn Listener>) })
    }

    fn notify<'a>(&'a self, _event_types: &'a [EventType]) -> BoxFuture<'a, tickr_core::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

impl Listener for Ear {
    fn next(&mut self) -> BoxFuture<'_, tickr_core::Result<()>> {
        Box::pin(async move {
            if !self.0.broken.load(Ordering::SeqCst) {
                self.0.signal.notified().await;
            }
            if self.0.broken.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Unavailable, "the wire is broken"));
            }
            Ok(())
        })
    }

    fn close(&mut self) -> BoxFuture<'_, tickr_core::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_notification_of_another_process_wakes_at_once() {
    let (wire, probe) = (Arc::new(Wire::default()), Probe::new());
    let storage = Faulty::new().with_notifier(Arc::new(Wires(Arc::clone(&wire))));
    let worker = idle_worker!(storage, probe);
    enqueue(&storage.inner.other_process(), Message::new("a", "")).await;
    let begun = Instant::now();
    wire.signal.notify_one();
    probe.reached(1).await;
    assert_eq!(begun.elapsed(), secs(0));
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn p24_a_broken_notification_channel_is_opened_again_and_never_runs_hot() {
    let (wire, probe) = (Arc::new(Wire::default()), Probe::new());
    let storage = Faulty::new().with_notifier(Arc::new(Wires(Arc::clone(&wire))));
    let worker = idle_worker!(storage, probe);
    wire.broken.store(true, Ordering::SeqCst);
    assert_eq!(worker.health().listening, Some(true));
    wire.signal.notify_one();
    sleep(secs(600)).await;
    let health = worker.health();
    assert!(health.ready, "who polls does the work: {health:?}");
    let listens = wire.listens.load(Ordering::SeqCst);
    assert!((100..300).contains(&listens), "{listens} tries in ten minutes");
    enqueue(&storage.inner.other_process(), Message::new("a", "")).await;
    sleep(secs(2)).await;
    assert_eq!(probe.len(), 1, "polling goes on meanwhile");
    wire.broken.store(false, Ordering::SeqCst);
    sleep(secs(10)).await;
    enqueue(&storage.inner.other_process(), Message::new("a", "")).await;
    let begun = Instant::now();
    wire.signal.notify_one();
    probe.reached(2).await;
    assert_eq!(begun.elapsed(), secs(0), "it hears again");
    assert_eq!(worker.health().listening, Some(true));
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_notification_ends_the_growth_of_the_pauses_before_the_channel_is_opened_again() {
    let (wire, probe) = (Arc::new(Wire::default()), Probe::new());
    let storage = Faulty::new().with_notifier(Arc::new(Wires(Arc::clone(&wire))));
    let worker = idle_worker!(storage, probe);
    let opened = || wire.listens.load(Ordering::SeqCst);
    wire.broken.store(true, Ordering::SeqCst);
    wire.signal.notify_one();
    eventually("it has tried often", async || opened() == 8).await;
    wire.broken.store(false, Ordering::SeqCst);
    eventually("it listens", async || opened() == 9).await;
    wire.signal.notify_one();
    sleep(secs(10)).await;
    wire.broken.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    wire.signal.notify_one();
    eventually("it is opened again", async || opened() == 10).await;
    assert!(begun.elapsed() <= ms(41), "{:?}", begun.elapsed());
    stop(worker).await;
}
