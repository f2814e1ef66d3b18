//! What probes are told: a restart for what only a restart mends, and nothing while the database is away.

use std::sync::mpsc;

use tickr_core::{Clock, ErrorKind, Message, PauseRequest, Prefetch, State, Storage, WorkerHealth};

use tokio::time::sleep;

use super::support::{Call, Fault, Faulty, Gate, Op, Probe, enqueue, enqueue_many, eventually, memory, ms, secs, steps, stop, worker};

async fn noted(State(probe): State<Probe>) {
    probe.note("ran");
}

#[tokio::test(start_paused = true)]
async fn ready_while_it_works_and_live_while_the_database_is_away() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", noted).build().unwrap();
    assert_eq!(worker.health(), WorkerHealth::default(), "it was not started");
    storage.go_down();
    let worker = worker.spawn();
    sleep(secs(60)).await;
    let health = worker.health();
    assert!(health.live && !health.ready && !health.alive && health.last_heartbeat.is_none(), "{health:?}");

    storage.heal();
    sleep(secs(20)).await;
    let health = worker.health();
    assert!(health.live && health.ready && health.alive && health.failures == 0, "{health:?}");
    assert!(health.last_claim.unwrap() <= secs(3), "{health:?}");
    assert!(health.last_heartbeat.unwrap() <= secs(10), "{health:?}");
    assert_eq!(health.listening, None, "there is nothing to listen to");

    storage.go_down();
    sleep(secs(120)).await;
    let health = worker.health();
    assert!(health.live && !health.ready && !health.alive && health.failures > 3, "{health:?}");
    assert!(health.last_claim.unwrap() >= secs(119) && health.last_heartbeat.unwrap() >= secs(119), "{health:?}");

    storage.heal();
    sleep(secs(60)).await;
    let health = worker.health();
    assert!(health.ready && health.alive && health.failures == 0, "{health:?}");
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn the_third_failure_in_a_row_makes_it_unready() {
    let storage = Faulty::new();
    let worker = worker(&storage).lease(secs(30)).on("a", async || {}).build().unwrap().spawn();
    sleep(secs(5)).await;
    storage.go_down();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..5_000 {
        let health = worker.health();
        assert_eq!(health.ready, health.failures < 3, "{health:?}");
        seen.insert(health.failures);
        sleep(ms(1)).await;
    }
    assert!(seen.contains(&2) && seen.contains(&3), "{seen:?}");
    storage.heal();
    stop(worker).await;
}

/// Whatever else succeeds: heartbeats and promotions do, while all claims are refused.
#[tokio::test(start_paused = true)]
async fn one_kind_of_operation_that_always_fails_makes_it_unready() {
    for (op, kind) in [
        (Op::Claim, ErrorKind::Config),
        (Op::Settle, ErrorKind::Unavailable),
        (Op::Promote, ErrorKind::Internal),
        (Op::Reclaim, ErrorKind::Corrupt),
    ] {
        let storage = Faulty::new();
        let worker = worker(&storage).lease(secs(30)).on("a", async || {}).build().unwrap().spawn();
        eventually("it is ready", async || worker.health().ready).await;
        storage.script(move |call| (call.op() == op).then_some(Fault::Refuse(kind)));
        enqueue(&storage, Message::new("a", "")).await;
        sleep(secs(60)).await;
        let health = worker.health();
        assert!(health.live && health.alive && !health.ready && health.failures >= 3, "{op:?}: {health:?}");
        storage.heal();
        sleep(secs(10)).await;
        let health = worker.health();
        assert!(health.ready && health.failures == 0, "{op:?}: {health:?}");
        stop(worker).await;
    }
}

