//! Everything goes wrong at once, on several threads and in real time: nothing is lost, nothing is doubled.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tickr_core::{
    Admin, Batch, BatchHandler, Client, Context, ErrorKind, Failure, Handler, MemoryStorage, Message, MessageId, Outcome, Prefetch, Raw,
    Selection, State, Status, Verdict, Worker,
};
use tokio::time::{Instant, sleep};

use super::support::{Fault, Faulty, Op, ms, secs, sound};

/// How often each message ran, and a source of numbers.
#[derive(Clone, Default)]
struct World(Arc<(Mutex<HashMap<MessageId, u32>>, AtomicU64)>);

impl World {
    fn roll(&self) -> u64 {
        // splitmix64: enough to look random, and without a lock.
        let mut number = self.0.1.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    fn ran(&self, id: MessageId) {
        *self.0.0.lock().unwrap().entry(id).or_default() += 1;
    }
}

async fn anything(context: Context, State(world): State<World>) -> Result<Outcome, Failure> {
    world.ran(context.message().id);
    match world.roll() % 40 {
        0..=3 => Err(Failure::retry_after(ms(world.roll() % 20), "failed")),
        4 => Ok(Outcome::snooze(ms(5))),
        5 => panic!("panicked"),
        6 => {
            sleep(secs(60)).await;
            Ok(Outcome::Done)
        }
        7 => {
            std::thread::sleep(ms(world.roll() % 30));
            Ok(Outcome::Done)
        }
        8..=20 => {
            sleep(ms(world.roll() % 5)).await;
            Ok(Outcome::Done)
        }
        _ => Ok(Outcome::Done),
    }
}

async fn batches(batch: Batch<Raw>, State(world): State<World>) -> Vec<Verdict> {
    let verdict = |id| {
        world.ran(id);
        if world.roll().is_multiple_of(20) { Err(Failure::retry_after(ms(1), "failed")) } else { Ok(Outcome::Done) }
    };
    batch.into_iter().map(|item| verdict(item.context.message().id)).collect()
}

fn faults(storage: &Faulty, world: &World) {
    let world = world.clone();
    storage.script(move |call| {
        let often = match call.op() {
            Op::Enqueue => return None,
            Op::Heartbeat => 30,
            _ => 12,
        };
        match world.roll() % (4 * often) {
            0 => Some(Fault::Refuse(ErrorKind::Unavailable)),
            1 => Some(Fault::LoseAnswer),
            2 => Some(Fault::Slow(ms(world.roll() % 20))),
            3 => Some(Fault::Refuse(if world.roll().is_multiple_of(4) { ErrorKind::LeaseLost } else { ErrorKind::Internal })),
            _ => None,
        }
    });
}

fn build(storage: &Faulty, world: &World, name: &str) -> Worker {
    let builder = Worker::builder(storage.clone()).name(name).lease(ms(300)).pool(8).prefetch(Prefetch::Fixed(10)).abandon_after(ms(20));
    let builder = builder.reclaim_interval(ms(50)).idle_interval(ms(50)).shutdown_grace(ms(50)).max_attempts(1_000).state(world.clone());
    let builder = builder.on("one", anything.timeout(ms(50)).retry(ms(3)));
    let builder = builder.on("capped", anything.timeout(ms(50)).retry(ms(3)).max_in_flight(3));
    builder.on_batch("batch", batches.max_batch(7).timeout(ms(50)).retry(ms(3))).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_when_everything_goes_wrong() {
    const MESSAGES: usize = 900;
    const CHAOS: Duration = ms(1_500);
    let (storage, world) = (Faulty::over(MemoryStorage::new()), World::default());
    let types = ["one", "capped", "batch"];
    let messages = (0..MESSAGES).map(|n| {
        let message = Message::new(types[n % 3], n.to_string());
        if n % 13 == 0 { message.after(ms(n as u64 % 500)) } else { message }
    });
    let ids: Vec<MessageId> =
        Client::new(storage.inner.clone()).enqueue_all(messages).await.unwrap().into_iter().map(tickr_core::Enqueued::id).collect();
    let steady = build(&storage, &world, "steady").spawn();
    while !steady.health().alive {
        sleep(ms(1)).await;
    }
    // From now on: one worker is there from the beginning.
    faults(&storage, &world);
    let mut killed = Vec::new();
    let begun = Instant::now();
    for round in 0.. {
        // A worker that comes and goes: by a shutdown, or without a word.
        if begun.elapsed() > CHAOS {
            storage.heal();
            sleep(ms(20)).await;
        } else if round % 2 == 0 {
            let mortal = build(&storage, &world, "mortal");
            let mortal = tokio::spawn(async move { mortal.run().await });
            sleep(ms(120)).await;
            mortal.abort();
        } else {
            let guest = build(&storage, &world, "guest").spawn();
            sleep(ms(120)).await;
            guest.shutdown();
            // A start that failed is no matter.
            let _ = guest.join().await;
        }
        if round < 5 {
            let victim = ids[usize::try_from(world.roll()).unwrap_or_default() % MESSAGES];
            killed.extend(storage.inner.kill(&Selection::from(victim), "chaos").await.unwrap().done);
        }
        sound(&storage.inner).await;
        let mut left = Vec::new();
        for id in &ids {
            let record = storage.inner.get(*id).await.unwrap().unwrap();
            if !matches!(record.status, Status::Success | Status::Dead) {
                left.push(record);
            }
        }
        if left.is_empty() && begun.elapsed() > CHAOS {
            break;
        }
        assert!(begun.elapsed() < secs(30), "{} messages are not finished: {:?}", left.len(), left[0]);
    }
    storage.heal();
    steady.shutdown();
    steady.join().await.unwrap();
    let ran = world.0.0.lock().unwrap().clone();
    for id in ids {
        let record = storage.inner.get(id).await.unwrap().unwrap();
        let steps = storage.inner.history(id).await.unwrap();
        let oks = steps.iter().filter(|step| step.event == "ok").count();
        if killed.contains(&id) {
            assert_eq!((record.status, oks), (Status::Dead, 0), "{steps:?}");
        } else {
            assert_eq!((record.status, oks), (Status::Success, 1), "{steps:?}");
            assert!(ran.get(&id).is_some_and(|runs| *runs > 0), "{id} succeeded without being run");
        }
    }
    sound(&storage.inner).await;
}
