//! Connections that are killed in the middle of claims and settles.

use tickr_core::{Client, StatsRequest, Status, Storage};

use super::support::{Database, Ran, eventually, message, secs, sound, value, worker};

/// Whatever statement was on its way: nothing is lost, and nothing is dead.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_connections_are_killed_again_and_again() {
    const MESSAGES: usize = 2_000;
    const ROUNDS: u64 = 40;
    let (database, storage) = Database::migrated().await;
    let client = Client::new(storage.clone());
    for _ in 0..MESSAGES / 500 {
        client.enqueue_all((0..500).map(|_| message("1"))).await.unwrap();
    }
    let ran = Ran::default();
    // Small claims, so that there are many; a short lease, so that those whose answer was lost are found soon.
    let worker = worker(&database.storage(), &ran)
        .pool(8)
        .batch(20)
        .prefetch(tickr_core::Prefetch::Fixed(0))
        .lease(secs(3))
        .build()
        .unwrap()
        .spawn();
    let outside = database.outside().await;
    let mut killed = 0;
    for round in 1..=ROUNDS {
        // While what ran is recorded and the next is claimed. Mostly what is in the middle of something; now and then all, those for
        // heartbeats and LISTEN too.
        ran.reached(round * 40).await;
        let whom = if round % 4 == 0 { "true" } else { "state <> 'idle'" };
        killed += database.terminate(&outside, whom).await;
    }
    let waiting = async || {
        let stats = storage.stats(&StatsRequest::default()).await.unwrap();
        [Status::Created, Status::Retrying, Status::Handling].map(|status| stats.total(status).n).iter().sum::<u64>()
    };
    eventually("the queue is empty", async || waiting().await == 0).await;
    println!("{killed} connections killed in {ROUNDS} rounds; handlers ran {} times for {MESSAGES} messages", ran.count());
    assert!(killed >= ROUNDS / 2, "only {killed} connections were killed");
    worker.shutdown();
    worker.join().await.unwrap();
    let succeeded = "SELECT count(*) FROM tickr_message_status WHERE status = 'SUCCESS'";
    assert_eq!(value(&database.client().await, succeeded).await.unwrap(), MESSAGES.to_string());
    sound(&storage).await;
}
