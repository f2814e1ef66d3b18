//! Bugs that comparable systems had, by their number in the project's list; those that are about the engine.

use std::sync::Arc;
use std::time::Duration;

use tickr_core::{
    Admin, Client, Context, ErrorKind, Failure, FromMessage, Handler, Message, PauseRequest, Prefetch, Raw, ReclaimRequest, Selection,
    State, Status, Storage, WorkerId,
};
use tokio::time::{Instant, sleep};

use super::support::{
    Call, Crowd, Fault, Faulty, Mortal, Op, Probe, enqueue, enqueue_many, eventually, memory, ms, record, secs, sound, status, steps, stop,
    until_status, worker,
};

#[tokio::test(start_paused = true)]
async fn p02_the_maximum_of_the_handler_applies_although_the_client_said_nothing() {
    async fn fail() -> Result<(), Failure> {
        Err(Failure::retry_after(Duration::ZERO, "no"))
    }
    let storage = memory();
    let id = enqueue(&storage, Message::new("a", "")).await;
    worker(&storage).on("a", fail.max_attempts(3)).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((status(&storage, id).await, record(&storage, id).await.attempt), (Status::Dead, 3));
}

#[tokio::test(start_paused = true)]
async fn p03_a_message_that_kills_its_worker_is_not_run_for_ever() {
    async fn kill(State(probe): State<Probe>) {
        probe.note("killed");
        std::future::pending::<()>().await;
    }
    let (storage, probe) = (memory(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let mut crashes = 0;
    while status(&storage, id).await != Status::Dead {
        let mortal = Mortal::start(worker(&storage).lease(secs(1)).state(probe.clone()).on("a", kill.max_attempts(3)).build().unwrap());
        crashes += 1;
        eventually("it runs or is dead", async || probe.len() == crashes || status(&storage, id).await == Status::Dead).await;
        mortal.crash().await;
        assert!(crashes < 10);
    }
    // The first crash might have been a neighbour's doing; the next two were not.
    assert_eq!((probe.len(), record(&storage, id).await.attempt), (3, 3));
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn p05_what_waits_for_a_slot_keeps_its_lease() {
    async fn slow(State(probe): State<Probe>, context: Context) {
        probe.note(String::from_utf8_lossy(context.payload()));
        sleep(secs(3)).await;
    }
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 8).await;
    let builder = worker(&storage).lease(secs(2)).pool(1).prefetch(Prefetch::Fixed(10)).state(probe.clone());
    let first = builder.on("a", slow).build().unwrap().spawn();
    eventually("all are held", async || worker_holds(&storage, &ids).await == 8).await;
    let builder = worker(&storage).name("other").lease(secs(2)).reclaim_interval(ms(100)).state(probe.clone());
    let other = builder.on("a", slow).build().unwrap().spawn();
    until_status(&storage, ids[7], Status::Success).await;
    assert_eq!(probe.notes(), ["0", "1", "2", "3", "4", "5", "6", "7"], "each ran once");
    stop(first).await;
    stop(other).await;
}

async fn worker_holds(storage: &tickr_core::MemoryStorage, ids: &[tickr_core::MessageId]) -> usize {
    let mut held = 0;
    for id in ids {
        held += usize::from(status(storage, *id).await == Status::Handling);
    }
    held
}

#[tokio::test(start_paused = true)]
async fn p06_the_lease_is_extended_beyond_the_attempts_timeout_while_the_handler_still_runs() {
    async fn stubborn(State(probe): State<Probe>) {
        probe.note("run");
        sleep(secs(20)).await;
    }
    let (storage, probe) = (memory(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let builder = worker(&storage).lease(secs(2)).abandon_after(secs(60)).state(probe.clone());
    let first = builder.on("a", stubborn.timeout(secs(1))).build().unwrap().spawn();
    probe.reached(1).await;
    let builder = worker(&storage).name("other").lease(secs(2)).reclaim_interval(ms(100)).state(probe.clone());
    let other = builder.on("a", stubborn).build().unwrap().spawn();
    until_status(&storage, id, Status::Success).await;
    assert_eq!((probe.len(), steps(&storage, id).await), (1, vec!["created", "claimed", "ok"]));
    stop(first).await;
    stop(other).await;
}

#[tokio::test(start_paused = true)]
async fn p07_live_work_is_never_rescued_however_old_it_is() {
    async fn hours() {
        sleep(secs(1_200)).await;
    }
    let storage = memory();
    let id = enqueue(&storage, Message::new("a", "")).await;
    let first = worker(&storage).lease(secs(1)).on("a", hours.no_timeout()).build().unwrap().spawn();
    let other = worker(&storage).name("other").reclaim_interval(secs(1)).on("a", hours.no_timeout()).build().unwrap().spawn();
    sleep(secs(1_201)).await;
    assert_eq!(steps(&storage, id).await, ["created", "claimed", "ok"]);
    stop(first).await;
    stop(other).await;
}

#[tokio::test(start_paused = true)]
async fn p08_outcomes_survive_a_failed_write_and_a_shutdown() {
    async fn nothing() {}
    let storage = Faulty::new();
    let ids = enqueue_many(&storage, "a", 50).await;
    storage.script(|call| matches!(call, Call::Settle(_)).then_some(Fault::Refuse(ErrorKind::Unavailable)));
    let worker = worker(&storage).shutdown_grace(secs(30)).on("a", nothing).build().unwrap().spawn();
    eventually("all ran", async || worker.health().unsettled == 50).await;
    worker.shutdown();
    sleep(secs(10)).await;
    storage.heal();
    worker.join().await.unwrap();
    for id in ids {
        assert_eq!(steps(&storage.inner, id).await, ["created", "claimed", "ok"]);
    }
}

#[tokio::test(start_paused = true)]
async fn p09_an_undecodable_body_dies_alone() {
    struct Number;
    impl FromMessage for Number {
        fn from_message(context: &Context) -> Result<Self, Failure> {
            std::str::from_utf8(context.payload()).map_err(Failure::dead)?.parse::<u32>().map(|_| Self).map_err(Failure::dead)
        }
    }
    async fn store(batch: tickr_core::Batch<Number>, State(probe): State<Probe>) {
        probe.note(batch.len().to_string());
    }
    async fn one(_number: Number) {}
    let (storage, probe) = (memory(), Probe::new());
    let mut ids = Vec::new();
    for event_type in ["batch", "one"] {
        for body in ["1", "x", "3"] {
            ids.push(enqueue(&storage, Message::new(event_type, body)).await);
        }
    }
    let builder = worker(&storage).state(probe.clone());
    let report = builder.on_batch("batch", store).on("one", one).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.succeeded, report.dead, probe.notes()), (4, 2, vec!["2".to_owned()]));
    for dead in [ids[1], ids[4]] {
        assert_eq!(record(&storage, dead).await.last_error.as_deref(), Some("invalid digit found in string"));
    }
}

#[tokio::test(start_paused = true)]
async fn p11_a_type_that_nobody_knows_stays_queued_and_is_shown() {
    async fn nothing() {}
    let storage = memory();
    let id = enqueue(&storage, Message::new("unknown", "")).await;
    enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).on("a", nothing).build().unwrap();
    assert_eq!(worker.run_until_idle().await.unwrap().claimed, 1);
    assert_eq!(steps(&storage, id).await, ["created"]);
    let stats = storage.stats(&tickr_core::StatsRequest::default()).await.unwrap();
    assert!(stats.of("unknown").unwrap().unserved);
}

#[tokio::test(start_paused = true)]
async fn p13_a_shutdown_uses_its_grace_and_counts_no_cancellation_as_a_failure() {
    async fn work(context: Context) -> Result<(), Failure> {
        let time = if context.payload() == "short" { secs(5) } else { secs(50) };
        tokio::select! {
            () = sleep(time) => Ok(()),
            () = context.cancelled().cancelled() => Err("I was cancelled".into()),
        }
    }
    let storage = memory();
    let short = enqueue(&storage, Message::new("a", "short")).await;
    let long = enqueue(&storage, Message::new("a", "long")).await;
    let builder = worker(&storage).shutdown_grace(secs(10)).max_attempts(1);
    let worker = builder.on("a", work.no_timeout()).build().unwrap().spawn();
    eventually("both run", async || worker.health().running == 2).await;
    stop(worker).await;
    assert_eq!(status(&storage, short).await, Status::Success);
    let long = record(&storage, long).await;
    assert_eq!((long.status, long.attempt, long.last_error.as_deref()), (Status::Created, 0, Some("shutdown")));
}

#[tokio::test(start_paused = true)]
async fn p14_what_was_claimed_and_not_started_is_given_back_with_its_attempt() {
    async fn slow(State(probe): State<Probe>) {
        probe.note("run");
        sleep(secs(5)).await;
    }
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 5).await;
    let builder = worker(&storage).pool(1).prefetch(Prefetch::Fixed(10)).max_attempts(1).state(probe.clone());
    let worker = builder.on("a", slow).build().unwrap().spawn();
    probe.reached(1).await;
    worker.shutdown();
    sleep(secs(1)).await;
    for id in &ids[1..] {
        let record = record(&storage, *id).await;
        assert_eq!((record.status, record.attempt), (Status::Created, 0), "given back before the running one has finished");
        assert_eq!(steps(&storage, *id).await, ["created", "claimed", "released"]);
    }
    worker.join().await.unwrap();
    assert_eq!((status(&storage, ids[0]).await, probe.len()), (Status::Success, 1));
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn p15_a_worker_that_was_condemned_does_not_finish_its_message_anyway() {
    async fn deaf(State(probe): State<Probe>) {
        probe.note("run");
        sleep(secs(60)).await;
    }
    let (storage, probe) = (Faulty::new(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let builder = worker(&storage).lease(secs(30)).abandon_after(secs(120)).state(probe.clone()).reclaimer(false);
    let worker = builder.on("a", deaf.no_timeout()).build().unwrap().spawn();
    probe.reached(1).await;
    // The worker does not hear of it: its heartbeats hang until its result is there.
    storage.script(|call| matches!(call, Call::Heartbeat(_)).then_some(Fault::Refuse(ErrorKind::Unavailable)));
    storage.inner.clock_offset().advance(secs(40));
    storage.inner.reclaim(&ReclaimRequest::condemning(10)).await.unwrap();
    storage.inner.kill(&Selection::from(id), "taken away").await.unwrap();
    sleep(secs(70)).await;
    assert_eq!((status(&storage.inner, id).await, probe.len()), (Status::Dead, 1));
    assert!(!steps(&storage.inner, id).await.contains(&"ok"));
    storage.heal();
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn p19_the_late_success_of_a_killed_message_does_not_overwrite_dead() {
    async fn deaf(State(probe): State<Probe>, context: Context) {
        probe.note("run");
        context.cancelled().cancelled().await;
        probe.note("told");
        sleep(secs(1)).await;
        probe.note("success");
    }
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 2).await;
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", deaf.no_timeout()).build().unwrap().spawn();
    probe.reached(2).await;
    storage.kill(&Selection::from(ids[0]), "no").await.unwrap();
    probe.noted("success").await;
    sleep(ms(10)).await;
    assert_eq!(probe.count("told"), 1, "the running handler was told");
    let record = record(&storage, ids[0]).await;
    assert_eq!((record.status, record.last_error.as_deref()), (Status::Dead, Some("killed: no")));
    assert_eq!(steps(&storage, ids[0]).await, ["created", "claimed", "killed"]);
    worker.shutdown_now();
    worker.join().await.unwrap();
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn p20_due_times_go_by_the_clock_of_the_database() {
    async fn later(context: Context) -> Result<(), Failure> {
        if context.attempt() == 1 { Err(Failure::retry_after(secs(3_600), "later")) } else { Ok(()) }
    }
    let storage = memory();
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).lease(secs(30)).on("a", later).build().unwrap().spawn();
    sleep(secs(10)).await;
    assert_eq!(status(&storage, id).await, Status::Retrying);
    // An hour passes for the database; here it is some seconds.
    storage.clock_offset().advance(secs(3_600));
    sleep(secs(40)).await;
    assert_eq!(status(&storage, id).await, Status::Success);
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn p21_a_lease_below_a_second_is_kept() {
    async fn long(State(probe): State<Probe>) {
        probe.note("run");
        sleep(secs(10)).await;
    }
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 20).await;
    let mut workers = Vec::new();
    for seed in 0..3 {
        let builder = worker(&storage).seed(seed).name(format!("w{seed}")).lease(ms(100)).pool(4).reclaim_interval(ms(20));
        workers.push(builder.state(probe.clone()).on("a", long).build().unwrap().spawn());
    }
    for id in ids {
        until_status(&storage, id, Status::Success).await;
        assert_eq!(steps(&storage, id).await, ["created", "claimed", "ok"]);
    }
    for worker in workers {
        stop(worker).await;
    }
}

#[tokio::test(start_paused = true)]
async fn p23_a_statement_that_hangs_stops_no_loop_for_ever() {
    async fn nothing(State(probe): State<Probe>) {
        probe.note("run");
    }
    for op in [Op::Heartbeat, Op::Claim, Op::Settle, Op::Promote, Op::Reclaim, Op::Purge, Op::Stats, Op::Lock] {
        let (storage, probe) = (Faulty::new(), Probe::new());
        let builder = worker(&storage).state(probe.clone()).purge_interval(secs(5)).metrics(Arc::new(()));
        let worker = builder.on("a", nothing).build().unwrap().spawn();
        sleep(ms(1)).await;
        storage.next(op, Fault::Hang);
        enqueue(&storage, Message::new("a", "").after(ms(10))).await;
        sleep(secs(200)).await;
        let before = storage.calls(op);
        enqueue(&storage, Message::new("a", "")).await;
        sleep(secs(60)).await;
        assert!(storage.calls(op) > before, "{op:?} goes on");
        assert_eq!(probe.len(), 2);
        assert_eq!(storage.calls(Op::Register), 1, "a hanging {op:?} did not cost the lease");
        stop(worker).await;
    }
}

/// One kind that the database refuses for ever: the others go on a few times, and the lease of the purge is given back.
#[tokio::test(start_paused = true)]
async fn p17_a_purge_that_is_refused_goes_on_for_its_other_kinds() {
    async fn nothing() {}
    let storage = Faulty::new();
    storage.script(|call| matches!(call, Call::Other(Op::Purge)).then_some(Fault::Refuse(ErrorKind::Config)));
    let worker = worker(&storage).purge_interval(secs(60)).on("a", nothing).build().unwrap().spawn();
    sleep(secs(80)).await;
    assert_eq!(storage.calls(Op::Purge), 11);
    let held = storage.inner.acquire_lock("janitor", WorkerId::new(), secs(1)).await.unwrap();
    assert!(held.is_some(), "the lease was given back");
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_meets_an_outage_waits_for_its_next_time() {
    let storage = Faulty::new();
    storage.script(|call| matches!(call, Call::Other(Op::Purge)).then_some(Fault::Refuse(ErrorKind::Unavailable)));
    let worker = worker(&storage).purge_interval(secs(60)).on("a", async || {}).build().unwrap().spawn();
    sleep(secs(600)).await;
    assert!((8..=12).contains(&storage.calls(Op::Purge)), "{} purges in ten minutes", storage.calls(Op::Purge));
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn p26_a_full_batch_is_followed_by_the_next_at_once() {
    async fn nothing() {}
    let storage = memory();
    let ids = enqueue_many(&storage, "a", 20_000).await;
    let worker = worker(&storage).batch(100).on("a", nothing).build().unwrap().spawn();
    let begun = Instant::now();
    until_status(&storage, ids[19_999], Status::Success).await;
    assert!(begun.elapsed() < secs(1), "{:?}", begun.elapsed());
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn p27_a_type_at_its_cap_holds_no_slot_and_stops_no_other() {
    async fn slow(State((_, crowd)): State<(Probe, Crowd)>) {
        let _inside = crowd.enter();
        sleep(secs(30)).await;
    }
    async fn quick(State((probe, _)): State<(Probe, Crowd)>) {
        probe.note("quick");
    }
    let (storage, probe, crowd) = (memory(), Probe::new(), Crowd::default());
    enqueue_many(&storage, "slow", 100).await;
    let builder = worker(&storage).pool(3).state((probe.clone(), crowd.clone()));
    let worker = builder.on("slow", slow.max_in_flight(2)).on("quick", quick).build().unwrap().spawn();
    sleep(secs(1)).await;
    let begun = Instant::now();
    enqueue_many(&storage, "quick", 200).await;
    probe.reached(200).await;
    assert!(begun.elapsed() < ms(100), "{:?}", begun.elapsed());
    assert_eq!(crowd.most(), 2);
    worker.shutdown_now();
    worker.join().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn p29_one_heartbeat_covers_all_and_outcomes_are_recorded_together() {
    async fn long() {
        sleep(secs(20)).await;
    }
    let storage = Faulty::new();
    let ids = enqueue_many(&storage, "a", 100).await;
    let worker = worker(&storage).lease(secs(30)).pool(100).on("a", long).build().unwrap().spawn();
    until_status(&storage.inner, ids[99], Status::Success).await;
    assert!(storage.calls(Op::Heartbeat) <= 3 && storage.calls(Op::Settle) <= 2);
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn p41_a_drain_does_not_wait_for_next_week_nor_for_paused_types() {
    async fn nothing() {}
    let storage = memory();
    let client = Client::new(storage.clone());
    client.enqueue(Message::new("a", "").after(secs(7 * 24 * 3_600))).await.unwrap();
    client.enqueue(Message::new("paused", "")).await.unwrap();
    client.enqueue(Message::new("a", "").after(ms(5))).await.unwrap();
    storage.pause(&PauseRequest::event_type("paused")).await.unwrap();
    sleep(ms(6)).await;
    let begun = Instant::now();
    let worker = worker(&storage).on("a", nothing).on("paused", nothing).build().unwrap();
    let report = worker.run_until_idle().await.unwrap();
    assert_eq!(report.claimed, 1, "what was due is promoted and handled");
    assert!(begun.elapsed() < secs(1), "{:?}", begun.elapsed());
    let raw = Raw(tickr_core::Bytes::from_static(b"x"));
    assert_eq!(format!("{raw:?}"), "Raw(1 bytes)");
}

/// A handler that blocks its thread, where no timeout can reach it. Real time: a paused clock would stand still with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn p23_a_handler_that_blocks_its_thread_costs_neither_the_lease_nor_its_slot() {
    /// Closed until the test opens it.
    type Door = Arc<(std::sync::Mutex<bool>, std::sync::Condvar)>;

    async fn block(context: Context, State(probe): State<Probe>, State(door): State<Door>) {
        probe.note(format!("{} {}", String::from_utf8_lossy(context.payload()), context.attempt()));
        if context.payload() == "blocks" && context.attempt() == 1 {
            let closed = door.0.lock().unwrap();
            drop(door.1.wait_timeout_while(closed, secs(60), |open| !*open).unwrap());
        }
    }
    let (storage, probe, door) = (tickr_core::MemoryStorage::new(), Probe::new(), Door::default());
    let id = enqueue(&storage, Message::new("a", "blocks")).await;
    let builder = tickr_core::Worker::builder(storage.clone()).pool(1).lease(secs(1)).abandon_after(ms(50)).state(probe.clone());
    let builder = builder.state(Arc::clone(&door)).on("a", block.timeout(ms(100)).retry(ms(1)));
    let worker = builder.build().unwrap().spawn();
    probe.noted("blocks 1").await;
    let begun = std::time::Instant::now();
    let next = enqueue(&storage, Message::new("a", "next")).await;
    let others_run = async {
        // The blocked one is retried, and the next one runs, in the one slot that there is.
        probe.noted("next 1").await;
        probe.noted("blocks 2").await;
        until_status(&storage, next, Status::Success).await;
        until_status(&storage, id, Status::Success).await;
    };
    let in_time = tokio::time::timeout(secs(30), others_run).await;
    sleep(ms(1_200).saturating_sub(begun.elapsed())).await;
    *door.0.lock().unwrap() = true;
    door.1.notify_all();
    assert!(in_time.is_ok(), "{:?}", probe.notes());
    assert_eq!(steps(&storage, id).await, ["created", "claimed", "failed", "retrying", "claimed", "ok"], "the lease was never lost");
    worker.shutdown();
    worker.join().await.unwrap();
}
