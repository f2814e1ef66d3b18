//! Outcomes are recorded: grouped, repeated, never dropped.

use std::sync::{Arc, Mutex};

use tickr_core::{Client, Context, ErrorKind, Failure, Message, Prefetch, SettledMember, State, Status};
use tokio::time::{Instant, sleep, timeout};

use super::support::{
    Call, Fault, Faulty, Gate, Op, PATIENCE, Probe, enqueue, enqueue_many, eventually, ms, record, secs, sound, status, steps, stop,
    until_status, worker,
};

async fn note(State(probe): State<Probe>) {
    probe.note("run");
}

/// Two more messages come while the first one runs.
async fn note_and_enqueue(context: Context, State(probe): State<Probe>) {
    probe.note("run");
    if context.payload() == "refused" {
        for _ in 0..2 {
            context.client().enqueue(Message::new("a", "follows")).await.unwrap();
        }
    }
}

/// Refuses so many settles with outcomes of the first claim that is sent.
fn refuse_settles_of_first_claim(storage: &Faulty, kind: ErrorKind, times: usize) {
    let (mut first, mut left) = (None, times);
    storage.script(move |call| match call {
        Call::Claim(request) => {
            first.get_or_insert(request.token);
            None
        }
        Call::Settle(batch) if left > 0 && batch.iter().any(|settlement| Some(settlement.token) == first) => {
            left -= 1;
            Some(Fault::Refuse(kind))
        }
        _ => None,
    });
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_kept_until_the_storage_takes_them() {
    for fault in [Fault::Refuse(ErrorKind::Unavailable), Fault::Refuse(ErrorKind::Indeterminate), Fault::LoseAnswer, Fault::Hang] {
        let (storage, probe) = (Faulty::new(), Probe::new());
        let ids = enqueue_many(&storage, "a", 10).await;
        for _ in 0..5 {
            storage.next(Op::Settle, fault.clone());
        }
        let worker = worker(&storage).state(probe.clone()).on("a", note).build().unwrap().spawn();
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
    let worker = worker(&storage).prefetch(Prefetch::Fixed(100)).state(probe.clone()).on("a", note).build().unwrap().spawn();
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
        Call::Claim(request) if !request.solo => {
            token.get_or_insert(request.token);
            None
        }
        Call::Settle(batch) => batch.iter().any(|settlement| Some(settlement.token) == token).then_some(Fault::Refuse(ErrorKind::Internal)),
        _ => None,
    });
    let worker = worker(&storage).state(probe.clone()).on("a", note).build().unwrap().spawn();
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
    let health = worker.health();
    assert_eq!((health.alive, health.refused, health.unsettled), (true, 1, 1), "the worker says so and goes on");
    let tries = storage.calls(Op::Settle);
    assert!((10..200).contains(&tries), "{tries} settles in a minute");
    storage.heal();
    until_status(&storage.inner, stuck, Status::Success).await;
    stop(worker).await;
}

/// Dies with the payload as its error, unless that is a number.
async fn dies_of_words(context: Context) -> Result<(), Failure> {
    let payload = String::from_utf8_lossy(context.payload()).into_owned();
    if payload.parse::<u32>().is_ok() { Ok(()) } else { Err(Failure::dead(payload)) }
}

/// Refuses every settle with an outcome that `which` names.
fn refuse_outcomes(storage: &Faulty, which: impl Fn(&SettledMember) -> bool + Send + 'static) {
    storage.script(move |call| match call {
        Call::Settle(batch) => {
            let refused = batch.iter().flat_map(|settlement| &settlement.others).any(&which);
            refused.then_some(Fault::Refuse(ErrorKind::Config))
        }
        _ => None,
    });
}

