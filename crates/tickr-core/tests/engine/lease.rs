//! The lease: kept, reconciled, lost.

use tickr_core::{Admin, Context, ErrorKind, Failure, Handler, Message, Prefetch, ReclaimRequest, Selection, State, Status, Storage};
use tokio::time::{advance, sleep};

use super::support::{
    Call, Fault, Faulty, Gate, Op, Probe, enqueue, enqueue_many, eventually, memory, ms, record, secs, sound, status, steps, stop,
    until_status, worker,
};

async fn note(State(probe): State<Probe>, context: Context) {
    probe.note(String::from_utf8_lossy(context.payload()));
}

/// Notes that it began, and how it ended: by itself after an hour, or cancelled.
async fn until_cancelled(State(probe): State<Probe>, context: Context) -> Result<(), Failure> {
    probe.note("begun");
    tokio::select! {
        () = context.cancelled().cancelled() => {
            probe.note("cancelled");
            Err("cancelled".into())
        }
        () = sleep(secs(3_600)) => Ok(()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_is_found_by_the_heartbeat_and_given_back() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let ids = enqueue_many(&storage, "a", 5).await;
    storage.next(Op::Claim, Fault::LoseAnswer);
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", note).build().unwrap().spawn();
    probe.reached(5).await;
    assert!(probe.times()[4] < secs(11), "{:?}", probe.times());
    until_status(&storage.inner, ids[4], Status::Success).await;
    assert_eq!(steps(&storage.inner, ids[0]).await, ["created", "claimed", "released", "claimed", "ok"]);
    assert_eq!(record(&storage.inner, ids[0]).await.attempt, 1, "the attempt was given back");
    stop(worker).await;
    sound(&storage.inner).await;
}

#[tokio::test(start_paused = true)]
async fn the_late_commit_of_an_abandoned_claim_is_given_back() {
    let (storage, probe, gate) = (Faulty::new(), Probe::new(), Gate::new());
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", note).build().unwrap();
    storage.next(Op::Claim, Fault::Late(gate.clone()));
    let worker = worker.spawn();
    gate.arrived().await;
    // The engine gives the claim up after a third of the lease.
    sleep(secs(11)).await;
    storage.script(|call| matches!(call, Call::Claim(_)).then_some(Fault::Refuse(ErrorKind::Unavailable)));
    let id = enqueue(&storage, Message::new("a", "late")).await;
    gate.open();
    sleep(ms(1)).await;
    assert_eq!(status(&storage.inner, id).await, Status::Handling, "the claim was late and happened");
    storage.heal();
    probe.reached(1).await;
    until_status(&storage.inner, id, Status::Success).await;
    assert_eq!(steps(&storage.inner, id).await, ["created", "claimed", "released", "claimed", "ok"]);
    stop(worker).await;
    sound(&storage.inner).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_hangs_idles_the_worker_for_a_third_of_the_lease() {
    for fault in [Fault::Hang, Fault::LateAnswer(Gate::new())] {
        let (storage, probe) = (Faulty::new(), Probe::new());
        let id = enqueue(&storage, Message::new("a", "first")).await;
        storage.next(Op::Claim, fault.clone());
        let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", note).build().unwrap().spawn();
        sleep(ms(1)).await;
        enqueue(&storage, Message::new("a", "second")).await;
        probe.noted("second").await;
        assert!(probe.times()[0] < secs(11), "{fault:?}: {:?}", probe.times());
        until_status(&storage.inner, id, Status::Success).await;
        assert!(*probe.times().last().unwrap() < secs(22), "{fault:?}: the heartbeat found it at {:?}", probe.times());
        assert_eq!((probe.len(), record(&storage.inner, id).await.attempt, storage.calls(Op::Register)), (2, 1, 1));
        stop(worker).await;
        sound(&storage.inner).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_only_slow_is_not_taken_for_lost() {
    let (storage, probe, gate) = (Faulty::new(), Probe::new(), Gate::new());
    let id = enqueue(&storage, Message::new("a", "slow")).await;
    storage.next(Op::Claim, Fault::LateAnswer(gate.clone()));
    // A drain, which is the most patient.
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", note).build().unwrap();
    let running = tokio::spawn(async move { worker.run_until_idle().await });
    gate.arrived().await;
    sleep(secs(25)).await;
    assert_eq!(storage.calls(Op::Heartbeat), 3, "one at the start, two since");
    assert_eq!(storage.calls(Op::Adopt), 0);
    gate.open();
    assert_eq!(running.await.unwrap().unwrap().succeeded, 1);
    assert_eq!(steps(&storage.inner, id).await, ["created", "claimed", "ok"]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_answered_after_its_incarnation_was_lost_is_given_back_and_not_held() {
    let (storage, probe, gate) = (Faulty::new(), Probe::new(), Gate::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    storage.next(Op::Claim, Fault::LateAnswer(gate.clone()));
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", note).build().unwrap();
    let running = tokio::spawn(async move { worker.run_until_idle().await });
    gate.arrived().await;
    storage.next(Op::Heartbeat, Fault::Refuse(ErrorKind::LeaseLost));
    sleep(secs(15)).await;
    gate.open();
    let report = tokio::time::timeout(secs(1_000), running).await.expect("nothing is held for ever").unwrap().unwrap();
    assert_eq!((report.succeeded, probe.len()), (1, 1));
    assert_eq!(steps(&storage.inner, id).await, ["created", "claimed", "released", "claimed", "ok"]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_sent_while_a_heartbeat_is_on_its_way_is_not_taken_for_lost() {
    let (storage, probe, gate) = (Faulty::new(), Probe::new(), Gate::new());
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", note).build().unwrap().spawn();
    sleep(secs(9)).await;
    storage.next(Op::Heartbeat, Fault::Slow(secs(4)));
    sleep(secs(2)).await;
    // The heartbeat was sent before the claim, and sees it open; the claim's answer is still on its way.
    storage.script(move |call| matches!(call, Call::Claim(_)).then(|| Fault::LateAnswer(gate.clone())));
    let id = enqueue(&storage, Message::new("a", "")).await;
    sleep(secs(4)).await;
    assert_eq!((storage.calls(Op::Heartbeat), status(&storage.inner, id).await), (2, Status::Handling));
    storage.heal();
    worker.shutdown();
    worker.join().await.unwrap();
    assert_eq!(storage.calls(Op::Adopt), 0);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_finished_before_the_heartbeat_that_saw_it_is_answered_is_not_taken_for_lost() {
    let (storage, probe, claim, beat) = (Faulty::new(), Probe::new(), Gate::new(), Gate::new());
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", note).build().unwrap().spawn();
    sleep(secs(9)).await;
    let (mut claims, closed) = (0, claim.clone());
    storage.script(move |call| {
        claims += u32::from(matches!(call, Call::Claim(_)));
        (claims == 1 && matches!(call, Call::Claim(_))).then(|| Fault::LateAnswer(closed.clone()))
    });
    let id = enqueue(&storage, Message::new("a", "")).await;
    claim.arrived().await;
    storage.next(Op::Heartbeat, Fault::LateAnswer(beat.clone()));
    beat.arrived().await;
    claim.open();
    until_status(&storage.inner, id, Status::Success).await;
    beat.open();
    sleep(secs(5)).await;
    assert_eq!((storage.calls(Op::Adopt), steps(&storage.inner, id).await), (0, vec!["created", "claimed", "ok"]));
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_reaches_the_handler_with_the_next_heartbeat() {
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 2).await;
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", until_cancelled.no_timeout()).build().unwrap().spawn();
    probe.reached(2).await;
    storage.kill(&Selection::from(ids[0]), "no more").await.unwrap();
    probe.noted("cancelled").await;
    assert!(probe.times()[2] <= secs(11), "{:?}", probe.times());
    sleep(secs(20)).await;
    assert_eq!(probe.notes(), ["begun", "begun", "cancelled"], "the other goes on");
    assert_eq!((status(&storage, ids[0]).await, status(&storage, ids[1]).await), (Status::Dead, Status::Handling));
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_of_all_that_a_claim_holds_cancels_too() {
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 3).await;
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", until_cancelled.no_timeout()).build().unwrap().spawn();
    probe.reached(3).await;
    storage.kill(&ids.iter().copied().collect(), "no more").await.unwrap();
    probe.reached(6).await;
    assert!(probe.times()[5] <= secs(11), "{:?}", probe.times());
    for id in &ids {
        assert_eq!(record(&storage, *id).await.last_error.as_deref(), Some("killed: no more"));
    }
    let next = enqueue(&storage, Message::new("a", "")).await;
    probe.reached(7).await;
    assert_eq!(status(&storage, next).await, Status::Handling, "the worker goes on");
    stop(worker).await;
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_killed_in_the_queue_is_not_started() {
    async fn slow(State(probe): State<Probe>, context: Context) {
        probe.note(String::from_utf8_lossy(context.payload()));
        sleep(secs(15)).await;
    }
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 3).await;
    let builder = worker(&storage).lease(secs(30)).pool(1).prefetch(Prefetch::Fixed(10)).state(probe.clone());
    let worker = builder.on("a", slow).build().unwrap().spawn();
    probe.reached(1).await;
    storage.kill(&Selection::from(ids[1]), "no more").await.unwrap();
    until_status(&storage, ids[2], Status::Success).await;
    assert_eq!(probe.notes(), ["0", "2"]);
    assert_eq!(status(&storage, ids[1]).await, Status::Dead);
    stop(worker).await;
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_condemned_goes_on_as_a_new_incarnation() {
    let (storage, probe) = (memory(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", until_cancelled.no_timeout()).build().unwrap().spawn();
    probe.reached(1).await;
    let old = storage.workers().await.unwrap()[0].id;
    storage.clock_offset().advance(secs(30));
    let reclaimed = storage.reclaim(&ReclaimRequest::condemning(10)).await.unwrap();
    assert_eq!(reclaimed.messages.len(), 1);
    probe.reached(3).await;
    assert_eq!(probe.notes(), ["begun", "cancelled", "begun"]);
    let workers = storage.workers().await.unwrap();
    assert!(workers.len() == 1 && workers[0].id != old, "{workers:?}");
    assert_eq!(steps(&storage, id).await, ["created", "claimed", "reclaimed", "claimed"], "what the old one returned was not recorded");
    stop(worker).await;
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_that_fail_for_longer_than_the_lease_cancel_and_give_back() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let ids = enqueue_many(&storage, "a", 6).await;
    let builder = worker(&storage).lease(secs(30)).pool(2).prefetch(Prefetch::Fixed(10)).state(probe.clone());
    let worker = builder.on("a", until_cancelled.no_timeout()).build().unwrap().spawn();
    probe.reached(2).await;
    let old = storage.inner.workers().await.unwrap()[0].id;
    storage.script(move |call| match call {
        Call::Heartbeat(beat) if beat.worker == old => Some(Fault::Refuse(ErrorKind::Unavailable)),
        _ => None,
    });
    probe.reached(4).await;
    assert_eq!(probe.count("cancelled"), 2);
    let cancelled = probe.times()[2];
    assert!((secs(27)..secs(31)).contains(&cancelled), "cancelled before the storage may take the lease away: {cancelled:?}");
    probe.reached(6).await;
    for id in ids {
        assert!(!steps(&storage.inner, id).await.contains(&"reclaimed"));
        assert!(record(&storage.inner, id).await.attempt <= 1, "no attempt was lost");
    }
    let workers = storage.inner.workers().await.unwrap();
    assert!(workers.len() == 1 && workers[0].id != old, "the old incarnation was retired: {workers:?}");
    stop(worker).await;
    sound(&storage.inner).await;
}

#[tokio::test(start_paused = true)]
async fn what_an_old_incarnation_returns_after_it_was_retired_is_not_recorded() {
    async fn stubborn(State(probe): State<Probe>, State(gate): State<Gate>) {
        probe.note("begun");
        gate.pass().await;
        probe.note("returned");
    }
    let (storage, probe, gate) = (Faulty::new(), Probe::new(), Gate::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let builder = worker(&storage).lease(secs(30)).abandon_after(secs(60)).state(probe.clone()).state(gate.clone());
    let worker = builder.on("a", stubborn.no_timeout()).build().unwrap().spawn();
    gate.arrived().await;
    storage.next(Op::Heartbeat, Fault::Refuse(ErrorKind::LeaseLost));
    // The message was given back and runs again, while the old handler has not returned.
    gate.arrived().await;
    let settles = storage.calls(Op::Settle);
    gate.admit(1);
    probe.noted("returned").await;
    sleep(ms(10)).await;
    assert_eq!((storage.calls(Op::Settle), status(&storage.inner, id).await), (settles, Status::Handling), "the first result was dropped");
    gate.open();
    until_status(&storage.inner, id, Status::Success).await;
    assert_eq!(steps(&storage.inner, id).await, ["created", "claimed", "released", "claimed", "ok"]);
    stop(worker).await;
    sound(&storage.inner).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_finished_when_the_lease_was_lost_still_counts() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "done")).await;
    storage.script(|call| matches!(call, Call::Settle(_)).then_some(Fault::Refuse(ErrorKind::Unavailable)));
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", note).build().unwrap().spawn();
    probe.reached(1).await;
    storage.next(Op::Heartbeat, Fault::Refuse(ErrorKind::LeaseLost));
    eventually("a new incarnation", async || storage.calls(Op::Register) == 2).await;
    storage.heal();
    until_status(&storage.inner, id, Status::Success).await;
    assert_eq!(steps(&storage.inner, id).await, ["created", "claimed", "ok"]);
    assert_eq!(probe.len(), 1);
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_incarnation_is_retired_soon_also_under_load() {
    async fn quick() {
        sleep(ms(5)).await;
    }
    let storage = Faulty::new();
    enqueue_many(&storage, "a", 20_000).await;
    storage.script(|call| matches!(call, Call::Settle(_)).then_some(Fault::Slow(ms(20))));
    let builder = worker(&storage).lease(secs(6)).prefetch(Prefetch::Fixed(100));
    let worker = builder.on("a", quick).build().unwrap().spawn();
    sleep(secs(1)).await;
    storage.next(Op::Heartbeat, Fault::Refuse(ErrorKind::LeaseLost));
    eventually("it is retired", async || storage.calls(Op::Retire) == 1).await;
    let (registered, retired) = (storage.times(Op::Register)[1], storage.times(Op::Retire)[0]);
    assert!(retired - registered < secs(1), "registered anew at {registered:?}, the old one retired at {retired:?}");
    stop(worker).await;
    sound(&storage.inner).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_lease_makes_no_dead_and_no_suspects() {
    for lease in [ms(500), secs(2), secs(30)] {
        async fn long(State(probe): State<Probe>) {
            probe.note("begun");
            sleep(secs(20)).await;
        }
        let (storage, probe) = (Faulty::new(), Probe::new());
        let ids = enqueue_many(&storage, "a", 20).await;
        let mut workers = Vec::new();
        for (seed, name) in (1..).zip(["one", "two", "three"]) {
            let builder =
                worker(&storage).seed(seed).name(name).lease(lease).pool(4).prefetch(Prefetch::Fixed(3)).reclaim_interval(ms(200));
            workers.push(builder.state(probe.clone()).max_attempts(1).on("a", long).build().unwrap().spawn());
        }
        probe.reached(12).await;
        storage.go_down();
        sleep(secs(300)).await;
        storage.heal();
        sleep(secs(120)).await;
        for id in ids {
            until_status(&storage.inner, id, Status::Success).await;
            let steps = steps(&storage.inner, id).await;
            assert!(!steps.contains(&"reclaimed"), "lease {lease:?}: {steps:?}");
        }
        for worker in workers {
            stop(worker).await;
        }
        sound(&storage.inner).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_everything_makes_no_suspects() {
    async fn long(State(probe): State<Probe>) {
        probe.note("begun");
        sleep(secs(80)).await;
    }
    for moment in 0..10 {
        let (storage, probe) = (memory(), Probe::new());
        let ids = enqueue_many(&storage, "a", 8).await;
        let mut workers = Vec::new();
        for seed in 0..3 {
            let builder = worker(&storage).seed(seed).name(format!("w{seed}")).lease(secs(30)).pool(2).reclaim_interval(ms(500));
            workers.push(builder.state(probe.clone()).on("a", long.no_timeout()).build().unwrap().spawn());
        }
        probe.reached(6).await;
        sleep(secs(65) + ms(94) * moment).await;
        // The machine slept, with the database on it.
        advance(secs(40)).await;
        sleep(secs(230)).await;
        for id in ids {
            until_status(&storage, id, Status::Success).await;
            let steps = steps(&storage, id).await;
            assert!(!steps.contains(&"reclaimed"), "{steps:?}");
        }
        for worker in workers {
            stop(worker).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_dropped_because_its_lease_could_not_be_trusted_is_not_stranded() {
    async fn slow(State(probe): State<Probe>) {
        probe.note("begun");
        sleep(ms(100)).await;
    }
    let (storage, probe, gate) = (Faulty::new(), Probe::new(), Gate::new());
    let ids = enqueue_many(&storage, "a", 5).await;
    // The claim loop is busy with its second claim.
    let (mut claims, closed) = (0, gate.clone());
    storage.script(move |call| {
        claims += u32::from(matches!(call, Call::Claim(_)));
        (claims == 2 && matches!(call, Call::Claim(_))).then(|| Fault::LateAnswer(closed.clone()))
    });
    let builder = worker(&storage).lease(ms(1_500)).pool(1).prefetch(Prefetch::Fixed(10)).state(probe.clone());
    let worker = builder.on("a", slow).build().unwrap();
    // A drain, which waits for its claim the longest.
    let running = tokio::spawn(async move { worker.run_until_idle().await });
    probe.reached(1).await;
    // As if the process had been stopped until just before its lease ran out: the runner wakes before the heartbeat.
    gate.arrived().await;
    advance(ms(1_450)).await;
    sleep(ms(100)).await;
    assert_eq!(probe.len(), 1, "nothing is started on a lease that cannot be trusted");
    gate.open();
    running.await.unwrap().unwrap();
    for id in ids {
        assert_eq!(status(&storage.inner, id).await, Status::Success);
    }
    sound(&storage.inner).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_heartbeat_of_an_old_incarnation_does_not_cost_the_new_one() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", note).build().unwrap();
    storage.script(|call| matches!(call, Call::Heartbeat(_)).then_some(Fault::Hang));
    let worker = worker.spawn();
    eventually("a heartbeat hangs", async || storage.calls(Op::Heartbeat) == 1).await;
    sleep(ms(100)).await;
    // The claim loop wakes first, and registers a new incarnation; then the old heartbeat is given up.
    advance(secs(40)).await;
    storage.heal();
    sleep(secs(25)).await;
    assert_eq!(storage.calls(Op::Register), 2);
    assert!(worker.health().alive);
    stop(worker).await;
}
