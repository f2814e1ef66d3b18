//! Several handles on one file, as several processes have them.

use std::time::Duration;

use rusqlite::TransactionBehavior;
use tickr_core::{Admin, ErrorKind, Heartbeat, Retry, SettleOutcome, Settlement, StatsRequest, Status, Storage};
use tickr_sqlite::SqliteStorage;

use crate::{Database, message, now, order, request, worker};

/// A process that was stopped inside a write transaction holds the lock until it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn stopped_writer_makes_others_unavailable_and_they_recover() {
    let (database, storage) = Database::migrated().await;
    drop(storage);
    let patience = Duration::from_millis(200);
    let storage = SqliteStorage::builder().path(database.path()).busy_timeout(patience).build().unwrap();
    let worker = worker(&storage).await;
    let heartbeat = Heartbeat::new(worker, Duration::from_secs(60));

    let mut connection = database.connection();
    let stopped = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let began = now();
    let batch = [message("refused")];
    let (enqueued, beat) = tokio::join!(storage.enqueue(&batch), storage.heartbeat(&heartbeat));
    assert!(began.elapsed() >= patience && began.elapsed() < 10 * patience, "{:?}", began.elapsed());
    for error in [enqueued.unwrap_err(), beat.unwrap_err()] {
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Operation));
        assert!(error.to_string().contains("locked by another connection"), "{error}");
    }
    // What finds nothing to write needs no lock, and reading never does.
    assert_eq!(storage.claim(&request(worker, 10)).await.unwrap().members, 0);
    assert_eq!(storage.stats(&StatsRequest::default()).await.unwrap().total(Status::Created).n, 0);

    drop(stopped);
    storage.enqueue(&[message("accepted")]).await.unwrap();
    storage.heartbeat(&heartbeat).await.unwrap();
    assert_eq!(storage.claim(&request(worker, 10)).await.unwrap().members, 1);
}

/// A commit wakes listeners of the type, and of no other.
#[tokio::test(flavor = "multi_thread")]
async fn commit_of_another_handle_wakes_within_25_ms() {
    let (database, storage) = Database::migrated().await;
    let other = SqliteStorage::open(database.path()).unwrap();
    let notifier = other.notifier().unwrap();
    let mut listener = notifier.listen(&[order()]).await.unwrap();
    let mut deaf = notifier.listen(&[tickr_core::EventType::new("else").unwrap()]).await.unwrap();
    // The first look only learns where things stand.
    crate::pause(Duration::from_millis(50)).await;
    let mut waits = Vec::new();
    for _ in 0..20 {
        storage.enqueue(&[message("wake up")]).await.unwrap();
        let began = now();
        listener.next().await.unwrap();
        waits.push(began.elapsed());
    }
    waits.sort_unstable();
    assert!(waits[10] < Duration::from_millis(25), "{waits:?}");
    assert!(tokio::time::timeout(Duration::from_millis(50), deaf.next()).await.is_err());
}

/// Whoever listens late is told of what waits already: nothing falls between the last look and the first.
#[tokio::test(flavor = "multi_thread")]
async fn late_listener_is_told_of_the_next_commit() {
    let (database, storage) = Database::migrated().await;
    let other = SqliteStorage::open(database.path()).unwrap();
    let mut early = other.notifier().unwrap().listen(&[order()]).await.unwrap();
    storage.enqueue(&[message("1")]).await.unwrap();
    early.next().await.unwrap();
    drop(early);
    let mut late = other.notifier().unwrap().listen(&[order()]).await.unwrap();
    storage.enqueue(&[message("2")]).await.unwrap();
    late.next().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn from_connection_opens_the_same_file() {
    let (database, storage) = Database::migrated().await;
    storage.enqueue(&[message("1")]).await.unwrap();
    let connection = database.connection();
    let same = SqliteStorage::from_connection(&connection).unwrap();
    assert_eq!(same.stats(&StatsRequest::default()).await.unwrap().total(Status::Created).n, 1);
}

/// Without the history there are no texts, and still every claim with how it ended.
#[tokio::test]
async fn history_can_be_left_out() {
    let (database, storage) = Database::migrated().await;
    drop(storage);
    let storage = SqliteStorage::builder().path(database.path()).history(false).build().unwrap();
    storage.enqueue(&[message("1")]).await.unwrap();
    let worker = worker(&storage).await;
    let claim = storage.claim(&request(worker, 1)).await.unwrap();
    let member = &claim.messages[0];
    let mut settlement = Settlement::new(claim.token, 1);
    settlement.others.push(member.settled(SettleOutcome::Dead { error: "boom".into() }));
    storage.settle(&[settlement]).await.unwrap();
    let history = storage.history(member.id).await.unwrap();
    let steps: Vec<_> = history.iter().map(|step| (step.event, step.error.as_deref())).collect();
    assert_eq!(steps, [("created", None), ("claimed", None), ("dead", None)]);
    assert_eq!(storage.get(member.id).await.unwrap().unwrap().last_error.as_deref(), Some("boom"), "of the dead letter");
    assert!(storage.audit().await.unwrap().findings.is_empty());
}