#[tokio::test(start_paused = true)]
async fn a_text_that_the_storage_refuses_is_recorded_in_another_form_and_keeps_no_outcome() {
    for (given, recorded) in [("ошибка", "\\u{43e}\\u{448}\\u{438}\\u{431}\\u{43a}\\u{430}"), ("forbidden", "could not be stored")] {
        let storage = Faulty::new();
        let good = enqueue_many(&storage, "a", 49).await;
        let bad = enqueue(&storage, Message::new("a", given)).await;
        refuse_outcomes(&storage, move |member| member.outcome.text().is_some_and(|text| text.contains(given)));
        let begun = Instant::now();
        let worker = worker(&storage).prefetch(Prefetch::Fixed(100)).on("a", dies_of_words).build().unwrap();
        let report = timeout(PATIENCE, worker.run_until_idle()).await.expect("it ends").unwrap();
        assert_eq!((report.succeeded, report.dead), (49, 1));
        assert!(begun.elapsed() < secs(1), "nothing waited: {:?}", begun.elapsed());
        for id in good {
            assert_eq!(status(&storage.inner, id).await, Status::Success);
        }
        let dead = record(&storage.inner, bad).await;
        assert!(dead.status == Status::Dead && dead.last_error.unwrap().contains(recorded), "{given}");
        sound(&storage.inner).await;
    }
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_are_refused_for_good_keep_no_other() {
    let storage = Faulty::new();
    let mut good = enqueue_many(&storage, "a", 60).await;
    let mut bad = Vec::new();
    for n in 0..30 {
        bad.push(enqueue(&storage, Message::new("a", format!("bad {n}"))).await);
        good.push(enqueue(&storage, Message::new("a", format!("fine {n}"))).await);
    }
    let refused = bad.clone();
    refuse_outcomes(&storage, move |member| refused.contains(&member.id));
    let worker = worker(&storage).prefetch(Prefetch::Fixed(200)).on("a", dies_of_words).build().unwrap().spawn();
    for id in &good {
        eventually("the others are recorded", async || matches!(status(&storage.inner, *id).await, Status::Success | Status::Dead)).await;
    }
    // They are tried again, and what comes meanwhile does not wait for them.
    sleep(secs(60)).await;
    let later = enqueue(&storage, Message::new("a", "1")).await;
    until_status(&storage.inner, later, Status::Success).await;
    let health = worker.health();
    assert_eq!((health.refused, health.unsettled), (30, 30));
    let before = storage.calls(Op::Settle);
    sleep(secs(60)).await;
    let tries = storage.calls(Op::Settle) - before;
    assert!((30..1_000).contains(&tries), "{tries} settles in a minute");
    storage.heal();
    for id in &bad {
        until_status(&storage.inner, *id, Status::Dead).await;
        assert!(record(&storage.inner, *id).await.last_error.unwrap().starts_with("bad"), "with its own text");
    }
    stop(worker).await;
    sound(&storage.inner).await;
}

#[tokio::test(start_paused = true)]
async fn successes_are_recorded_before_it_is_known_whose_outcome_is_refused() {
    let (storage, gate) = (Faulty::new(), Gate::new());
    storage.next(Op::Settle, Fault::LateAnswer(gate.clone()));
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    storage.script(move |call| match call {
        Call::Settle(batch) => {
            let successes: u32 = batch.iter().map(|settlement| settlement.succeeded.count()).sum();
            let others: usize = batch.iter().map(|settlement| settlement.others.len()).sum();
            seen.lock().unwrap().push((successes, others));
            (others > 0).then_some(Fault::Refuse(ErrorKind::Config))
        }
        _ => None,
    });
    let worker = worker(&storage).prefetch(Prefetch::Fixed(100)).on("a", dies_of_words).build().unwrap().spawn();
    enqueue(&storage, Message::new("a", "0")).await;
    gate.arrived().await;
    let messages = (0..40).map(|n| Message::new("a", if n % 2 == 0 { n.to_string() } else { format!("bad {n}") }));
    Client::new(storage.inner.clone()).enqueue_all(messages).await.unwrap();
    Client::new(storage.clone()).wake();
    eventually("all have run", async || worker.health().unsettled == 41).await;
    gate.open();
    eventually("the rest is refused", async || worker.health().refused == 20).await;
    assert_eq!(sizes.lock().unwrap()[..4], [(20, 20), (20, 0), (0, 20), (0, 10)]);
    storage.heal();
    stop(worker).await;
    sound(&storage.inner).await;
}

#[tokio::test(start_paused = true)]
async fn more_refused_outcomes_than_one_round_tries_are_all_kept() {
    let (storage, gate) = (Faulty::new(), Gate::new());
    storage.next(Op::Settle, Fault::LateAnswer(gate.clone()));
    refuse_outcomes(&storage, |_| true);
    let worker = worker(&storage).prefetch(Prefetch::Fixed(100)).on("a", dies_of_words).build().unwrap().spawn();
    enqueue(&storage, Message::new("a", "0")).await;
    gate.arrived().await;
    // One settle has the outcomes of all of them, so that all are due again at the same moment.
    let bad = Client::new(storage.inner.clone()).enqueue_all((0..50).map(|n| Message::new("a", format!("bad {n}")))).await.unwrap();
    Client::new(storage.clone()).wake();
    eventually("all have run", async || worker.health().unsettled == 51).await;
    gate.open();
    eventually("all are refused", async || worker.health().refused == 50).await;
    sleep(secs(60)).await;
    assert_eq!((worker.health().refused, worker.health().unsettled), (50, 50));
    storage.heal();
    for stored in bad {
        until_status(&storage.inner, stored.id(), Status::Dead).await;
    }
    stop(worker).await;
    sound(&storage.inner).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_met_by_one_of_the_outcomes_that_were_refused_alone() {
    let storage = Faulty::new();
    for n in 0..5 {
        enqueue(&storage, Message::new("a", format!("bad {n}"))).await;
    }
    refuse_outcomes(&storage, |_| true);
    let worker = worker(&storage).on("a", dies_of_words).build().unwrap().spawn();
    eventually("they are refused", async || worker.health().refused == 5).await;
    storage.script(|call| matches!(call, Call::Settle(_)).then_some(Fault::Refuse(ErrorKind::Unavailable)));
    let before = storage.calls(Op::Settle);
    sleep(secs(60)).await;
    let tries = storage.times(Op::Settle).split_off(before);
    assert!(tries.len() > 5 && tries.windows(2).all(|pair| pair[0] < pair[1]), "{tries:?}");
    storage.heal();
    eventually("they are recorded", async || worker.health().unsettled == 0).await;
    stop(worker).await;
    sound(&storage.inner).await;
}

#[tokio::test(start_paused = true)]
async fn a_settle_that_is_only_slow_is_waited_for() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    storage.next(Op::Settle, Fault::Slow(secs(40)));
    let worker = worker(&storage).lease(secs(30)).state(probe.clone()).on("a", note).build().unwrap().spawn();
    until_status(&storage.inner, id, Status::Success).await;
    assert_eq!((storage.calls(Op::Settle), probe.now().as_secs()), (1, 40));
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn too_much_that_is_not_recorded_stops_the_claims() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    enqueue_many(&storage, "a", 5_000).await;
    storage.script(|call| matches!(call, Call::Settle(_)).then_some(Fault::Refuse(ErrorKind::Unavailable)));
    let builder = worker(&storage).pool(10).batch(50).prefetch(Prefetch::Fixed(10));
    let worker = builder.state(probe.clone()).on("a", note).build().unwrap().spawn();
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
    let worker = worker(&storage).state(probe.clone()).on("a", note).build().unwrap().spawn();
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
    let report = worker(&storage).state(probe.clone()).on("a", note).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.succeeded, status(&storage.inner, id).await), (1, Status::Success));
}

