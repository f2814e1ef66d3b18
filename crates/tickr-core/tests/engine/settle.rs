//! Outcomes are recorded: grouped, repeated, never dropped.

use tickr_core::{ErrorKind, Message, Prefetch, State, Status};
use tokio::time::{Instant, sleep};

use super::support::{
    Call, Fault, Faulty, Gate, Op, Probe, enqueue, enqueue_many, eventually, ms, secs, sound, status, steps, stop, until_status, worker,
};

async fn note(State(probe): State<Probe>) {
    probe.note("run");
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_kept_until_the_storage_takes_them() {
    for fault in [Fault::Refuse(ErrorKind::Unavailable), Fault::Refuse(ErrorKind::Indeterminate), Fault::LoseAnswer, Fault::Hang] {
        let (storage, probe) = (Faulty::new(), Probe::new());
        let ids = enqueue_many(&storage, "a", 10).await;
        for _ in 0..5 {
            storage.next(Op::Settle, fault.clone());
        }
        let worker = worker(&storage).state(probe.clone()).on("a", note, |o| o).build().unwrap().spawn();
        for id in &ids {
            until_status(&storage.inner, *id, Status::Success).await;
        }
        eventually("it is known here too", async || worker.health().unsettled == 0).await;
        assert_eq!(probe.len(), 10, "{fault:?}: nothing ran twice");
        assert_eq!(steps(&storage.inner, ids[0]).await, ["created", "claimed", "ok"]);
        stop(worker).await;
        sound(&storage.inner).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_records_at_once_and_a_busy_one_in_groups() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    storage.script(|call| matches!(call, Call::Settle(_)).then_some(Fault::Slow(ms(50))));
    let worker = worker(&storage).prefetch(Prefetch::Fixed(100)).state(probe.clone()).on("a", note, |o| o).build().unwrap().spawn();
    let begun = Instant::now();
    let id = enqueue(&storage, Message::new("a", "")).await;
    until_status(&storage.inner, id, Status::Success).await;
    assert!(begun.elapsed() <= ms(53), "{:?}", begun.elapsed());
    let before = storage.calls(Op::Settle);
    let ids = enqueue_many(&storage, "a", 1_000).await;
    until_status(&storage.inner, ids[999], Status::Success).await;
    let settles = storage.calls(Op::Settle) - before;
    assert!(settles < 20, "1000 outcomes took {settles} settles");
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_cannot_be_settled_does_not_hold_up_others() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let stuck = enqueue(&storage, Message::new("a", "")).await;
    let mut token = None;
    storage.script(move |call| match call {
        Call::Claim(request) => {
            token.get_or_insert(request.token);
            None
        }
        Call::Settle(batch) => batch.iter().any(|settlement| Some(settlement.token) == token).then_some(Fault::Refuse(ErrorKind::Internal)),
        _ => None,
    });
    let worker = worker(&storage).state(probe.clone()).on("a", note, |o| o).build().unwrap().spawn();
    probe.reached(1).await;
    sleep(secs(60)).await;
    let mut slowest = secs(0);
    for _ in 0..20 {
        let begun = Instant::now();
        let id = enqueue(&storage, Message::new("a", "")).await;
        until_status(&storage.inner, id, Status::Success).await;
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < ms(20), "the others waited for up to {slowest:?}");
    assert_eq!(status(&storage.inner, stuck).await, Status::Handling);
    let tries = storage.calls(Op::Settle);
    assert!((10..200).contains(&tries), "{tries} settles in a minute");
    storage.heal();
    until_status(&storage.inner, stuck, Status::Success).await;
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn too_much_that_is_not_recorded_stops_the_claims() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    enqueue_many(&storage, "a", 5_000).await;
    storage.script(|call| matches!(call, Call::Settle(_)).then_some(Fault::Refuse(ErrorKind::Unavailable)));
    let builder = worker(&storage).pool(10).batch(50).prefetch(Prefetch::Fixed(10));
    let worker = builder.state(probe.clone()).on("a", note, |o| o).build().unwrap().spawn();
    sleep(secs(60)).await;
    let run = probe.len();
    assert!((150..=300).contains(&run), "{run} ran while nothing could be recorded");
    assert_eq!(worker.health().unsettled as usize, run);
    storage.heal();
    probe.reached(5_000).await;
    stop(worker).await;
    sound(&storage.inner).await;
}

#[tokio::test(start_paused = true)]
async fn results_that_come_while_a_settle_is_in_flight_follow_in_the_next() {
    let (storage, probe, gate) = (Faulty::new(), Probe::new(), Gate::new());
    storage.next(Op::Settle, Fault::LateAnswer(gate.clone()));
    let worker = worker(&storage).state(probe.clone()).on("a", note, |o| o).build().unwrap().spawn();
    let first = enqueue(&storage, Message::new("a", "")).await;
    gate.arrived().await;
    let second = enqueue(&storage, Message::new("a", "")).await;
    probe.reached(2).await;
    sleep(ms(1)).await;
    assert_eq!((status(&storage.inner, first).await, status(&storage.inner, second).await), (Status::Success, Status::Handling));
    gate.open();
    until_status(&storage.inner, second, Status::Success).await;
    assert_eq!(storage.calls(Op::Settle), 2);
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn run_until_idle_waits_for_what_is_not_recorded() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    for _ in 0..3 {
        storage.next(Op::Settle, Fault::Refuse(ErrorKind::Unavailable));
    }
    let report = worker(&storage).state(probe.clone()).on("a", note, |o| o).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.succeeded, status(&storage.inner, id).await), (1, Status::Success));
}

#[tokio::test(start_paused = true)]
async fn run_until_idle_says_when_the_claim_fails() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    storage.next(Op::Claim, Fault::Refuse(ErrorKind::Unavailable));
    let error = worker(&storage).state(probe).on("a", note, |o| o).build().unwrap().run_until_idle().await.unwrap_err();
    assert_eq!(error.to_string(), "unavailable: claim: refused by the test");
}
