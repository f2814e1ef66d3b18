//! Batch handlers.

use std::future::Future;
use std::sync::{Arc, Mutex};

use tickr_core::{
    Admin, Batch, BatchContext, BatchHandler, BatchResults, Context, Failure, FromMessage, Message, Outcome, Prefetch, Raw, Requirements,
    State, Status, Verdict,
};
use tokio::time::sleep;

use super::support::{Crowd, Probe, enqueue, enqueue_many, memory, ms, record, secs, sound, status, stop, until_status, worker};

/// A number, or a body that cannot be decoded.
struct Number(u32);

impl FromMessage for Number {
    fn from_message(context: &Context) -> Result<Self, Failure> {
        std::str::from_utf8(context.payload()).map_err(Failure::dead)?.parse().map(Self).map_err(Failure::dead)
    }
}

#[tokio::test(start_paused = true)]
async fn each_member_gets_its_own_result() {
    async fn each(batch: Batch<Number>) -> Vec<Verdict> {
        let verdict = |number| match number {
            0 => Ok(Outcome::Done),
            1 => Ok(Outcome::skip("one")),
            2 => Err(Failure::dead("two")),
            3 => Err(Failure::retry_after(secs(60), "three")),
            _ => Ok(Outcome::snooze(secs(60))),
        };
        batch.into_iter().map(|item| verdict(item.body.0)).collect()
    }
    let storage = memory();
    let ids = enqueue_many(&storage, "a", 5).await;
    let report = worker(&storage).on_batch("a", each).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.succeeded, report.skipped, report.retried, report.dead), (1, 1, 2, 1));
    let mut found = Vec::new();
    for id in ids {
        found.push(status(&storage, id).await);
    }
    assert_eq!(found, [Status::Success, Status::Success, Status::Dead, Status::Retrying, Status::Created]);
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn one_verdict_counts_for_all() {
    async fn all(batch: Batch<Raw>, State(probe): State<Probe>) -> Result<(), Failure> {
        probe.note(batch.len().to_string());
        Err(Failure::retry_after(secs(60), "all of them"))
    }
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 7).await;
    let report = worker(&storage).state(probe.clone()).on_batch("a", all).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.retried, probe.notes()), (7, vec!["7".to_owned()]));
    for id in ids {
        assert_eq!(record(&storage, id).await.last_error.as_deref(), Some("all of them"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_every_member() {
    async fn burst(_batch: Batch<Raw>) {
        panic!("batch")
    }
    let storage = memory();
    let ids = enqueue_many(&storage, "a", 3).await;
    let report = worker(&storage).on_batch("a", burst.max_attempts(1)).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(report.dead, 3);
    for id in ids {
        assert_eq!(record(&storage, id).await.last_error.as_deref(), Some("handler panicked: batch"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_fails_every_member() {
    async fn never(_batch: Batch<Raw>) {
        std::future::pending::<()>().await;
    }
    let storage = memory();
    enqueue_many(&storage, "a", 3).await;
    let builder = worker(&storage).on_batch("a", never.max_attempts(1).timeout(secs(1)));
    let report = builder.build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(report.dead, 3);
}

#[tokio::test(start_paused = true)]
async fn results_that_are_missing_count_as_failures() {
    async fn few(_batch: Batch<Raw>) -> BatchResults {
        BatchResults::Each(vec![Ok(Outcome::Done)])
    }
    let storage = memory();
    let ids = enqueue_many(&storage, "a", 3).await;
    let report = worker(&storage).on_batch("a", few.max_attempts(1)).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.succeeded, report.dead), (1, 2));
    assert_eq!(record(&storage, ids[2]).await.last_error.as_deref(), Some("the batch handler gave no result for this message"));
}

#[tokio::test(start_paused = true)]
async fn results_that_are_missing_from_a_handler_of_ones_own_count_as_failures() {
    struct Few;
    impl BatchHandler<()> for Few {
        fn call(&self, _contexts: Vec<Context>) -> impl Future<Output = Vec<Verdict>> + Send + 'static {
            std::future::ready(vec![Ok(Outcome::Done)])
        }

        fn requires(_requirements: &mut Requirements) {}
    }
    let storage = memory();
    enqueue_many(&storage, "a", 3).await;
    let worker = worker(&storage).on_batch("a", Few.max_attempts(1)).build().unwrap();
    let report = tokio::time::timeout(secs(1_000), worker.run_until_idle()).await.expect("the worker ends").unwrap();
    assert_eq!((report.succeeded, report.dead), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn results_beyond_the_members_are_ignored() {
    async fn many(_batch: Batch<Raw>) -> Vec<Verdict> {
        (0..10).map(|_| Ok(Outcome::Done)).collect()
    }
    let storage = memory();
    enqueue_many(&storage, "a", 3).await;
    let report = worker(&storage).on_batch("a", many).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(report.succeeded, 3);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_cannot_be_decoded_at_all_does_not_call_the_handler() {
    async fn never(_batch: Batch<Number>, State(probe): State<Probe>) {
        probe.note("called");
    }
    let (storage, probe) = (memory(), Probe::new());
    for _ in 0..3 {
        enqueue(&storage, Message::new("a", "no number")).await;
    }
    let report = worker(&storage).state(probe.clone()).on_batch("a", never).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.dead, probe.len()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_decoder_that_panics_fails_its_own_message_only() {
    struct Picky;
    impl FromMessage for Picky {
        fn from_message(context: &Context) -> Result<Self, Failure> {
            assert!(context.payload() != "1", "on purpose, by a test");
            Ok(Self)
        }
    }
    async fn all(batch: Batch<Picky>, State(probe): State<Probe>) {
        probe.note(batch.len().to_string());
    }
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 5).await;
    let builder = worker(&storage).state(probe.clone()).on_batch("a", all.max_attempts(1));
    let report = builder.build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.succeeded, report.dead, probe.notes()), (4, 1, vec!["4".to_owned()]));
    let error = record(&storage, ids[1]).await.last_error.unwrap();
    assert!(error.starts_with("handler panicked: on purpose"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_type_never_overlap_and_those_of_two_types_do() {
    async fn slow(_batch: Batch<Raw>, State((own, all)): State<(Arc<Mutex<Vec<Crowd>>>, Crowd)>, context: BatchContext) {
        let own = own.lock().unwrap()[usize::from(_batch.0[0].context.event_type().as_str() == "b")].clone();
        assert_eq!(context.worker(), "w");
        let _inside = (own.enter(), all.enter());
        sleep(ms(10)).await;
    }
    let storage = memory();
    enqueue_many(&storage, "a", 50).await;
    enqueue_many(&storage, "b", 50).await;
    let (own, all) = (Arc::new(Mutex::new(vec![Crowd::default(), Crowd::default()])), Crowd::default());
    let builder = worker(&storage).state((Arc::clone(&own), all.clone()));
    let worker = builder.on_batch("a", slow.max_batch(5)).on_batch("b", slow.max_batch(5)).build().unwrap();
    assert_eq!(worker.run_until_idle().await.unwrap().succeeded, 100);
    let own = own.lock().unwrap();
    assert_eq!((own[0].most(), own[1].most(), all.most()), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_batch_type_does_not_hold_up_others_and_others_do_not_hold_up_it() {
    async fn slow(_batch: Batch<Raw>) {
        sleep(secs(5)).await;
    }
    async fn quick(State(probe): State<Probe>) {
        probe.note("quick");
    }
    let (storage, probe) = (memory(), Probe::new());
    enqueue_many(&storage, "slow", 1_000).await;
    let builder = worker(&storage).pool(2).state(probe.clone());
    let worker = builder.on_batch("slow", slow.max_batch(10)).on("quick", quick).build().unwrap().spawn();
    sleep(secs(1)).await;
    enqueue_many(&storage, "quick", 500).await;
    probe.reached(500).await;
    assert!(probe.times()[499] < ms(1_500), "{:?}", probe.times()[499]);
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_member_is_retried_without_the_others() {
    async fn third(batch: Batch<Number>, State(probe): State<Probe>) -> Vec<Verdict> {
        let numbers: Vec<u32> = batch.iter().map(|item| item.body.0).collect();
        probe.note(format!("{numbers:?}"));
        let verdict =
            |number: &u32| if *number == 3 && probe.len() == 1 { Err(Failure::retry_after(ms(1), "no")) } else { Ok(Outcome::Done) };
        numbers.iter().map(verdict).collect()
    }
    let (storage, probe) = (memory(), Probe::new());
    let ids = enqueue_many(&storage, "a", 5).await;
    let worker = worker(&storage).state(probe.clone()).on_batch("a", third).build().unwrap().spawn();
    until_status(&storage, ids[3], Status::Success).await;
    assert_eq!(probe.notes(), ["[0, 1, 2, 3, 4]", "[3]"]);
    stop(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_killed_in_the_queue_does_not_call_the_handler() {
    async fn slow() {
        sleep(secs(15)).await;
    }
    async fn all(batch: Batch<Raw>, State(probe): State<Probe>) {
        probe.note(batch.len().to_string());
    }
    let (storage, probe) = (memory(), Probe::new());
    let first = enqueue(&storage, Message::new("slow", "")).await;
    let builder = worker(&storage).lease(secs(30)).pool(1).prefetch(Prefetch::Fixed(10)).state(probe.clone());
    let worker = builder.on("slow", slow).on_batch("a", all).build().unwrap().spawn();
    until_status(&storage, first, Status::Handling).await;
    let ids = enqueue_many(&storage, "a", 3).await;
    until_status(&storage, ids[2], Status::Handling).await;
    storage.kill(&ids.iter().copied().collect(), "no more").await.unwrap();
    until_status(&storage, first, Status::Success).await;
    let next = enqueue(&storage, Message::new("a", "")).await;
    until_status(&storage, next, Status::Success).await;
    assert_eq!(probe.notes(), ["1"]);
    stop(worker).await;
    sound(&storage).await;
}
