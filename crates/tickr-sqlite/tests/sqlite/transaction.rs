//! Enqueueing in the application's own transaction.

use rusqlite::{Connection, TransactionBehavior};
use tickr_core::{Enqueued, ErrorKind, Hint, InspectIn, Message, Retry, StatsRequest, Status, Storage};
use tickr_sqlite::{InTransaction, SqliteStorage};

use crate::{Database, checked, message, order};

async fn created(storage: &SqliteStorage) -> u64 {
    storage.stats(&StatsRequest::default()).await.unwrap().total(Status::Created).n
}

fn orders(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap()
}

async fn shop() -> (Database, SqliteStorage, Connection) {
    let (database, storage) = Database::migrated().await;
    let connection = database.connection();
    connection.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY)").unwrap();
    (database, storage, connection)
}

#[tokio::test]
async fn business_row_and_message_share_their_fate() {
    let (_database, storage, mut connection) = shop().await;
    let wakeups = storage.wakeups().subscribe([&order()]);
    for (commit, expected) in [(true, 1), (false, 1)] {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        tx.execute("INSERT INTO orders DEFAULT VALUES", []).unwrap();
        storage.enqueue_sync(&tx, &[message("1")]).unwrap();
        assert_eq!(wakeups.take(), Some(Hint::Soon));
        if commit {
            tx.commit().unwrap();
        } else {
            drop(tx);
        }
        assert_eq!((orders(&connection), created(&storage).await), (expected, 1));
    }
}

#[tokio::test]
async fn savepoint_rollback_takes_its_messages_along() {
    let (_database, storage, mut connection) = shop().await;
    let mut tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    storage.enqueue_sync(&tx, &[message("kept")]).unwrap();
    let mut savepoint = tx.savepoint().unwrap();
    storage.enqueue_sync(&savepoint, &[message("undone")]).unwrap();
    assert_eq!(storage.messages_in(&mut savepoint, "order").await.unwrap().len(), 2);
    savepoint.rollback().unwrap();
    drop(savepoint);
    tx.commit().unwrap();
    assert_eq!(created(&storage).await, 1);
}

/// All or none: what a failing batch wrote is undone, and the caller's transaction goes on.
#[tokio::test]
async fn failing_batch_leaves_nothing_in_the_transaction() {
    let (_database, storage, mut connection) = shop().await;
    connection
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON tickr_messages WHEN new.tenant = 'banned'
             BEGIN SELECT raise(ABORT, 'banned'); END",
        )
        .unwrap();
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    tx.execute("INSERT INTO orders DEFAULT VALUES", []).unwrap();
    let error = storage.enqueue_sync(&tx, &[message("good"), checked(Message::new("order", "bad").tenant("banned"))]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    storage.enqueue_sync(&tx, &[message("another")]).unwrap();
    tx.commit().unwrap();
    assert_eq!((orders(&connection), created(&storage).await), (1, 1));
}

/// A deferred transaction whose snapshot is old cannot write: SQLite refuses it at once.
#[tokio::test]
async fn old_snapshot_says_retry_transaction() {
    let (_database, storage, mut connection) = shop().await;
    let tx = connection.transaction_with_behavior(TransactionBehavior::Deferred).unwrap();
    assert_eq!(orders(&tx), 0);
    storage.enqueue(&[message("meanwhile")]).await.unwrap();
    let error = storage.enqueue_sync(&tx, &[message("refused")]).unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Transaction));
    drop(tx);
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    storage.enqueue_sync(&tx, &[message("accepted")]).unwrap();
    tx.commit().unwrap();
    assert_eq!(created(&storage).await, 2);
}

/// Another connection is writing: a batch of nothing writes nothing, and so waits for nobody.
#[tokio::test]
async fn empty_batch_needs_no_lock() {
    let (database, storage, mut connection) = shop().await;
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    let mut other = database.connection();
    let _writing = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let tx = connection.transaction_with_behavior(TransactionBehavior::Deferred).unwrap();
    assert_eq!(storage.enqueue_sync(&tx, &[]).unwrap(), []);
}

#[tokio::test]
async fn assumed_transaction_is_checked() {
    let (_database, storage, mut connection) = shop().await;
    let error = InTransaction::assume(&mut connection).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("not inside a transaction"), "{error}");
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let tx = InTransaction::assume(&mut connection).unwrap();
    let [Enqueued::Stored { .. }] = storage.enqueue_sync(&tx, &[message("1")]).unwrap()[..] else { panic!("stored") };
    connection.execute_batch("ROLLBACK").unwrap();
    assert_eq!(created(&storage).await, 0);
}

#[tokio::test]
async fn missing_schema_is_named() {
    let database = Database::empty();
    let storage = SqliteStorage::open(database.path()).unwrap();
    let mut connection = database.connection();
    let tx = connection.transaction().unwrap();
    let error = storage.enqueue_sync(&tx, &[message("1")]).unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Migration, Retry::Never));
    assert!(error.to_string().contains("there is no tickr schema; call migrate()"), "{error}");
}
