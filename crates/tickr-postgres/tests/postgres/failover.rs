//! The server behind a connection changes: it becomes read-only, or another one answers at its address.

use tickr_core::{Client, ErrorKind, Storage};
use tickr_postgres::PostgresStorage;

use super::support::{Database, Ran, message, secs, sound, status, value, worker};

/// A client that tries each enqueue once.
fn client(storage: &PostgresStorage) -> Client<PostgresStorage> {
    Client::builder(storage.clone()).retries(0).build()
}

/// As a failed primary, or a standby, is: every connection that is made now refuses writes.
async fn read_only(database: &Database, on: bool) {
    let change = if on { "SET default_transaction_read_only = on" } else { "RESET default_transaction_read_only" };
    database.outside().await.batch_execute(&format!("ALTER DATABASE \"{}\" {change}", database.name)).await.unwrap();
}

/// Fills the pool with connections to the read-only server, and expects the operation that follows its end to succeed.
async fn writes_once_the_server_does(database: &Database, storage: &PostgresStorage) {
    let client = client(storage);
    read_only(database, true).await;
    let all_connect = (0..4).map(|_| storage.now());
    futures_util::future::try_join_all(all_connect).await.unwrap();
    let refused = client.enqueue(message("refused")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    read_only(database, false).await;
    client.enqueue(message("stored")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_to_a_read_only_server_is_kept() {
    let (database, _) = Database::migrated().await;
    writes_once_the_server_does(&database, &database.builder().pool_size(4).build().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_of_the_applications_pool_to_a_read_only_server_is_kept() {
    let (database, _) = Database::migrated().await;
    writes_once_the_server_does(&database, &PostgresStorage::from_pool(database.pool(4)).unwrap()).await;
}

/// Every connection of a worker: those of its pool, and the one for heartbeats.
#[tokio::test(flavor = "multi_thread")]
async fn worker_that_started_on_a_read_only_server_works_once_it_is_writable() {
    let (database, _) = Database::migrated().await;
    read_only(&database, true).await;
    let (storage, ran) = (database.storage(), Ran::default());
    storage.now().await.unwrap();
    let worker = worker(&storage, &ran).lease(secs(3)).build().unwrap().spawn();
    let client = client(&storage);
    client.enqueue(message("refused")).await.unwrap_err();
    read_only(&database, false).await;
    client.enqueue(message("1")).await.unwrap();
    ran.reached(1).await;
    worker.shutdown();
    worker.join().await.unwrap();
    sound(&storage).await;
}

/// What an application left behind in its own pool: another role, another search path, a session that only reads.
#[tokio::test(flavor = "multi_thread")]
async fn connection_with_a_state_of_its_own_fails_at_most_one_operation() {
    let (database, _) = Database::migrated().await;
    let role = format!("app {}", database.name);
    database.client().await.batch_execute(&format!("CREATE ROLE \"{role}\"")).await.unwrap();
    let (pool, ran) = (database.pool(1), Ran::default());
    let storage = PostgresStorage::from_pool(pool.clone()).unwrap();
    let client = client(&storage);
    for state in [&format!("SET ROLE \"{role}\""), "SET search_path = nowhere", "SET default_transaction_read_only = on"] {
        pool.get().await.unwrap().batch_execute(state).await.unwrap();
        drop(client.enqueue(message("first")).await);
        let id = client.enqueue(message("second")).await.unwrap().id();
        assert_eq!(status(&storage, id).await, tickr_core::Status::Created, "after {state}");
    }
    worker(&storage, &ran).build().unwrap().run_until_idle().await.unwrap();
    assert!(ran.count() >= 3);
    assert_eq!(value(&database.client().await, "SELECT count(*) FROM tickr_ready").await.unwrap(), "0");
}
