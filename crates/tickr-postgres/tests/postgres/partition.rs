//! The partitioned layout: made ahead, dropped when empty, and in nobody's way.

use std::time::Instant;

use tickr_core::{Admin, Client, ClockOffset, Failure, PurgeRequest, Raw, Retention, Selection, Storage, Worker};
use tickr_postgres::PostgresStorage;

use super::support::{Database, ORDER, message, secs, sound, value};

const HOUR: u64 = 3_600;

async fn handle(body: Raw) -> Result<(), Failure> {
    if &*body.0 == b"dead" { Err(Failure::dead("wrong")) } else { Ok(()) }
}

async fn partitioned(database: &Database) -> (PostgresStorage, ClockOffset) {
    let clock = ClockOffset::default();
    let storage = database.builder().partitioned(secs(HOUR)).clock_offset(clock.clone()).build().unwrap();
    storage.migrate().await.unwrap();
    (storage, clock)
}

/// The partitions of a table, those without a default, in order.
async fn partitions(database: &Database, table: &str) -> Vec<String> {
    let query = format!(
        "SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) FROM pg_inherits
         WHERE inhparent = 'tickr_{table}'::regclass AND inhrelid::regclass::text NOT LIKE '%default'"
    );
    let names = value(&database.client().await, &query).await.unwrap_or_default();
    names.split_whitespace().map(str::to_owned).collect()
}

/// Everything but dead letters is old after an hour.
async fn purge(storage: &PostgresStorage) {
    let retention = Retention::default().success(secs(HOUR)).dead(None).history(Some(secs(HOUR)));
    while storage.purge(&PurgeRequest::default().retention(retention).limit(100)).await.unwrap().more {}
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_made_ahead_and_dropped_when_nothing_is_left_in_them() {
    let database = Database::empty().await;
    let (storage, clock) = partitioned(&database).await;
    let first = partitions(&database, "messages").await;
    assert_eq!(first.len(), 4, "this hour and three ahead: {first:?}");
    let ids = Client::new(storage.clone()).enqueue_all([message("fine"), message("dead")]).await.unwrap();
    Worker::builder(storage.clone()).on(ORDER, handle).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(storage.default_partition_rows().await.unwrap(), 0);
    assert_eq!(storage.list_dead(&Default::default()).await.unwrap().items.len(), 1);

    // First what is old goes row by row, then the partitions that it was in.
    clock.advance(secs(48 * HOUR));
    purge(&storage).await;
    purge(&storage).await;
    let later = partitions(&database, "messages").await;
    let kept: Vec<&String> = later.iter().filter(|name| first.contains(name)).collect();
    assert_eq!(kept.len(), 1, "the dead letter's partition, of {later:?}");
    assert_eq!(later.len(), 5, "and four for the time that it is now: {later:?}");
    for table in ["claims", "settlements"] {
        assert_eq!(partitions(&database, table).await.len(), 4, "nothing of {table} is left");
    }
    assert!(storage.get(ids[1].id()).await.unwrap().is_some(), "the dead letter is still there");
    sound(&storage).await;

    storage.discard(&Selection::from(ids[1].id())).await.unwrap();
    purge(&storage).await;
    assert!(!partitions(&database, "messages").await.iter().any(|name| first.contains(name)));
    sound(&storage).await;
}

#[tokio::test]
async fn partition_that_cannot_be_dropped_keeps_no_other() {
    let database = Database::empty().await;
    let (storage, clock) = partitioned(&database).await;
    let first = partitions(&database, "messages").await;
    let view = format!("CREATE VIEW report AS SELECT id FROM {}", first[0]);
    database.client().await.batch_execute(&view).await.unwrap();
    clock.advance(secs(48 * HOUR));
    storage.purge(&PurgeRequest::default()).await.unwrap();
    assert_eq!(partitions(&database, "messages").await.len(), 1 + 4, "that one, and four for the time that it is now");
    for table in ["claims", "settlements", "transitions"] {
        assert_eq!(partitions(&database, table).await.len(), 4, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_gives_way_to_an_open_transaction() {
    let database = Database::empty().await;
    let (storage, clock) = partitioned(&database).await;
    let first = partitions(&database, "messages").await;
    // A producer that does not commit for long, and one whose clock did not move.
    let (mut application, client) = (database.client().await, Client::new(database.storage()));
    let mut open = application.transaction().await.unwrap();
    client.enqueue_in(&mut open, message("held")).await.unwrap();
    clock.advance(secs(48 * HOUR));

    let mut purging = tokio::spawn({
        let storage = storage.clone();
        async move { purge(&storage).await }
    });
    let mut longest = secs(0);
    while !purging.is_finished() {
        let begun = Instant::now();
        client.enqueue(message("beside")).await.unwrap();
        longest = longest.max(begun.elapsed());
    }
    (&mut purging).await.unwrap();
    assert!(longest < secs(1), "a drop or an attachment had an enqueue wait for {longest:?}");
    let left = partitions(&database, "messages").await;
    assert!(first.iter().all(|name| left.contains(name)), "locked, and so not dropped: {left:?}");

    open.rollback().await.unwrap();
    purge(&storage).await;
    let left = partitions(&database, "messages").await;
    assert_eq!(first.iter().filter(|name| left.contains(name)).count(), 1, "the partition of what was enqueued beside: {left:?}");
}