#[tokio::test(start_paused = true)]
async fn run_until_idle_ends_when_nothing_is_left_but_what_is_refused_for_good() {
    for kind in [ErrorKind::Config, ErrorKind::Corrupt, ErrorKind::Internal] {
        let (storage, probe) = (Faulty::new(), Probe::new());
        let refused = enqueue(&storage, Message::new("a", "refused")).await;
        refuse_settles_of_first_claim(&storage, kind, usize::MAX);
        let worker = worker(&storage).batch(1).state(probe.clone()).on("a", note_and_enqueue).build().unwrap();
        let error = timeout(PATIENCE, worker.run_until_idle()).await.expect("it ends").unwrap_err();
        assert_eq!(error.kind(), kind);
        let named = format!("outcomes: 1 not recorded [{refused}]: settle: refused by the test");
        assert!(error.to_string().ends_with(&named), "{error}");
        assert_eq!(probe.len(), 3, "what could be done was done first");
        assert_eq!(status(&storage.inner, refused).await, Status::Handling, "it is left to its lease");
        sound(&storage.inner).await;
    }
}

#[tokio::test(start_paused = true)]
async fn run_until_idle_goes_on_when_a_refusal_passes() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    refuse_settles_of_first_claim(&storage, ErrorKind::Internal, 2);
    let worker = worker(&storage).state(probe.clone()).on("a", note).build().unwrap();
    let report = timeout(PATIENCE, worker.run_until_idle()).await.expect("it ends").unwrap();
    assert_eq!((report.succeeded, status(&storage.inner, id).await), (1, Status::Success));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_when_refused_outcomes_leave_no_room() {
    // Of single outcomes, and of the storage as a whole.
    for kind in [ErrorKind::Corrupt, ErrorKind::Closed] {
        let (storage, probe) = (Faulty::new(), Probe::new());
        enqueue_many(&storage, "a", 5_000).await;
        storage.script(move |call| matches!(call, Call::Settle(_)).then_some(Fault::Refuse(kind)));
        let builder = worker(&storage).pool(10).batch(50).prefetch(Prefetch::Fixed(10));
        let worker = builder.state(probe.clone()).on("a", note).build().unwrap();
        let error = timeout(PATIENCE, worker.run_until_idle()).await.expect("it ends").unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(", ...]: settle: refused by the test"), "{error}");
        let run = probe.len();
        assert!((150..=300).contains(&run), "{run} ran while nothing could be recorded");
    }
}