/// What is over cannot succeed any more, and is no reason to be unready.
#[tokio::test(start_paused = true)]
async fn settles_that_failed_count_only_while_something_is_to_be_settled() {
    let storage = Faulty::new();
    let worker = worker(&storage).lease(secs(30)).on("a", async || {}).build().unwrap().spawn();
    let id = enqueue(&storage, Message::new("a", "")).await;
    storage.script(|call| matches!(call, Call::Settle(_) | Call::Heartbeat(_)).then_some(Fault::Refuse(ErrorKind::Unavailable)));
    eventually("it has run", async || worker.health().unsettled == 1).await;
    storage.inner.pause(&PauseRequest::event_type("a")).await.unwrap();
    eventually("its lease is lost", async || steps(&storage.inner, id).await.contains(&"released")).await;
    storage.heal();
    sleep(secs(10)).await;
    let health = worker.health();
    assert!(health.ready && health.unsettled == 0, "{health:?}");
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_granted_counts_before_the_first_heartbeat_is_answered() {
    let storage = Faulty::new();
    storage.script(|call| matches!(call, Call::Heartbeat(_)).then_some(Fault::Hang));
    let worker = worker(&storage).on("a", async || {}).build().unwrap().spawn();
    sleep(secs(3)).await;
    let health = worker.health();
    assert!(health.alive && health.last_heartbeat == Some(secs(3)), "{health:?}");
    storage.heal();
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_are_not_recorded_in_time_make_it_unready() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let worker = worker(&storage).pool(4).batch(4).prefetch(Prefetch::Fixed(0)).state(probe.clone()).on("a", noted);
    let worker = worker.build().unwrap().spawn();
    sleep(secs(1)).await;
    let gate = Gate::new();
    storage.script({
        let gate = gate.clone();
        move |call| matches!(call, Call::Settle(_)).then(|| Fault::Late(gate.clone()))
    });
    enqueue_many(&storage, "a", 40).await;
    eventually("it is behind", async || !worker.health().ready).await;
    let health = worker.health();
    assert!(health.live && health.unsettled >= 16 && health.failures == 0, "{health:?}");
    gate.open();
    eventually("it caught up", async || worker.health().ready && worker.health().unsettled == 0).await;
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_is_live_until_its_handlers_are_through() {
    async fn wait(State(gate): State<Gate>) {
        gate.pass().await;
    }
    let (storage, gate) = (memory(), Gate::new());
    enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).state(gate.clone()).on("a", wait).build().unwrap().spawn();
    eventually("it runs", async || worker.health().running == 1).await;
    worker.shutdown();
    sleep(secs(1)).await;
    let health = worker.health();
    assert!(health.live && health.stopping && !health.ready && health.running == 1, "{health:?}");
    gate.open();
    worker.join().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_has_ended_is_neither_live_nor_alive() {
    let (storage, probe) = (memory(), Probe::new());
    let worker = worker(&storage).state(probe.clone()).on("a", noted).build().unwrap();
    worker.run_until_idle().await.unwrap();
    let health = worker.health();
    assert!(!health.live && !health.ready && !health.alive, "{health:?}");
}

/// Whatever holds the thread of the heartbeat, a restart is what helps. Asked from outside of the runtime, which hangs too.
#[test]
fn an_engine_that_hangs_is_not_live() {
    fn becomes(what: &str, condition: impl Fn() -> bool) {
        let begun = std::time::Instant::now();
        while !condition() {
            assert!(begun.elapsed() < secs(60), "{what}: in vain");
            std::thread::sleep(ms(5));
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (storage, probe) = (Faulty::new(), Probe::new());
    let worker = worker(&storage).clock(Clock::Boot).lease(ms(200)).state(probe).on("a", noted).build().unwrap();
    let worker = runtime.block_on(async { worker.spawn() });
    becomes("it is ready", || worker.health().ready);
    let (release, hold) = mpsc::channel::<()>();
    storage.script(move |call| {
        if matches!(call, Call::Heartbeat(_)) {
            let _ = hold.recv();
        }
        None
    });
    becomes("it hangs", || !worker.health().live);
    drop(release);
    becomes("it goes on", || worker.health().live && worker.health().ready);
    runtime.block_on(stop(worker));
}
