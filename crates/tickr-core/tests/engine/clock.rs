//! Ids are in the database's time, on every road and from the first message on.

use std::time::Duration;

use tickr_core::{Client, ErrorKind, MemoryStorage, Message, MessageId, Storage, Timestamp};
use tokio::time::{Instant, advance, sleep};

use super::support::{Fault, Faulty, Gate, Op, eventually, memory, ms, secs};

const DAY: Duration = secs(24 * 3_600);

/// When an id says that it was made.
fn made_at(id: MessageId) -> Timestamp {
    let (secs, nanos) = id.as_uuid().get_timestamp().unwrap().to_unix();
    Timestamp::from_micros(0).after(Duration::new(secs, nanos))
}

/// How far an id is from what the database's clock reads.
async fn distance(storage: &impl Storage, id: MessageId) -> Duration {
    let (made, now) = (made_at(id), storage.now().await.unwrap());
    now.since(made).max(made.since(now))
}

/// A database of which the clock is 400 days ahead of ours.
fn ahead() -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.clock_offset().advance(DAY * 400);
    storage
}

#[tokio::test]
async fn a_client_that_enqueues_alone_makes_ids_in_database_time() {
    let storage = ahead();
    let id = Client::new(storage.clone()).enqueue(Message::new("a", "")).await.unwrap().id();
    assert!(distance(&storage, id).await < secs(60));
}

#[tokio::test]
async fn a_client_that_only_enqueues_in_transactions_makes_ids_in_database_time() {
    let storage = ahead();
    let client = Client::new(storage.clone());
    let mut tx = storage.begin().await;
    let id = client.enqueue_in(&mut tx, Message::new("a", "")).await.unwrap().id();
    let more = client.enqueue_all_in(&mut tx, [Message::new("a", "")]).await.unwrap()[0].id();
    tx.commit().await.unwrap();
    for id in [id, more] {
        assert!(distance(&storage, id).await < secs(60));
    }
}

#[tokio::test]
async fn a_client_that_only_checks_learns_the_databases_time_in_the_background() {
    let storage = ahead();
    let client = Client::new(storage.clone());
    eventually("the clock is read", async || {
        let id = client.check([Message::new("a", "")]).unwrap()[0].id();
        distance(&storage, id).await < secs(60)
    })
    .await;
}

#[test]
fn a_client_outside_of_a_runtime_checks_all_the_same() {
    assert_eq!(Client::new(ahead()).check([Message::new("a", "")]).unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_databases_clock_is_read_again_every_five_minutes() {
    let storage = memory();
    let client = Client::new(storage.clone());
    client.enqueue(Message::new("a", "")).await.unwrap();
    storage.clock_offset().advance(DAY * 400);
    let id = client.enqueue(Message::new("a", "")).await.unwrap().id();
    assert!(distance(&storage, id).await > DAY, "not at every message");
    advance(secs(301)).await;
    for road in ["alone", "in a transaction"] {
        eventually(road, async || {
            let id = if road == "alone" {
                client.enqueue(Message::new("a", "")).await.unwrap().id()
            } else {
                let mut tx = storage.begin().await;
                let id = client.enqueue_in(&mut tx, Message::new("a", "")).await.unwrap().id();
                tx.commit().await.unwrap();
                id
            };
            // A paused clock is minutes behind the machine's at most.
            distance(&storage, id).await < DAY
        })
        .await;
        storage.clock_offset().advance(DAY * 400);
        advance(secs(301)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_databases_clock_is_not_read_more_often() {
    let storage = Faulty::new();
    let client = Client::new(storage.clone());
    for _ in 0..30 {
        client.enqueue(Message::new("a", "")).await.unwrap();
        client.check([Message::new("a", "")]).unwrap();
        sleep(secs(9)).await;
    }
    assert_eq!(storage.calls(Op::Now), 1);
    sleep(secs(60)).await;
    client.enqueue(Message::new("a", "")).await.unwrap();
    eventually("it is read again", async || storage.calls(Op::Now) == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_cannot_be_read_fails_no_enqueue_and_is_read_later() {
    let storage = Faulty::over(ahead());
    let client = Client::new(storage.clone());
    storage.next(Op::Now, Fault::Refuse(tickr_core::ErrorKind::Unavailable));
    let id = client.enqueue(Message::new("a", "")).await.unwrap().id();
    assert!(distance(&storage, id).await > DAY);
    sleep(secs(1)).await;
    let id = client.enqueue(Message::new("a", "")).await.unwrap().id();
    assert!(distance(&storage, id).await < DAY);
}

/// In real time: ids go by the machine's monotonic clock between two readings.
#[tokio::test]
async fn the_reading_counts_for_the_middle_of_its_round_trip() {
    let (storage, gate) = (Faulty::new(), Gate::new());
    let client = Client::new(storage.clone());
    storage.next(Op::Now, Fault::LateAnswer(gate.clone()));
    let (begun, enqueue) = (Instant::now(), client.enqueue(Message::new("a", "")));
    let answer_late = async {
        gate.arrived().await;
        let read = storage.inner.now().await.unwrap();
        sleep(ms(600)).await;
        let answered = Instant::now();
        gate.open();
        (read, answered)
    };
    let (stored, (read, answered)) = tokio::join!(enqueue, answer_late);
    let after_middle = (answered - begun) / 2 + answered.elapsed();
    let made_after = made_at(stored.unwrap().id()).since(read);
    assert!(made_after <= after_middle + ms(40), "made {made_after:?} after the reading, its middle was {after_middle:?} ago");
    assert!(made_after >= ms(300) - ms(40), "{made_after:?}");
}

#[tokio::test(start_paused = true)]
async fn of_many_calls_one_reads_the_databases_clock() {
    let storage = Faulty::new();
    let client = Client::new(storage.clone());
    let check = || {
        for _ in 0..10 {
            client.check([Message::new("a", "")]).unwrap();
        }
    };
    // One that fails is not repeated at every call either.
    storage.next(Op::Now, Fault::Refuse(ErrorKind::Unavailable));
    for (after, reads) in [(secs(0), 1), (secs(9), 1), (secs(2), 2), (secs(299), 2), (secs(2), 3)] {
        sleep(after).await;
        check();
        sleep(ms(1)).await;
        assert_eq!(storage.calls(Op::Now), reads);
    }
}
