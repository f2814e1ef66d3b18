//! How much runs at a time, and who gets a turn.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tickr_core::{Batch, BatchHandler, Context, Handler, Message, Prefetch, Priority, Raw, State, Status};
use tokio::time::{Instant, sleep};

use super::support::{
    Call, Crowd, Fault, Faulty, Gate, Op, Probe, enqueue, enqueue_many, memory, ms, secs, status, steps, stop, until_status, worker,
};

/// Who is inside, by event type.
#[derive(Clone, Default)]
struct Crowds(Arc<Mutex<HashMap<String, Crowd>>>);

impl Crowds {
    fn of(&self, event_type: &str) -> Crowd {
        self.0.lock().unwrap().entry(event_type.to_owned()).or_default().clone()
    }
}

async fn ten_ms(context: Context, State(crowds): State<Crowds>) {
    let _inside = (crowds.of(context.event_type()).enter(), crowds.of("all").enter());
    sleep(ms(10)).await;
}

#[tokio::test(start_paused = true)]
async fn the_pool_is_filled_and_never_exceeded() {
    let (storage, crowds) = (memory(), Crowds::default());
    enqueue_many(&storage, "a", 300).await;
    enqueue_many(&storage, "b", 300).await;
    let builder = worker(&storage).pool(7).state(crowds.clone());
    let worker = builder.on("a", ten_ms).on("b", ten_ms).build().unwrap();
    assert_eq!(worker.run_until_idle().await.unwrap().succeeded, 600);
    assert_eq!(crowds.of("all").most(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_cap_is_reached_and_never_exceeded() {
    let (storage, crowds) = (memory(), Crowds::default());
    enqueue_many(&storage, "capped", 100).await;
    enqueue_many(&storage, "free", 300).await;
    let builder = worker(&storage).pool(16).prefetch(Prefetch::Fixed(50)).state(crowds.clone());
    let worker = builder.on("capped", ten_ms.max_in_flight(3)).on("free", ten_ms).build().unwrap();
    assert_eq!(worker.run_until_idle().await.unwrap().succeeded, 400);
    assert_eq!((crowds.of("capped").most(), crowds.of("all").most()), (3, 16));
}

#[tokio::test(start_paused = true)]
async fn a_capped_type_is_never_prefetched() {
    async fn slow() {
        sleep(secs(10)).await;
    }
    let storage = memory();
    let ids = enqueue_many(&storage, "a", 10).await;
    let worker = worker(&storage).prefetch(Prefetch::Fixed(50)).on("a", slow.max_in_flight(2)).build().unwrap().spawn();
    sleep(secs(5)).await;
    let mut handling = 0;
    for id in ids {
        handling += u32::from(status(&storage, id).await == Status::Handling);
    }
    assert_eq!(handling, 2, "the others stay free for other workers");
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_capped_backlog_as_large_as_the_pool_does_not_starve_a_type_without_a_cap() {
    async fn slow() {
        sleep(ms(100)).await;
    }
    let storage = memory();
    enqueue_many(&storage, "capped", 2_000).await;
    let worker = worker(&storage).pool(4).on("capped", slow.max_in_flight(100)).on("free", slow).build().unwrap().spawn();
    sleep(secs(1)).await;
    let id = enqueue(&storage, Message::new("free", "")).await;
    let begun = Instant::now();
    until_status(&storage, id, Status::Success).await;
    assert!(begun.elapsed() < secs(2), "it waited for {:?}", begun.elapsed());
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn two_capped_backlogs_share_the_pool() {
    let (storage, crowds) = (memory(), Crowds::default());
    for event_type in ["a", "b", "c", "d"] {
        enqueue_many(&storage, event_type, 500).await;
    }
    let builder = worker(&storage).pool(1).state(crowds.clone());
    let builder = builder.on("a", ten_ms.max_in_flight(9)).on("b", ten_ms.max_in_flight(9));
    let worker = builder.on("c", ten_ms).on("d", ten_ms).build().unwrap().spawn();
    sleep(secs(4)).await;
    stop(worker).await;
    let mut done = Vec::new();
    for event_type in ["a", "b", "c", "d"] {
        let query = tickr_core::ListQuery::default().event_type(event_type).status(Status::Success).limit(1_000);
        done.push(tickr_core::Admin::list(&storage, &query).await.unwrap().items.len());
    }
    assert!(done.iter().all(|done| (40..=200).contains(done)), "{done:?} of about 400");
}

#[tokio::test(start_paused = true)]
async fn a_fast_type_does_not_starve_a_slow_one() {
    async fn fast() {
        sleep(ms(1)).await;
    }
    async fn slow(State(probe): State<Probe>) {
        probe.note("slow");
        sleep(secs(1)).await;
    }
    let (storage, probe) = (memory(), Probe::new());
    enqueue_many(&storage, "fast", 30_000).await;
    let builder = worker(&storage).pool(8).state(probe.clone());
    let worker = builder.on("fast", fast).on("slow", slow).build().unwrap().spawn();
    sleep(secs(1)).await;
    enqueue_many(&storage, "slow", 4).await;
    probe.reached(4).await;
    let waited = probe.times()[3] - secs(1);
    assert!(waited < secs(1), "{waited:?}");
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_type_does_not_starve_a_fast_one() {
    async fn fast(State(probe): State<Probe>) {
        probe.note("fast");
    }
    async fn slow() {
        sleep(secs(1)).await;
    }
    let (storage, probe) = (memory(), Probe::new());
    enqueue_many(&storage, "slow", 1_000).await;
    let builder = worker(&storage).pool(4).state(probe.clone());
    let worker = builder.on("slow", slow).on("fast", fast).build().unwrap().spawn();
    sleep(ms(1_500)).await;
    enqueue_many(&storage, "fast", 50).await;
    probe.reached(50).await;
    let waited = probe.times()[49] - ms(1_500);
    assert!(waited < secs(20), "each claim serves both in turn: {waited:?}");
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_start_soon_is_left_to_other_workers() {
    async fn slow(_context: Context) {
        sleep(secs(60)).await;
    }
    async fn batch(_batch: Batch<Raw>) {
        sleep(secs(60)).await;
    }
    let storage = memory();
    let ids = enqueue_many(&storage, "slow", 100).await;
    enqueue_many(&storage, "batch", 1_000).await;
    let builder = worker(&storage).pool(8);
    let worker = builder.on_batch("batch", batch.timeout(secs(100))).on("slow", slow.no_timeout()).build().unwrap().spawn();
    sleep(secs(10)).await;
    let mut handling = 0;
    for id in ids {
        handling += u32::from(status(&storage, id).await == Status::Handling);
    }
    assert!(handling <= 8, "{handling} are held by a worker that can run 8");
    worker.shutdown_now();
    worker.join().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn higher_priorities_go_first() {
    async fn note(context: Context, State(probe): State<Probe>) {
        probe.note(String::from_utf8_lossy(context.payload()));
    }
    let (storage, probe) = (memory(), Probe::new());
    for priority in [Priority::Low, Priority::Normal, Priority::High] {
        enqueue(&storage, Message::new("a", format!("{priority:?}")).priority(priority)).await;
    }
    worker(&storage).pool(1).state(probe.clone()).on("a", note).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(probe.notes(), ["High", "Normal", "Low"]);
}

#[tokio::test(start_paused = true)]
async fn low_priority_does_not_starve_whichever_type_it_is_of() {
    let (storage, crowds) = (memory(), Crowds::default());
    let client = tickr_core::Client::new(storage.clone());
    for event_type in ["a", "b"] {
        for priority in [Priority::High, Priority::Low] {
            client.enqueue_all((0..1_000).map(|_| Message::new(event_type, "").priority(priority))).await.unwrap();
        }
    }
    let builder = worker(&storage).pool(1).prefetch(Prefetch::Fixed(0)).state(crowds);
    let worker = builder.on("a", ten_ms).on("b", ten_ms).build().unwrap().spawn();
    sleep(secs(6)).await;
    stop(worker).await;
    for event_type in ["a", "b"] {
        let query = tickr_core::ListQuery::default().event_type(event_type).status(Status::Success).limit(1_000);
        let done = tickr_core::Admin::list(&storage, &query).await.unwrap().items;
        let low = done.iter().filter(|record| record.stored.priority == Priority::Low).count();
        assert!((10..=100).contains(&low), "{low} of {} of type {event_type} had low priority", done.len());
    }
}

/// Each claim is of one message, and of twenty claims one begins with normal priority, for each of the two types in turn.
#[tokio::test(start_paused = true)]
async fn normal_priority_does_not_starve_between_high_and_low() {
    async fn note(context: Context, State(probe): State<Probe>) {
        probe.note(format!("{:?} {}", context.message().stored.priority, context.event_type()));
        sleep(ms(10)).await;
    }
    let (storage, probe) = (memory(), Probe::new());
    let client = tickr_core::Client::new(storage.clone());
    for event_type in ["a", "b"] {
        for (priority, count) in [(Priority::High, 200), (Priority::Low, 200), (Priority::Normal, 1)] {
            client.enqueue_all((0..count).map(|_| Message::new(event_type, "").priority(priority))).await.unwrap();
        }
    }
    let builder = worker(&storage).pool(1).prefetch(Prefetch::Fixed(0)).state(probe.clone());
    let worker = builder.on("a", note).on("b", note).build().unwrap().spawn();
    probe.reached(100).await;
    stop(worker).await;
    let notes = probe.notes();
    for event_type in ["a", "b"] {
        let at = notes.iter().position(|note| *note == format!("Normal {event_type}"));
        assert!(at.is_some_and(|at| at < 40), "{at:?}: {notes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_ten_types_each_gets_its_turn() {
    let (storage, crowds) = (memory(), Crowds::default());
    let mut builder = worker(&storage).pool(1).prefetch(Prefetch::Fixed(0)).state(crowds);
    let types: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    let client = tickr_core::Client::new(storage.clone());
    for event_type in &types {
        client.enqueue_all((0..200).map(|_| Message::new(event_type, "").priority(Priority::High))).await.unwrap();
        client.enqueue_all((0..200).map(|_| Message::new(event_type, "").priority(Priority::Low))).await.unwrap();
        builder = builder.on(event_type, ten_ms);
    }
    let worker = builder.build().unwrap().spawn();
    sleep(secs(10)).await;
    stop(worker).await;
    for event_type in &types {
        let query = tickr_core::ListQuery::default().event_type(event_type).status(Status::Success).limit(1_000);
        let done = tickr_core::Admin::list(&storage, &query).await.unwrap().items;
        let high = done.iter().filter(|record| record.stored.priority == Priority::High).count();
        let low = done.len() - high;
        assert!(high >= 40 && low >= 4, "{event_type}: {high} high and {low} low of about 100");
    }
}

#[tokio::test(start_paused = true)]
async fn run_until_idle_does_not_forget_a_type_that_was_at_its_cap() {
    async fn quick(State(probe): State<Probe>) {
        probe.note("quick");
    }
    let (storage, probe, gate) = (Faulty::new(), Probe::new(), Gate::new());
    let ids = enqueue_many(&storage, "capped", 3).await;
    // While the first message runs and is recorded, a claim that leaves its type out is on its way.
    let (mut claims, closed) = (0, gate.clone());
    storage.script(move |call| {
        let Call::Claim(request) = call else { return None };
        claims += u32::from(request.groups.iter().all(|group| &*group.event_type == "free"));
        (claims == 1).then(|| Fault::LateAnswer(closed.clone()))
    });
    let builder = worker(&storage).pool(4).state(probe.clone());
    let worker = builder.on("capped", quick.max_in_flight(1)).on("free", quick).build().unwrap();
    let running = tokio::spawn(async move { worker.run_until_idle().await });
    let opened = async {
        gate.arrived().await;
        super::support::eventually("it is recorded", async || status(&storage.inner, ids[0]).await == Status::Success).await;
        gate.open();
    };
    let _ = tokio::time::timeout(secs(60), opened).await;
    assert_eq!(running.await.unwrap().unwrap().succeeded, 3, "{:?}", storage.calls(Op::Claim));
}

#[tokio::test(start_paused = true)]
async fn run_once_claims_once_and_no_more_than_its_limit() {
    async fn quick() {}
    let storage = Faulty::new();
    enqueue_many(&storage, "a", 50).await;
    let worker = worker(&storage).on("a", quick).build().unwrap();
    let report = worker.run_once(10).await.unwrap();
    assert_eq!((report.claimed, report.succeeded, storage.calls(Op::Claim)), (10, 10, 1));
    assert!(storage.inner.audit_is_clean().await);
    let error = worker.run_once(0).await.unwrap_err();
    assert_eq!(error.to_string(), "invalid argument: run_once needs a limit of at least 1");
}

#[tokio::test(start_paused = true)]
async fn reports_count_every_outcome() {
    use tickr_core::{Failure, Outcome};
    async fn decide(context: Context) -> Result<Outcome, Failure> {
        match &context.payload()[..] {
            b"0" => Ok(Outcome::Done),
            b"1" => Ok(Outcome::skip("")),
            b"2" => Ok(Outcome::snooze(secs(60))),
            b"3" => Err(Failure::retry_after(secs(60), "")),
            _ => Err(Failure::dead("")),
        }
    }
    let storage = memory();
    enqueue_many(&storage, "a", 5).await;
    let report = worker(&storage).on("a", decide).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.claimed, report.succeeded, report.skipped, report.retried, report.dead), (5, 1, 1, 2, 1));
    assert_eq!((report.released, report.lost), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_missing_body_is_dead_and_no_message_is_held_for_ever() {
    async fn quick() {}
    let storage = memory();
    let ids = enqueue_many(&storage, "a", 3).await;
    assert!(storage.sabotage_body(ids[1]));
    let worker = worker(&storage).on("a", quick).build().unwrap();
    let report = tokio::time::timeout(secs(1_000), worker.run_until_idle()).await.expect("the worker ends").unwrap();
    assert_eq!((report.succeeded, report.dead), (2, 1));
    let dead = tickr_core::Admin::list_dead(&storage, &tickr_core::DeadQuery::default()).await.unwrap().items;
    assert_eq!((dead.len(), dead[0].id), (1, ids[1]));
    assert_eq!(steps(&storage, ids[0]).await, ["created", "claimed", "ok"]);
}

trait Clean {
    async fn audit_is_clean(&self) -> bool;
}

impl Clean for tickr_core::MemoryStorage {
    async fn audit_is_clean(&self) -> bool {
        tickr_core::Admin::audit(self).await.unwrap().findings.is_empty()
    }
}

/// The largest claim of a drain with bodies of this size.
async fn largest_claim(bytes: usize) -> u32 {
    let storage = Faulty::new();
    let messages = (0..3_000).map(|_| Message::new("a", vec![0_u8; bytes]));
    tickr_core::Client::new(storage.inner.clone()).enqueue_all(messages).await.unwrap();
    let largest = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&largest);
    storage.script(move |call| {
        if let Call::Claim(request) = call {
            let mut largest = seen.lock().unwrap();
            *largest = request.total.max(*largest);
        }
        None
    });
    async fn quick() {
        sleep(ms(1)).await;
    }
    let builder = worker(&storage).pool(4).batch(10).prefetch_bytes(1 << 20).on("a", quick);
    assert_eq!(builder.build().unwrap().run_until_idle().await.unwrap().succeeded, 3_000);
    *largest.lock().unwrap()
}

#[tokio::test(start_paused = true)]
async fn of_large_bodies_fewer_are_claimed_ahead() {
    assert!(largest_claim(10).await > 100, "small ones by the rate alone");
    let largest = largest_claim(32 << 10).await;
    assert!((20..=4 + 33).contains(&largest), "{largest}");
}

#[tokio::test(start_paused = true)]
async fn handlers_that_never_wait_leave_turns_to_other_tasks() {
    async fn note_turn(State((turn, probe)): State<(Arc<AtomicUsize>, Probe)>) {
        probe.note(turn.load(Ordering::SeqCst).to_string());
    }
    let (storage, probe, turn) = (memory(), Probe::new(), Arc::new(AtomicUsize::new(0)));
    enqueue_many(&storage, "a", 3_000).await;
    let builder = worker(&storage).pool(1).prefetch(Prefetch::Fixed(3_000)).state((Arc::clone(&turn), probe.clone()));
    let worker = builder.on("a", note_turn).build().unwrap();
    let turns = async {
        loop {
            turn.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        report = worker.run_until_idle() => assert_eq!(report.unwrap().succeeded, 3_000),
        () = turns => {}
    }
    let longest = probe.notes().chunk_by(|a, b| a == b).map(<[String]>::len).max().unwrap();
    assert!(longest <= 200, "{longest} handlers ran in one turn");
}