#[tokio::test(start_paused = true)]
async fn run_once_does_not_report_what_is_not_recorded() {
    for kind in [ErrorKind::Corrupt, ErrorKind::Unavailable] {
        let (storage, probe) = (Faulty::new(), Probe::new());
        let id = enqueue(&storage, Message::new("a", "")).await;
        storage.script(move |call| matches!(call, Call::Settle(_)).then_some(Fault::Refuse(kind)));
        let worker = worker(&storage).state(probe.clone()).on("a", note).build().unwrap();
        let error = timeout(PATIENCE, worker.run_once(1)).await.expect("it ends").unwrap_err();
        assert!(error.to_string().contains("outcomes: 1 not recorded"), "{error}");
        assert_eq!((probe.len(), status(&storage.inner, id).await), (1, Status::Handling));
    }
}

#[tokio::test(start_paused = true)]
async fn run_until_idle_says_when_the_claim_fails() {
    let (storage, probe) = (Faulty::new(), Probe::new());
    storage.next(Op::Claim, Fault::Refuse(ErrorKind::Unavailable));
    let error = worker(&storage).state(probe).on("a", note).build().unwrap().run_until_idle().await.unwrap_err();
    assert_eq!(error.to_string(), "unavailable: claim: refused by the test");
}

#[tokio::test(start_paused = true)]
async fn run_until_idle_sees_what_came_back_while_a_claim_looked() {
    async fn second_time_lucky(context: Context, State(gate): State<Gate>) -> Result<(), Failure> {
        gate.pass().await;
        if context.attempt() == 1 { Err(Failure::retry_after(secs(0), "no")) } else { Ok(()) }
    }
    let (storage, running, answer) = (Faulty::new(), Gate::new(), Gate::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).state(running.clone()).on("a", second_time_lucky).build().unwrap();
    storage.next(Op::Claim, Fault::Slow(ms(1)));
    storage.next(Op::Claim, Fault::LateAnswer(answer.clone()));
    let running_worker = tokio::spawn(async move { worker.run_until_idle().await });
    running.arrived().await;
    // The second claim has looked and found nothing; its answer comes after the message is back in ready.
    answer.arrived().await;
    running.admit(2);
    until_status(&storage.inner, id, Status::Retrying).await;
    sleep(secs(1)).await;
    answer.open();
    let report = running_worker.await.unwrap().unwrap();
    assert_eq!((report.retried, report.succeeded, status(&storage.inner, id).await), (1, 1, Status::Success));
}
