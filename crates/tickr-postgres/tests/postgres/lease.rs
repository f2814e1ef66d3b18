//! Leases that are extended at the moment at which they are judged.

use std::time::Duration;

use tickr_core::{EventType, Heartbeat, ReclaimRequest, Registration, Storage, WorkerId};

use super::support::{Database, ORDER};

#[tokio::test]
async fn a_heartbeat_that_is_on_its_way_keeps_the_worker() {
    let (database, storage) = Database::migrated().await;
    let (worker, lease) = (WorkerId::new(), Duration::from_millis(100));
    let event_types = vec![EventType::new(ORDER).unwrap()];
    storage.register(&Registration::new(worker, "w", event_types, lease)).await.unwrap();
    let mut client = database.client().await;
    // Its lease has run out, and a heartbeat that came first has not committed.
    client.batch_execute("UPDATE tickr_workers SET expires_at = now() - INTERVAL '1 second'").await.unwrap();
    let heartbeat = client.transaction().await.unwrap();
    heartbeat.batch_execute("UPDATE tickr_workers SET expires_at = now() + INTERVAL '1 hour'").await.unwrap();
    let condemn = ReclaimRequest::condemning(10);
    let judging = tokio::spawn({
        let storage = storage.clone();
        async move { storage.reclaim(&condemn).await }
    });
    // It does not wait for the heartbeat; if it did, it would judge by what it read before.
    let reclaimed = tokio::time::timeout(Duration::from_secs(15), judging).await;
    heartbeat.commit().await.unwrap();
    assert_eq!(reclaimed.expect("it does not wait").unwrap().unwrap().condemned, 0);
    storage.heartbeat(&Heartbeat::new(worker, Duration::from_secs(30))).await.expect("it has its lease");
}
