//! Sequences that are behind their rows, as on the subscriber of a logical replication: they are set, and nothing fails.

use tickr_core::{Admin, Client, Due, ErrorKind, Failure, MessageId, Raw, Retry, Selection, State, Status, Storage, Worker};
use tickr_postgres::PostgresStorage;

use super::support::{Database, ORDER, Ran, message, ms, secs, sound, status, until};

/// The next number of each sequence is that of a row: [`filled`] takes places 51 to 100, and transitions 1 to 100.
const RESTART: &str = "ALTER TABLE tickr_ready ALTER seq RESTART WITH 70; ALTER TABLE tickr_transitions ALTER n RESTART WITH 70";
const WAITING: usize = 50;
/// The last place of [`filled`].
const HIGHEST: i64 = 100;

async fn restart(database: &Database) {
    database.client().await.batch_execute(RESTART).await.unwrap();
}

/// Messages wait, and the journal has transitions: of messages that were killed and requeued.
async fn filled(storage: &PostgresStorage) -> Vec<MessageId> {
    let client = client(storage);
    let results = client.enqueue_all((0..WAITING).map(|_| message("ok"))).await.unwrap();
    let ids: Vec<MessageId> = results.into_iter().map(tickr_core::Enqueued::id).collect();
    storage.kill(&Selection::Ids(ids.clone()), "test").await.unwrap();
    storage.requeue(&Selection::Ids(ids.clone()), Due::Now).await.unwrap();
    ids
}

/// A client that tries each enqueue once.
fn client(storage: &PostgresStorage) -> Client<PostgresStorage> {
    Client::builder(storage.clone()).retries(0).build()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_enqueue_works_with_a_sequence_behind_its_rows() {
    let (database, storage) = Database::migrated().await;
    filled(&storage).await;
    let client = client(&storage);
    restart(&database).await;
    client.enqueue(message("1")).await.unwrap();
    restart(&database).await;
    client.enqueue_all((0..10).map(|_| message("1"))).await.unwrap();
    restart(&database).await;
    client.enqueue(message("1").idempotency_key("k")).await.unwrap();
    // The caller's transaction has failed; run again it succeeds.
    restart(&database).await;
    let mut connection = database.client().await;
    let mut tx = connection.transaction().await.unwrap();
    let refused = client.enqueue_in(&mut tx, message("1")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.retry()), (ErrorKind::Conflict, Retry::Transaction), "{refused}");
    tx.rollback().await.unwrap();
    let mut tx = connection.transaction().await.unwrap();
    client.enqueue_in(&mut tx, message("1")).await.unwrap();
    tx.commit().await.unwrap();
    sound(&storage).await;
}

