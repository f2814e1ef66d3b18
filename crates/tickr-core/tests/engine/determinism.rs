//! The same seed under paused time gives the same history.

use tickr_core::{
    Admin, Batch, BatchHandler, BatchItem, Context, ErrorKind, Failure, Handler, Message, Outcome, Prefetch, Priority, Raw, Verdict,
};
use tokio::time::sleep;

use super::support::{Call, Fault, Faulty, ms, secs, sound, stop, worker};

async fn mixed(context: Context) -> Result<Outcome, Failure> {
    let number: u64 = std::str::from_utf8(context.payload())?.parse()?;
    sleep(ms(number % 17)).await;
    match (number % 7, context.attempt()) {
        (0, 1..=2) => Err("twice".into()),
        (1, 1) => Err(Failure::retry_after(ms(number), "once")),
        (2, _) if number.is_multiple_of(5) => Err(Failure::dead("dead")),
        (3, _) if number.is_multiple_of(3) => Ok(Outcome::skip("skip")),
        (4, 1) if number.is_multiple_of(4) => {
            sleep(secs(3_600)).await;
            Ok(Outcome::Done)
        }
        (5, 1) if number.is_multiple_of(6) => panic!("panic"),
        _ => Ok(Outcome::Done),
    }
}

async fn batch(batch: Batch<Raw>) -> Vec<Verdict> {
    sleep(ms(9)).await;
    let verdict = |item: BatchItem<Raw>| {
        if item.context.attempt() == 1 && item.body.0.ends_with(b"3") { Err("three".into()) } else { Ok(Outcome::Done) }
    };
    batch.into_iter().map(verdict).collect()
}

/// What happened to every message, in the order they were enqueued.
async fn history(seed: u64) -> Vec<String> {
    let storage = Faulty::new();
    let mut calls = 0_u32;
    storage.script(move |call| {
        calls += 1;
        match call {
            Call::Settle(_) if calls.is_multiple_of(11) => Some(Fault::LoseAnswer),
            Call::Claim(_) if calls.is_multiple_of(29) => Some(Fault::LoseAnswer),
            Call::Heartbeat(_) if calls.is_multiple_of(31) => Some(Fault::Refuse(ErrorKind::LeaseLost)),
            _ => None,
        }
    });
    let client = tickr_core::Client::builder(storage.clone()).retries(0).build();
    let priorities = [Priority::High, Priority::Normal, Priority::Low];
    let messages = (0..400_usize).map(|n| {
        let message = Message::new(["one", "two", "batch"][n % 3], n.to_string()).priority(priorities[n % 5 % 3]);
        if n % 10 == 0 { message.after(ms(n as u64 * 3)) } else { message }
    });
    let ids: Vec<_> = client.enqueue_all(messages).await.unwrap().into_iter().map(tickr_core::Enqueued::id).collect();
    let builder = worker(&storage).seed(seed).lease(secs(2)).pool(6).prefetch(Prefetch::Fixed(8)).abandon_after(ms(100));
    let builder =
        builder.on("one", mixed.max_attempts(3).timeout(secs(2)).retry(ms(700))).on("two", mixed.max_in_flight(2).timeout(secs(1)));
    let worker = builder.on_batch("batch", batch.max_batch(7).retry(ms(50))).build().unwrap().spawn();
    sleep(secs(120)).await;
    stop(worker).await;
    sound(&storage.inner).await;
    let mut told = Vec::new();
    for (n, id) in ids.into_iter().enumerate() {
        for step in storage.inner.history(id).await.unwrap() {
            told.push(format!("{n} {} {} {:?} {}", step.event, step.attempt, step.error, step.at));
        }
    }
    told
}

fn run(seed: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(history(seed))
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let (first, second) = (run(3), run(3));
    assert!(first.len() > 1_200, "{} steps", first.len());
    let differs = first.iter().zip(&second).position(|(a, b)| a != b);
    assert_eq!(differs.map(|at| (&first[at], &second[at])), None, "{} and {} steps", first.len(), second.len());
    assert_eq!(first.len(), second.len());
}

#[test]
fn another_seed_gives_another_history() {
    assert_ne!(run(3), run(4));
}
