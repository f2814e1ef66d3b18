//! How a worker starts when the storage is not ready for it.

use tickr_core::{ErrorKind, Message, State, Status};
use tokio::time::Instant;

use super::support::{Fault, Faulty, Op, Probe, enqueue, eventually, ms, secs, sound, stop, until_status, worker};

async fn note(State(probe): State<Probe>) {
    probe.note("run");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_starts_while_the_storage_is_blocked_registers_when_it_can() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    storage.next(Op::Schema, Fault::Refuse(ErrorKind::Unavailable));
    storage.next(Op::Schema, Fault::Hang);
    for fault in
        [Fault::Hang, Fault::Refuse(ErrorKind::Unavailable), Fault::LoseAnswer, Fault::Hang, Fault::Refuse(ErrorKind::Indeterminate)]
    {
        storage.next(Op::Register, fault);
    }
    let worker = worker(&storage).lease(secs(2)).state(probe.clone()).on("a", note).build().unwrap().spawn();
    eventually("it says that it waits", async || worker.health().failures > 0).await;
    assert!(!worker.health().alive);
    until_status(&storage.inner, id, Status::Success).await;
    assert!(worker.health().alive);
    assert_eq!((storage.calls(Op::Register), probe.len()), (6, 1));
    assert_eq!(storage.calls(Op::Schema), 3, "once it is known to be usable it is not asked for again");
    stop(worker).await;
    sound(&storage.inner).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_register_is_shut_down_like_any_other() {
    for fault in [Fault::Hang, Fault::Refuse(ErrorKind::Unavailable)] {
        let storage = Faulty::new();
        storage.script(move |call| (call.op() == Op::Register).then(|| fault.clone()));
        let worker = worker(&storage).on("a", async || {}).build().unwrap().spawn();
        eventually("it has tried", async || worker.health().failures > 1).await;
        let begun = Instant::now();
        stop(worker).await;
        assert!(begun.elapsed() < ms(1), "{:?}", begun.elapsed());
        assert_eq!(storage.calls(Op::Claim), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_is_refused_for_good_or_for_a_drain_is_an_error() {
    let storage = Faulty::new();
    let build = || worker(&storage).on("a", async || {}).build().unwrap();
    storage.next(Op::Register, Fault::Refuse(ErrorKind::Config));
    let error = build().run().await.unwrap_err();
    assert_eq!(error.to_string(), "invalid argument: register: refused by the test");
    storage.next(Op::Schema, Fault::Refuse(ErrorKind::Migration));
    assert_eq!(build().run().await.unwrap_err().to_string(), "schema: refused by the test");
    storage.next(Op::Register, Fault::Refuse(ErrorKind::Unavailable));
    let error = build().run_until_idle().await.unwrap_err();
    assert_eq!(error.to_string(), "unavailable: register: refused by the test");
}
