//! Group commit: what shares a transaction does not share its failures.

use std::time::Duration;

use rusqlite::TransactionBehavior;
use tickr_core::{Admin, Bits, ErrorKind, Settlement, StatsRequest, Status, Storage};

use crate::{Database, all_ok, message, order, pause, request, worker};

/// While another connection writes, jobs collect; then they share a commit.
#[tokio::test(flavor = "multi_thread")]
async fn failing_job_is_rolled_back_alone() {
    let (database, storage) = Database::migrated().await;
    storage.enqueue(&[message("a"), message("b")]).await.unwrap();
    let worker = worker(&storage).await;
    let claim = storage.claim(&request(worker, 2)).await.unwrap();

    let mut connection = database.connection();
    let lock = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let spawn = |storage: &tickr_sqlite::SqliteStorage, body: &'static str| {
        let storage = storage.clone();
        task(async move { storage.enqueue(&[message(body)]).await })
    };
    let before = spawn(&storage, "before");
    let mut wrong = Settlement::new(claim.token, 7);
    wrong.succeeded = Bits::full(7);
    let failing = task({
        let storage = storage.clone();
        async move { storage.settle(&[wrong]).await }
    });
    let settle = all_ok(&claim);
    let settling = task({
        let storage = storage.clone();
        async move { storage.settle(&[settle]).await }
    });
    let after = spawn(&storage, "after");
    pause(Duration::from_millis(50)).await;
    drop(lock);

    before.await.unwrap().unwrap();
    after.await.unwrap().unwrap();
    assert_eq!(failing.await.unwrap().unwrap_err().kind(), ErrorKind::Config);
    assert!(settling.await.unwrap().unwrap()[0].applied.is_full());
    assert_eq!(storage.stats(&StatsRequest::default()).await.unwrap().total(Status::Created).n, 2);
}

/// A request that nobody waits for any more, and that has not begun, is left out.
#[tokio::test(flavor = "multi_thread")]
async fn abandoned_job_is_not_begun() {
    let (database, storage) = Database::migrated().await;
    let mut connection = database.connection();
    let lock = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let spawn = |body: &'static str| {
        let storage = storage.clone();
        task(async move { storage.enqueue(&[message(body)]).await })
    };
    let first = spawn("first");
    pause(Duration::from_millis(50)).await;
    let abandoned = spawn("abandoned");
    pause(Duration::from_millis(50)).await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    drop(lock);
    first.await.unwrap().unwrap();
    assert_eq!(storage.stats(&StatsRequest::default()).await.unwrap().of(&order()).unwrap().created.n, 1);
}

#[expect(clippy::disallowed_methods, reason = "tasks of a test")]
fn task<F: Future<Output: Send + 'static> + Send + 'static>(future: F) -> tokio::task::JoinHandle<F::Output> {
    tokio::spawn(future)
}

/// A full disk makes SQLite roll the whole transaction back, not only the job that met it. Nobody in the group may be told that his
/// message is stored unless it is.
#[tokio::test(flavor = "multi_thread")]
async fn automatic_rollback_fails_the_whole_group() {
    let (database, storage) = Database::migrated().await;
    drop(storage);
    let pages: u32 = database.connection().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let storage = tickr_sqlite::SqliteStorage::builder().path(database.path()).max_page_count(pages + 20).build().unwrap();
    let mut failures = 0;
    for round in 0..6 {
        let mut connection = database.connection();
        let lock = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        // The first may be begun alone, and waits for the lock; the others collect behind it.
        let sizes = [1, 1, 1, 300_000, 1, 1, 300_000, 1];
        let mut jobs = Vec::new();
        for size in sizes {
            let (storage, message) = (storage.clone(), message(&"x".repeat(size)));
            let id = message.id();
            jobs.push((id, task(async move { storage.enqueue(&[message]).await })));
            pause(Duration::from_millis(5)).await;
        }
        drop(lock);
        for (id, job) in jobs {
            let answer = job.await.unwrap();
            let stored = storage.get(id).await.unwrap().is_some();
            assert_eq!(answer.is_ok(), stored, "round {round}: {answer:?}");
            if let Err(error) = answer {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                failures += 1;
            }
        }
    }
    assert!(failures >= 12, "the large ones at least do not fit: {failures}");
    assert_eq!(storage.audit().await.unwrap().findings, []);
    storage.enqueue(&[message("small")]).await.unwrap();
}
