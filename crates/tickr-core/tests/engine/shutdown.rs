//! Shutdown in stages, and the end without a word.

use tickr_core::{Admin, Context, ErrorKind, Failure, Handler, Message, Prefetch, State, Status};
use tokio::time::{Instant, sleep, timeout};

use super::support::{
    Crowd, Fault, Faulty, Gate, Mortal, Op, PATIENCE, Probe, enqueue, enqueue_many, memory, ms, record, secs, sound, status, steps, stop,
    worker,
};

async fn ten_seconds(State(probe): State<Probe>, context: Context) -> Result<(), Failure> {
    probe.note("begun");
    tokio::select! {
        () = context.cancelled().cancelled() => {
            probe.note("cancelled");
            Err("cancelled".into())
        }
        () = sleep(secs(10)) => {
            probe.note("finished");
            Ok(())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn handlers_finish_during_the_grace() {
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 3).await;
    let worker = worker(&storage).shutdown_grace(secs(30)).state(probe.clone()).on("a", ten_seconds).build().unwrap().spawn();
    probe.reached(3).await;
    let begun = Instant::now();
    stop(worker).await;
    assert_eq!(probe.count("finished"), 3);
    assert!(begun.elapsed() < secs(11), "it does not wait for the rest of the grace: {:?}", begun.elapsed());
    for id in ids {
        assert_eq!(status(&storage, id).await, Status::Success);
    }
    assert!(storage.workers().await.unwrap().is_empty(), "the worker signed off");
}

#[tokio::test(start_paused = true)]
async fn after_the_grace_handlers_are_cancelled_and_their_messages_given_back() {
    let (storage, probe) = (memory(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).shutdown_grace(secs(4)).state(probe.clone()).on("a", ten_seconds).build().unwrap().spawn();
    probe.reached(1).await;
    stop(worker).await;
    assert_eq!(probe.times(), [secs(0), secs(4)]);
    let record = record(&storage, id).await;
    assert_eq!((record.status, record.attempt, record.last_error.as_deref()), (Status::Created, 0, Some("shutdown")));
    assert_eq!(steps(&storage, id).await, ["created", "claimed", "released"]);
    assert!(storage.workers().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_handler_that_succeeds_all_the_same_has_succeeded() {
    async fn tidy(State(probe): State<Probe>, context: Context) {
        probe.note("begun");
        context.cancelled().cancelled().await;
        sleep(secs(1)).await;
    }
    let (storage, probe) = (memory(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).shutdown_grace(secs(4)).state(probe.clone()).on("a", tidy).build().unwrap().spawn();
    probe.reached(1).await;
    stop(worker).await;
    assert_eq!(status(&storage, id).await, Status::Success);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_heed_its_cancellation_is_dropped() {
    async fn deaf(State(probe): State<Probe>, State(crowd): State<Crowd>) {
        let _inside = crowd.enter();
        probe.note("begun");
        std::future::pending::<()>().await;
    }
    let (storage, probe, crowd) = (memory(), Probe::new(), Crowd::default());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let builder = worker(&storage).shutdown_grace(secs(4)).abandon_after(secs(3)).state(probe.clone()).state(crowd.clone());
    let worker = builder.on("a", deaf.no_timeout()).build().unwrap().spawn();
    probe.reached(1).await;
    let begun = Instant::now();
    stop(worker).await;
    assert!((secs(7)..secs(8)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(crowd.now(), 0, "its future was dropped");
    let record = record(&storage, id).await;
    assert_eq!((record.status, record.attempt), (Status::Created, 0));
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_kept_during_the_grace() {
    let (storage, probe) = (memory(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let builder = worker(&storage).lease(secs(1)).shutdown_grace(secs(30)).state(probe.clone());
    let ending = builder.on("a", ten_seconds).build().unwrap().spawn();
    probe.reached(1).await;
    let other = worker(&storage).name("other").lease(secs(1)).reclaim_interval(ms(100)).state(probe.clone());
    let other = other.on("a", ten_seconds).build().unwrap().spawn();
    stop(ending).await;
    assert_eq!(steps(&storage, id).await, ["created", "claimed", "ok"]);
    stop(other).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_now_skips_the_grace() {
    let (storage, probe) = (memory(), Probe::new());
    enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).shutdown_grace(secs(30)).state(probe.clone()).on("a", ten_seconds).build().unwrap().spawn();
    probe.reached(1).await;
    worker.shutdown_now();
    worker.join().await.unwrap();
    assert_eq!((probe.notes(), probe.times()), (vec!["begun".to_owned(), "cancelled".to_owned()], vec![secs(0), secs(0)]));
}

#[tokio::test(start_paused = true)]
async fn shutdown_now_ends_a_grace_that_has_begun() {
    let (storage, probe) = (memory(), Probe::new());
    enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).shutdown_grace(secs(30)).state(probe.clone()).on("a", ten_seconds).build().unwrap().spawn();
    probe.reached(1).await;
    worker.shutdown();
    sleep(secs(2)).await;
    assert_eq!(probe.count("cancelled"), 0);
    worker.shutdown_now();
    worker.join().await.unwrap();
    assert_eq!(probe.times(), [secs(0), secs(2)]);
}

#[tokio::test(start_paused = true)]
async fn run_until_ends_in_stages_when_its_future_is_ready() {
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 2).await;
    let worker = worker(&storage).shutdown_grace(secs(30)).state(probe.clone()).on("a", ten_seconds).build().unwrap();
    worker.run_until(probe.reached(2)).await.unwrap();
    for id in ids {
        assert_eq!(status(&storage, id).await, Status::Success);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_ends_at_once() {
    let (storage, probe) = (memory(), Probe::new());
    let worker = worker(&storage).state(probe).on("a", ten_seconds).build().unwrap().spawn();
    sleep(secs(60)).await;
    let begun = Instant::now();
    stop(worker).await;
    assert_eq!(begun.elapsed(), secs(0));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_reach_the_storage_ends_all_the_same() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let builder = worker(&storage).lease(secs(20)).shutdown_grace(secs(30)).state(probe.clone());
    let worker = builder.on("a", ten_seconds).build().unwrap().spawn();
    probe.reached(1).await;
    storage.go_down();
    let begun = Instant::now();
    stop(worker).await;
    assert!(begun.elapsed() < secs(60), "{:?}", begun.elapsed());
    assert_eq!(status(&storage.inner, id).await, Status::Handling, "its lease runs out by itself");
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_hangs_does_not_hold_up_the_end_for_ever() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    enqueue(&storage, Message::new("a", "")).await;
    let builder = worker(&storage).lease(secs(20)).shutdown_grace(secs(10)).state(probe.clone());
    let worker = builder.on("a", ten_seconds).build().unwrap().spawn();
    probe.reached(1).await;
    storage.script(|_| Some(Fault::Hang));
    enqueue(&storage.inner, Message::new("a", "")).await;
    sleep(secs(5)).await;
    let begun = Instant::now();
    stop(worker).await;
    assert!(begun.elapsed() < secs(65), "the end took {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_claimed_after_a_shutdown_was_asked_for() {
    let (storage, probe) = (memory(), Probe::new());
    enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).state(probe.clone()).on("a", ten_seconds).build().unwrap().spawn();
    probe.reached(1).await;
    worker.shutdown();
    sleep(ms(1)).await;
    let late = enqueue(&storage, Message::new("a", "")).await;
    worker.join().await.unwrap();
    assert_eq!((status(&storage, late).await, steps(&storage, late).await), (Status::Created, vec!["created"]));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_answered_during_the_shutdown_is_given_back() {
    let (storage, probe, gate) = (Faulty::new(), Probe::new(), Gate::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    storage.next(Op::Claim, Fault::LateAnswer(gate.clone()));
    let worker = worker(&storage).state(probe.clone()).on("a", ten_seconds).build().unwrap().spawn();
    gate.arrived().await;
    worker.shutdown();
    sleep(ms(1)).await;
    gate.open();
    worker.join().await.unwrap();
    assert!(matches!(status(&storage.inner, id).await, Status::Created | Status::Success));
    assert!(storage.inner.workers().await.unwrap().is_empty());
    sound(&storage.inner).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_run_stops_everything() {
    async fn pending(State(probe): State<Probe>, State(crowd): State<Crowd>) {
        let _inside = crowd.enter();
        probe.note("begun");
        sleep(secs(10)).await;
        probe.note("ended");
    }
    let (storage, probe, crowd) = (Faulty::new(), Probe::new(), Crowd::default());
    let ids = enqueue_many(&storage, "a", 20).await;
    let builder = worker(&storage).lease(secs(3)).pool(4).prefetch(Prefetch::Fixed(10)).state(probe.clone()).state(crowd.clone());
    let mortal = Mortal::start(builder.on("a", pending).build().unwrap());
    probe.reached(4).await;
    mortal.crash().await;
    sleep(ms(10)).await;
    assert_eq!((crowd.now(), probe.len()), (0, 4), "what ran is dropped, and what was queued is not begun");
    let calls = |storage: &Faulty| [Op::Claim, Op::Settle, Op::Heartbeat, Op::Promote, Op::Reclaim, Op::Retire].map(|op| storage.calls(op));
    let before = calls(&storage);
    sleep(secs(60)).await;
    assert_eq!((calls(&storage), probe.len()), (before, 4));
    assert_eq!(status(&storage.inner, ids[0]).await, Status::Handling, "nobody gave it back");
}

#[tokio::test(start_paused = true)]
async fn one_worker_runs_once_at_a_time() {
    let (storage, probe) = (memory(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = std::sync::Arc::new(worker(&storage).state(probe.clone()).on("a", ten_seconds).build().unwrap());
    let first = tokio::spawn({
        let worker = std::sync::Arc::clone(&worker);
        async move { worker.run_until_idle().await }
    });
    probe.reached(1).await;
    let error = worker.run_until_idle().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Conflict, "conflict: this worker is running already; build another one".into())
    );
    let report = timeout(PATIENCE, first).await.unwrap().unwrap().unwrap();
    assert_eq!((report.succeeded, status(&storage, id).await), (1, Status::Success), "the first run was not disturbed");
    enqueue(&storage, Message::new("a", "")).await;
    assert_eq!(worker.run_until_idle().await.unwrap().succeeded, 1, "and it runs again afterwards");
}

/// The child of the next test: a worker that ends by signals.
#[tokio::test]
#[ignore = "run by a_second_signal_skips_the_grace in a process of its own"]
async fn signalled_child() {
    async fn long(context: Context) -> Result<(), Failure> {
        println!("begun");
        context.cancelled().cancelled().await;
        println!("cancelled");
        Err("cancelled".into())
    }
    let storage = tickr_core::MemoryStorage::new();
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = tickr_core::Worker::builder(storage.clone()).on("a", long.no_timeout()).build().unwrap();
    let signalled = async {
        tickr_core::shutdown_signal().await;
        println!("first signal");
    };
    worker.run_until(signalled).await.unwrap();
    println!("ended {}", status(&storage, id).await);
}

#[cfg(unix)]
#[test]
fn a_second_signal_skips_the_grace() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let arguments = ["--exact", "engine::shutdown::signalled_child", "--ignored", "--nocapture", "--test-threads=1"];
    let mut child = Command::new(std::env::current_exe().unwrap()).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut until = |wanted: &str| lines.find(|line| line.contains(wanted)).unwrap_or_else(|| panic!("the child never said {wanted:?}"));
    until("begun");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    until("first signal");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    until("cancelled");
    until("ended CREATED");
    assert!(child.wait().unwrap().success());
}