/// A pool of one connection, which the caller's transaction holds.
#[tokio::test(flavor = "multi_thread")]
async fn sequence_is_set_although_the_caller_holds_the_only_connection() {
    let (database, storage) = Database::migrated().await;
    filled(&storage).await;
    let pool = database.pool(1);
    let storage = PostgresStorage::from_pool(pool.clone()).unwrap();
    restart(&database).await;
    let mut connection = pool.get().await.unwrap();
    let mut tx = connection.transaction().await.unwrap();
    let refused = client(&storage).enqueue_in(&mut tx, message("1")).await.unwrap_err();
    assert_eq!(refused.retry(), Retry::Transaction, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_and_promotions_work_with_a_sequence_behind_its_rows() {
    let (database, storage) = Database::migrated().await;
    let ids = filled(&storage).await;
    restart(&database).await;
    assert_eq!(storage.kill(&Selection::from(ids[0]), "test").await.unwrap().done, [ids[0]]);
    restart(&database).await;
    assert_eq!(storage.requeue(&Selection::from(ids[0]), Due::Now).await.unwrap().done, [ids[0]]);
    let later = client(&storage).enqueue(message("1").after(ms(1))).await.unwrap().id();
    restart(&database).await;
    while storage.promote(10).await.unwrap().moved == 0 {}
    assert_eq!(status(&storage, later).await, Status::Created);
    let later = client(&storage).enqueue(message("1").after(secs(600))).await.unwrap().id();
    restart(&database).await;
    assert_eq!(storage.reschedule(&Selection::from(later), Due::Now).await.unwrap().done, [later]);
    sound(&storage).await;
}

/// Outcomes that return messages, and what a worker leaves behind.
#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_recorded_with_a_sequence_behind_its_rows() {
    async fn handle(State((database, ran)): State<(Database, Ran)>, body: Raw) -> Result<(), Failure> {
        ran.once();
        if &*body.0 == b"retried" && ran.count() < 60 {
            restart(&database).await;
            return Err(Failure::retry_after(ms(0), "again"));
        }
        Ok(())
    }
    let (database, storage) = Database::migrated().await;
    filled(&storage).await;
    let id = client(&storage).enqueue(message("retried")).await.unwrap().id();
    let ran = Ran::default();
    let worker = Worker::builder(storage.clone()).state((database.clone(), ran.clone())).on(ORDER, handle).pool(2).build().unwrap().spawn();
    until(&storage, id, Status::Success).await;
    worker.shutdown();
    worker.join().await.unwrap();
    sound(&storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reclaims_work_with_a_sequence_behind_its_rows() {
    let (database, storage) = Database::migrated().await;
    filled(&storage).await;
    let gone = tickr_core::WorkerId::new();
    let registration = tickr_core::Registration::new(gone, "gone", vec![], ms(100));
    storage.register(&registration).await.unwrap();
    let group =
        tickr_core::LaneRequest::new(tickr_core::EventType::new(ORDER).unwrap(), tickr_core::protocol::Lane::ORDINARY.to_vec(), 10, 10);
    let request = tickr_core::ClaimRequest::new(gone, "gone", tickr_core::Token::new(), vec![group], 10);
    assert_eq!(storage.claim(&request).await.unwrap().messages.len(), 10);
    restart(&database).await;
    let mut taken = 0;
    while taken == 0 {
        taken = storage.reclaim(&tickr_core::ReclaimRequest::condemning(10)).await.unwrap().messages.len();
    }
    assert_eq!(taken, 10);
    sound(&storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_and_workers_look_at_sequences() {
    let (database, storage) = Database::migrated().await;
    filled(&storage).await;
    let plain = database.client().await;
    let next = async || -> i64 {
        let insert =
            "INSERT INTO tickr_ready (event_type, lane, id, attempt, crashes) VALUES ('other', 2, gen_random_uuid(), 0, 0) RETURNING seq";
        plain.query_one(insert, &[]).await.unwrap().get(0)
    };
    restart(&database).await;
    storage.migrate().await.unwrap();
    assert!(next().await > HIGHEST);
    plain.batch_execute("DELETE FROM tickr_ready WHERE event_type = 'other'").await.unwrap();
    restart(&database).await;
    let registration = tickr_core::Registration::new(tickr_core::WorkerId::new(), "w", vec![], secs(60));
    storage.register(&registration).await.unwrap();
    assert!(next().await > HIGHEST);
}

/// The highest place may be in any lane.
#[tokio::test]
async fn sequence_is_compared_with_the_highest_place_of_all_lanes() {
    let (database, storage) = Database::migrated().await;
    let plain = database.client().await;
    for lane in [1, 3] {
        let ahead = format!(
            "DELETE FROM tickr_ready;
             INSERT INTO tickr_ready (event_type, lane, id, attempt, crashes, seq) OVERRIDING SYSTEM VALUE
             VALUES ('a', {lane}, gen_random_uuid(), 0, 0, 1000 * {lane}), ('b', 2, gen_random_uuid(), 0, 0, 5);
             ALTER TABLE tickr_ready ALTER seq RESTART WITH 7"
        );
        plain.batch_execute(&ahead).await.unwrap();
        storage.migrate().await.unwrap();
        let next: i64 = plain.query_one("SELECT nextval(pg_get_serial_sequence('tickr_ready', 'seq'))", &[]).await.unwrap().get(0);
        assert!(next > 1_000 * lane, "{next}");
    }
}

/// A role without the right to set it is told which sequence, and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_set_a_sequence_says_what_to_run() {
    let (database, storage) = Database::migrated().await;
    filled(&storage).await;
    let role = format!("app {}", database.name);
    let grants = format!("CREATE ROLE \"{role}\" LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO \"{role}\"");
    let owner = database.client().await;
    owner.batch_execute(&grants).await.unwrap();
    let other = PostgresStorage::connect(&database.url_of(&role)).await.unwrap();
    restart(&database).await;
    let refused = client(&other).enqueue(message("1")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    let said = refused.to_string();
    let (_, rest) = said.split_once("run ").unwrap();
    let (repair, _) = rest.split_once(" as its owner").unwrap();
    owner.batch_execute(repair).await.unwrap();
    client(&other).enqueue(message("1")).await.unwrap();
}
