//! A publication of all tables, as change data capture and upgrades by logical replication make it.

use tickr_core::{
    Admin, Client, ErrorKind, Failure, Handler, PauseRequest, PauseScope, PurgeRequest, Raw, Retention, Selection, Storage, Worker,
};
use tickr_postgres::{Builder, PostgresStorage};

use super::support::{Database, ORDER, message, ms, secs, sound, value};

async fn handle(body: Raw) -> Result<(), Failure> {
    match &*body.0 {
        b"dead" => Err(Failure::dead("wrong")),
        b"again" => Err(Failure::retry_after(ms(1), "again")),
        _ => Ok(()),
    }
}

async fn published(builder: impl FnOnce(Builder) -> Builder) -> (Database, PostgresStorage) {
    let database = Database::empty().await;
    let storage = builder(database.builder()).build().unwrap();
    storage.migrate().await.unwrap();
    database.client().await.batch_execute("CREATE PUBLICATION everything FOR ALL TABLES").await.unwrap();
    (database, storage)
}

fn everything() -> PurgeRequest {
    let mut retention = Retention::default();
    (retention.success, retention.dead, retention.history) = (ms(0), Some(ms(0)), Some(ms(0)));
    PurgeRequest::default().retention(retention).limit(1_000)
}

async fn count(database: &Database, table: &str) -> String {
    value(&database.client().await, &format!("SELECT count(*) FROM tickr_{table}")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_handled_and_purged_where_all_tables_are_published() {
    for layout in [|builder: Builder| builder, |builder: Builder| builder.partitioned(secs(3_600))] {
        let (database, storage) = published(layout).await;
        let client = Client::new(storage.clone());
        client.enqueue_all((0..20).map(|n| message(&n.to_string()))).await.unwrap();
        client.enqueue(message("keyed").idempotency_key("k").after(ms(1))).await.unwrap();
        client.enqueue_all([message("dead"), message("again")]).await.unwrap();
        let killed = client.enqueue(message("killed").after(secs(600))).await.unwrap().id();
        let worker = Worker::builder(storage.clone()).on(ORDER, handle.max_attempts(2)).build().unwrap();
        worker.run_until_idle().await.unwrap();
        storage.kill(&Selection::from(killed), "enough").await.unwrap();
        storage.pause(&PauseRequest::event_type(ORDER)).await.unwrap();
        storage.resume(&PauseScope::from(ORDER)).await.unwrap();
        let held = storage.acquire_lock("test", tickr_core::WorkerId::new(), secs(60)).await.unwrap().unwrap();
        assert!(storage.renew_lock(&held, secs(60)).await.unwrap() && storage.release_lock(&held).await.unwrap());
        sound(&storage).await;
        while storage.purge(&everything()).await.unwrap().more {}
        for table in ["messages", "settlements", "claims", "transitions", "dead"] {
            assert_eq!(count(&database, table).await, "0", "{table}");
        }
    }
}

/// Somebody took the identity away: the error names the table and the remedy, and what else is old goes all the same.
#[tokio::test(flavor = "multi_thread")]
async fn kind_that_cannot_be_purged_keeps_no_other() {
    let (database, storage) = published(|builder| builder).await;
    Client::new(storage.clone()).enqueue_all([message("fine"), message("dead")]).await.unwrap();
    Worker::builder(storage.clone()).on(ORDER, handle).build().unwrap().run_until_idle().await.unwrap();
    let take = "ALTER TABLE tickr_settlements REPLICA IDENTITY NOTHING";
    database.client().await.batch_execute(take).await.unwrap();
    let error = storage.purge(&everything()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for words in ["\"tickr_settlements\"", "REPLICA IDENTITY FULL", "publication"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!((count(&database, "dead").await, count(&database, "transitions").await), ("0".to_owned(), "0".to_owned()));
    assert_eq!(count(&database, "messages").await, "1", "the success, which waits for its proof to be used");
}
