//! Group commit: what shares a transaction does not share its failures.

use std::time::Duration;

use rusqlite::TransactionBehavior;
use tickr_core::{Bits, ErrorKind, Settlement, StatsRequest, Status, Storage};

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
    let wrong = Settlement { token: claim.token, succeeded: Bits::full(7), others: Vec::new() };
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
