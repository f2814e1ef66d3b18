//! Attempts, delays, timeouts and panics.

use std::time::Duration;

use tickr_core::{BatchHandler, Context, ExponentialBackoff, Failure, Handler, Message, Outcome, RetryPolicy, State, Status};
use tokio::time::sleep;

use super::support::{Crowd, Probe, enqueue, enqueue_many, memory, ms, record, secs, sound, status, steps, stop, until_status, worker};

async fn fail(context: Context, State(probe): State<Probe>) -> Result<(), Failure> {
    probe.note(format!("{} of {}", context.attempt(), context.message().max_attempts));
    Err(Failure::retry_after(Duration::ZERO, "no"))
}

#[tokio::test(start_paused = true)]
async fn the_message_decides_before_the_handler_before_the_worker_how_often() {
    let (storage, probe) = (memory(), Probe::new());
    let own = enqueue(&storage, Message::new("handler", "").max_attempts(2)).await;
    let of_handler = enqueue(&storage, Message::new("handler", "")).await;
    let of_worker = enqueue(&storage, Message::new("worker", "")).await;
    let builder = worker(&storage).max_attempts(4).state(probe.clone());
    let worker = builder.on("handler", fail.max_attempts(3)).on("worker", fail).build().unwrap();
    let report = worker.run_until_idle().await.unwrap();
    assert_eq!((report.retried, report.dead), (1 + 2 + 3, 3));
    let mut attempts = Vec::new();
    for id in [own, of_handler, of_worker] {
        assert_eq!(status(&storage, id).await, Status::Dead);
        attempts.push(record(&storage, id).await.attempt);
    }
    assert_eq!(attempts, [2, 3, 4]);
    assert_eq!((probe.count("2 of 2"), probe.count("3 of 3"), probe.count("4 of 4")), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_above_a_lowered_maximum_is_dead_unrun() {
    let (storage, probe) = (memory(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let patient = worker(&storage).state(probe.clone()).on("a", fail.max_attempts(5)).build().unwrap();
    for _ in 0..3 {
        patient.run_once(1).await.unwrap();
    }
    assert_eq!((status(&storage, id).await, probe.len()), (Status::Retrying, 3));
    let strict = worker(&storage).state(probe.clone()).on("a", fail.max_attempts(2)).build().unwrap();
    let report = strict.run_until_idle().await.unwrap();
    assert_eq!((report.dead, probe.len()), (1, 3), "it died without being run");
    let record = record(&storage, id).await;
    assert_eq!(record.last_error.as_deref(), Some("attempt 4 is above the maximum of 2; not run"));
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_its_attempt_and_the_last_error() {
    async fn look(context: Context, State(probe): State<Probe>) -> Result<(), Failure> {
        probe.note(format!("{} {} {:?}", context.attempt(), context.is_last_attempt(), context.message().last_error));
        Err(Failure::retry_after(Duration::ZERO, format!("error {}", context.attempt())))
    }
    let (storage, probe) = (memory(), Probe::new());
    enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).state(probe.clone()).on("a", look.max_attempts(3)).build().unwrap();
    worker.run_until_idle().await.unwrap();
    assert_eq!(probe.notes(), ["1 false None", "2 false Some(\"error 1\")", "3 true Some(\"error 2\")"]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_50_ms_does_not_wait_for_the_next_poll() {
    async fn soon(context: Context, State(probe): State<Probe>) -> Result<(), Failure> {
        probe.note("run");
        if context.attempt() < 4 { Err(Failure::retry_after(ms(50), "again")) } else { Ok(()) }
    }
    let (storage, probe) = (memory(), Probe::new());
    let worker = worker(&storage).state(probe.clone()).on("a", soon).build().unwrap().spawn();
    sleep(secs(30)).await;
    let begun = tokio::time::Instant::now();
    enqueue(&storage, Message::new("a", "")).await;
    probe.reached(4).await;
    let took = begun.elapsed();
    assert!((ms(150)..ms(170)).contains(&took), "three retries of 50 ms took {took:?}");
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_promoted_in_time_though_another_message_returns_at_once() {
    async fn both(context: Context, State(probe): State<Probe>) -> Result<(), Failure> {
        let delay = if context.payload() == "slow" { ms(50) } else { Duration::ZERO };
        probe.note(format!("{:?} {}", context.payload(), context.attempt()));
        // Both end in the same moment, and are recorded by one settle.
        sleep(ms(5)).await;
        if context.attempt() == 1 { Err(Failure::retry_after(delay, "again")) } else { Ok(()) }
    }
    let (storage, probe) = (memory(), Probe::new());
    let worker = worker(&storage).state(probe.clone()).on("a", both).build().unwrap().spawn();
    sleep(secs(30)).await;
    let begun = tokio::time::Instant::now();
    let client = tickr_core::Client::new(storage.clone());
    client.enqueue_all([Message::new("a", "fast"), Message::new("a", "slow")]).await.unwrap();
    probe.reached(4).await;
    assert!(begun.elapsed() < ms(80), "{:?} {:?}", begun.elapsed(), probe.notes());
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn the_policy_decides_unless_the_failure_does() {
    #[derive(Debug)]
    struct Thrice;
    impl RetryPolicy for Thrice {
        fn next_delay(&self, attempt: u16, error: &(dyn std::error::Error + 'static)) -> Duration {
            assert_eq!(error.to_string(), "policy");
            secs(3 * u64::from(attempt))
        }
    }
    async fn choose(context: Context) -> Result<(), Failure> {
        Err(if context.payload() == "own" { Failure::retry_after(secs(100), "own") } else { Failure::new("policy") })
    }
    let storage = memory();
    let own = enqueue(&storage, Message::new("a", "own")).await;
    let policy = enqueue(&storage, Message::new("a", "policy")).await;
    let worker = worker(&storage).on("a", choose.retry(Thrice)).build().unwrap();
    worker.run_until_idle().await.unwrap();
    let created = record(&storage, own).await.stored.created_at;
    let due = async |id| record(&storage, id).await.due_at.unwrap().since(created);
    assert_eq!((due(own).await, due(policy).await), (secs(100), secs(3)));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_cancels_first_and_lets_the_handler_finish() {
    async fn tidy(context: Context, State(probe): State<Probe>) {
        context.cancelled().cancelled().await;
        probe.note("cancelled");
        sleep(secs(2)).await;
        probe.note("tidied up");
    }
    let (storage, probe) = (memory(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).state(probe.clone()).on("a", tidy.timeout(secs(1))).build().unwrap();
    let report = worker.run_until_idle().await.unwrap();
    assert_eq!(report.succeeded, 1, "what it managed to do counts");
    assert_eq!(probe.times(), [secs(1), secs(3)]);
    assert_eq!(steps(&storage, id).await, ["created", "claimed", "ok"]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_returns_is_abandoned_and_retried() {
    async fn never(State(probe): State<Probe>, State(crowd): State<Crowd>) {
        let _inside = crowd.enter();
        probe.note("run");
        std::future::pending::<()>().await;
    }
    let (storage, probe, crowd) = (memory(), Probe::new(), Crowd::default());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let builder = worker(&storage).state(probe.clone()).state(crowd.clone()).abandon_after(secs(5)).max_attempts(2);
    let worker = builder.on("a", never.timeout(secs(10)).retry(secs(1))).build().unwrap().spawn();
    until_status(&storage, id, Status::Dead).await;
    assert_eq!((probe.len(), crowd.now()), (2, 0), "its future was dropped");
    let second = probe.times()[1] - probe.times()[0];
    assert!((secs(16)..secs(17)).contains(&second), "10 s to the timeout, 5 s to the end, 1 s to the retry: {second:?}");
    assert_eq!(record(&storage, id).await.last_error.as_deref(), Some("handler timed out after 10s"));
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_without_a_timeout_may_run_for_an_hour() {
    async fn long() {
        sleep(secs(3_600)).await;
    }
    let storage = memory();
    let id = enqueue(&storage, Message::new("a", "")).await;
    let builder = worker(&storage).lease(secs(30)).stats_interval(None);
    let working = builder.on("a", long.no_timeout()).build().unwrap().spawn();
    let other = worker(&storage).name("other").on("a", long.no_timeout()).build().unwrap().spawn();
    sleep(secs(3_610)).await;
    assert_eq!(steps(&storage, id).await, ["created", "claimed", "ok"]);
    stop(working).await;
    stop(other).await;
}

#[tokio::test(start_paused = true)]
async fn remaining_tells_the_time_to_the_deadline() {
    async fn look(context: Context, State(probe): State<Probe>) {
        sleep(secs(3)).await;
        probe.note(format!("{:?}", context.remaining()));
    }
    let (storage, probe) = (memory(), Probe::new());
    enqueue(&storage, Message::new("limited", "")).await;
    enqueue(&storage, Message::new("free", "")).await;
    let builder = worker(&storage).state(probe.clone());
    let worker = builder.on("limited", look.timeout(secs(10))).on("free", look.no_timeout()).build().unwrap();
    worker.run_until_idle().await.unwrap();
    let mut notes = probe.notes();
    notes.sort();
    assert_eq!(notes, ["None", "Some(7s)"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_with_its_text() {
    async fn burst(context: Context) {
        if context.attempt() == 1 {
            panic!("the {} attempt", "first");
        }
    }
    let storage = memory();
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).on("a", burst.retry(ms(1))).build().unwrap().spawn();
    until_status(&storage, id, Status::Success).await;
    assert_eq!(record(&storage, id).await.last_error.as_deref(), Some("handler panicked: the first attempt"));
    assert_eq!(steps(&storage, id).await, ["created", "claimed", "failed", "retrying", "claimed", "ok"]);
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_first_await_is_a_failure_too() {
    fn burst() -> std::future::Ready<()> {
        panic!("no future")
    }
    let storage = memory();
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).max_attempts(1).on("a", burst).build().unwrap();
    worker.run_until_idle().await.unwrap();
    assert_eq!(record(&storage, id).await.last_error.as_deref(), Some("handler panicked: no future"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_retry_policy_leaves_the_default_policy() {
    #[derive(Debug)]
    struct Burst;
    impl RetryPolicy for Burst {
        fn next_delay(&self, _attempt: u16, _error: &(dyn std::error::Error + 'static)) -> Duration {
            panic!("policy")
        }
    }
    async fn fail() -> Result<(), Failure> {
        Err("no".into())
    }
    let storage = memory();
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).on("a", fail.retry(Burst)).build().unwrap();
    worker.run_until_idle().await.unwrap();
    let record = record(&storage, id).await;
    let delay = record.due_at.unwrap().since(record.stored.created_at);
    assert!((ms(800)..=ms(1_200)).contains(&delay), "{delay:?}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_predicate_does_not_make_an_error_final() {
    async fn fail() -> Result<(), Failure> {
        Err("no".into())
    }
    let storage = memory();
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).on("a", fail.dead_letter_if(|_| panic!("predicate"))).build().unwrap();
    worker.run_until_idle().await.unwrap();
    assert_eq!(status(&storage, id).await, Status::Retrying);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_on_dead_stops_nothing() {
    async fn dead() -> Result<(), Failure> {
        Err(Failure::dead("no"))
    }
    let storage = memory();
    let ids = enqueue_many(&storage, "a", 3).await;
    let worker = worker(&storage).on("a", dead.on_dead(|_, _| panic!("on_dead"))).build().unwrap();
    assert_eq!(worker.run_until_idle().await.unwrap().dead, 3);
    for id in ids {
        assert_eq!(status(&storage, id).await, Status::Dead);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_text_of_an_error_is_a_failure_too() {
    #[derive(Debug)]
    struct Burst;
    impl std::fmt::Display for Burst {
        fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("display")
        }
    }
    impl std::error::Error for Burst {}
    async fn fail() -> Result<(), Failure> {
        Err(Failure::new(Burst))
    }
    let storage = memory();
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).max_attempts(1).on("a", fail.no_timeout()).build().unwrap();
    let ended = tokio::time::timeout(secs(1_000), worker.run_until_idle()).await;
    assert_eq!(ended.expect("the worker ends").unwrap().dead, 1);
    assert_eq!(status(&storage, id).await, Status::Dead);
}

#[tokio::test(start_paused = true)]
async fn errors_that_the_predicate_names_are_final() {
    async fn fail(context: Context) -> Result<(), Failure> {
        Err(if context.payload() == "hopeless" { std::fmt::Error.into() } else { "try again".into() })
    }
    let storage = memory();
    let hopeless = enqueue(&storage, Message::new("a", "hopeless")).await;
    let other = enqueue(&storage, Message::new("a", "other")).await;
    let worker = worker(&storage).on("a", fail.dead_letter_if(|error| error.is::<std::fmt::Error>())).build().unwrap();
    worker.run_until_idle().await.unwrap();
    assert_eq!((status(&storage, hopeless).await, status(&storage, other).await), (Status::Dead, Status::Retrying));
    assert_eq!(record(&storage, hopeless).await.attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn on_dead_is_called_once_after_it_is_recorded() {
    async fn fail() -> Result<(), Failure> {
        Err(Failure::retry_after(Duration::ZERO, "no"))
    }
    let (storage, probe) = (memory(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let (looks, notes) = (storage.clone(), probe.clone());
    let on_dead = move |context: &Context, reason: &str| {
        let found = futures_util::FutureExt::now_or_never(tickr_core::Admin::get(&looks, context.message().id)).unwrap();
        notes.note(format!("{} {reason} {}", context.attempt(), found.unwrap().unwrap().status));
    };
    let worker = worker(&storage).on("a", fail.max_attempts(2).on_dead(on_dead)).build().unwrap();
    worker.run_until_idle().await.unwrap();
    assert_eq!(probe.notes(), ["2 no DEAD"]);
    assert_eq!(status(&storage, id).await, Status::Dead);
}

#[tokio::test(start_paused = true)]
async fn a_snooze_gives_the_attempt_back_and_comes_again_in_time() {
    async fn snooze(context: Context, State(probe): State<Probe>) -> Outcome {
        probe.note(context.attempt().to_string());
        if probe.len() < 4 { Outcome::snooze(secs(60)) } else { Outcome::Done }
    }
    let (storage, probe) = (memory(), Probe::new());
    let id = enqueue(&storage, Message::new("a", "")).await;
    let worker = worker(&storage).state(probe.clone()).max_attempts(1).on("a", snooze).build().unwrap().spawn();
    sleep(secs(181)).await;
    assert_eq!(status(&storage, id).await, Status::Success);
    assert_eq!(probe.notes(), ["1", "1", "1", "1"]);
    assert!(probe.times()[3] - probe.times()[0] < ms(180_100), "{:?}", probe.times());
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_is_stored_without_nul_bytes_and_cut() {
    async fn fail(context: Context) -> Result<(), Failure> {
        Err(Failure::dead(if context.payload() == "nul" { "a\0b".to_owned() } else { "\u{e9}".repeat(100_000) }))
    }
    let storage = memory();
    let nul = enqueue(&storage, Message::new("a", "nul")).await;
    let long = enqueue(&storage, Message::new("a", "long")).await;
    worker(&storage).on("a", fail).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(record(&storage, nul).await.last_error.as_deref(), Some("a\u{fffd}b"));
    let text = record(&storage, long).await.last_error.unwrap();
    assert!(text.len() < 9_000 && text.ends_with("... (cut)"), "{} bytes", text.len());
}

#[tokio::test(start_paused = true)]
async fn an_absurd_delay_is_recorded_and_holds_up_nothing() {
    async fn absurd(context: Context) -> Result<Outcome, Failure> {
        if context.payload() == "snooze" { Ok(Outcome::snooze(Duration::MAX)) } else { Err(Failure::retry_after(Duration::MAX, "never")) }
    }
    let storage = memory();
    let snoozed = enqueue(&storage, Message::new("a", "snooze")).await;
    let failed = enqueue(&storage, Message::new("a", "fail")).await;
    let report = worker(&storage).on("a", absurd).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(report.retried, 2);
    for id in [snoozed, failed] {
        let record = record(&storage, id).await;
        let delay = record.due_at.unwrap().since(record.stored.created_at);
        assert!(delay <= secs(11 * 366 * 24 * 3_600), "every database can store it: {delay:?}");
    }
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_one_duration_waits_for_it_each_time() {
    let (storage, probe) = (memory(), Probe::new());
    enqueue(&storage, Message::new("a", "")).await;
    let fail = async |State(probe): State<Probe>| {
        probe.note("run");
        Err::<(), _>(Failure::new("no"))
    };
    let worker = worker(&storage).state(probe.clone()).on("a", fail.retry(secs(7)).max_attempts(3)).build().unwrap().spawn();
    probe.reached(3).await;
    assert_eq!(probe.times().iter().map(std::time::Duration::as_secs).collect::<Vec<_>>(), [0, 7, 14]);
    stop(worker).await;
}

#[test]
fn exponential_backoff_refuses_nonsense_and_names_it() {
    let refused = |base, max| ExponentialBackoff::new(base, max).unwrap_err().to_string();
    assert_eq!(refused(Duration::ZERO, secs(1)), "invalid argument: back-off base 0ns must be above zero and at most its maximum 1s");
    assert_eq!(refused(secs(2), secs(1)), "invalid argument: back-off base 2s must be above zero and at most its maximum 1s");
    let exact = ExponentialBackoff::new(ms(20), secs(1)).unwrap().jitter(0.0);
    let delays: Vec<_> = (1..=8).map(|attempt| exact.delay(attempt)).collect();
    assert_eq!(delays, [20, 40, 80, 160, 320, 640, 1_000, 1_000].map(ms));
    assert_eq!(exact.delay(0), ms(20));
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_makes_of_its_timeout_is_recorded_as_a_timeout() {
    async fn obedient(context: Context) -> Result<(), Failure> {
        context.cancelled().cancelled().await;
        Err("I was cancelled".into())
    }
    async fn late(context: Context) {
        context.cancelled().cancelled().await;
    }
    async fn all(_batch: tickr_core::Batch<Context>, context: tickr_core::BatchContext) -> Result<(), Failure> {
        context.cancelled().cancelled().await;
        Err(Failure::dead("all of them"))
    }
    let storage = memory();
    let [failed, succeeded, batch] = [
        enqueue(&storage, Message::new("obedient", "")).await,
        enqueue(&storage, Message::new("late", "")).await,
        enqueue(&storage, Message::new("all", "")).await,
    ];
    let builder = worker(&storage).max_attempts(1);
    let builder = builder.on("obedient", obedient.timeout(secs(2))).on("late", late.timeout(secs(2)));
    builder.on_batch("all", all.timeout(secs(3))).build().unwrap().run_until_idle().await.unwrap();
    let error = async |id| record(&storage, id).await.last_error;
    assert_eq!(error(failed).await.as_deref(), Some("handler timed out after 2s: I was cancelled"));
    assert_eq!(status(&storage, succeeded).await, Status::Success, "a success that comes late is one");
    assert_eq!(error(batch).await.as_deref(), Some("handler timed out after 3s: all of them"));
}
