//! A role that may do what a service needs, and nothing more.

use std::time::Duration;

use tickr_core::{
    Admin, Client, DeadQuery, Due, ErrorKind, EventType, Failure, Handler, ListQuery, MessageId, Migrated, PauseRequest, PauseScope,
    PurgeRequest, Raw, ReclaimRequest, Registration, Retention, Retry, Selection, State, StatsRequest, Status, Storage, Worker, WorkerId,
};
use tickr_postgres::PostgresStorage;

use super::support::{Database, ORDER, Ran, asleep, connect, message, ms, secs, sound, status, until, value, worker};

/// The rights that the README tells to grant.
const GRANTS: &str = include_str!("../../../../migrations/postgres/runtime_role.sql");
const README: &str = include_str!("../../README.md");

/// Roles belong to the whole server, so each test has one of its own.
struct Role(String);

impl Role {
    async fn create(database: &Database, grants: &str) -> Self {
        let role = format!("app {}", database.name);
        let grants = grants.replace(" TO app;", &format!(" TO \"{role}\";"));
        let script = format!("CREATE ROLE \"{role}\" LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC; {grants}");
        database.client().await.batch_execute(&script).await.unwrap();
        Self(role)
    }

    async fn storage(&self, database: &Database) -> PostgresStorage {
        PostgresStorage::connect(&database.url_of(&self.0)).await.unwrap()
    }
}

#[test]
fn the_readme_shows_the_grants() {
    let statements: String = GRANTS.lines().filter(|line| !line.starts_with("--")).flat_map(|line| [line, "\n"]).collect();
    assert!(README.contains(&statements), "the README's GRANT statements are not those of runtime_role.sql:\n{statements}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runtime_role_runs_workers_clients_and_operators() {
    async fn handle(State(ran): State<Ran>, body: Raw) -> Result<(), Failure> {
        ran.once();
        match &*body.0 {
            b"retried" if ran.count() < 1_000 => Err(Failure::from("again")),
            b"dead" => Err(Failure::dead("wrong")),
            _ => Ok(()),
        }
    }
    // Usual hardening: what is created later may be executed by its owner only.
    let database = Database::empty().await;
    let harden = "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC";
    database.client().await.batch_execute(harden).await.unwrap();
    database.storage().migrate().await.unwrap();
    let role = Role::create(&database, GRANTS).await;
    let refused = connect(&database.url_of(&role.0)).await.batch_execute("CREATE TABLE mine ()").await.unwrap_err();
    assert!(refused.as_db_error().unwrap().message().contains("permission denied for schema"), "{refused:?}");

    let storage = role.storage(&database).await;
    assert_eq!(storage.migrate().await.unwrap(), Migrated::new(1), "a current schema is nobody's work");
    let (client, ran) = (Client::new(storage.clone()), Ran::default());
    let worker = Worker::builder(role.storage(&database).await)
        .state(ran.clone())
        .on(ORDER, handle.max_attempts(2))
        .lease(secs(3))
        .reclaim_interval(ms(50))
        .purge_interval(ms(50))
        .build()
        .unwrap()
        .spawn();
    asleep(&storage, 1).await;

    // What clients do.
    let good = client.enqueue(message("good").idempotency_key("k")).await.unwrap().id();
    assert!(client.enqueue(message("good").idempotency_key("k")).await.unwrap().is_duplicate());
    let later = client.enqueue(message("later").after(ms(20))).await.unwrap().id();
    let retried = client.enqueue(message("retried")).await.unwrap().id();
    let dead = client.enqueue(message("dead")).await.unwrap().id();
    let mut connection = connect(&database.url_of(&role.0)).await;
    let mut tx = connection.transaction().await.unwrap();
    let mine = client.enqueue_in(&mut tx, message("mine")).await.unwrap().id();
    tx.commit().await.unwrap();
    for id in [good, later, mine] {
        until(&storage, id, Status::Success).await;
    }
    until(&storage, dead, Status::Dead).await;
    until(&storage, retried, Status::Dead).await;

    // What operators do.
    operate(&storage, dead, retried).await;
    let view = format!("SELECT status FROM tickr_message_status WHERE id = '{good}'");
    assert_eq!(value(&connection, &view).await.as_deref(), Some("SUCCESS"));

    // What workers do for each other.
    let gone = WorkerId::new();
    let registration = Registration::new(gone, "gone", vec![], ms(100));
    storage.register(&registration).await.unwrap();
    while storage.workers().await.unwrap().iter().any(|worker| worker.id == gone) {
        storage.reclaim(&ReclaimRequest::condemning(10)).await.unwrap();
    }
    let mut retention = Retention::default();
    (retention.success, retention.dead, retention.history) = (ms(1), Some(ms(1)), Some(ms(1)));
    let purged = storage.purge(&PurgeRequest::default().retention(retention).limit(1_000)).await.unwrap();
    assert!(purged.bodies > 0, "{purged:?}");
    worker.shutdown();
    worker.join().await.unwrap();
    sound(&storage).await;
}

async fn operate(storage: &PostgresStorage, dead: MessageId, retried: MessageId) {
    assert_eq!(storage.list(&ListQuery::default().event_type(ORDER)).await.unwrap().items.len(), 5);
    assert!(!storage.history(dead).await.unwrap().is_empty());
    assert_eq!(storage.list_dead(&DeadQuery::default()).await.unwrap().items.len(), 2);
    assert_eq!(storage.requeue(&Selection::from(dead), Due::After(secs(600))).await.unwrap().done, [dead]);
    assert_eq!(storage.reschedule(&Selection::from(dead), Due::After(secs(700))).await.unwrap().done, [dead]);
    assert_eq!(storage.kill(&Selection::from(dead), "enough").await.unwrap().done, [dead]);
    assert_eq!(storage.discard(&Selection::from(retried)).await.unwrap().done, [retried]);
    let mail = EventType::new("mail").unwrap();
    assert!(storage.pause(&PauseRequest::event_type(&mail).by("app")).await.unwrap());
    assert!(!storage.pause(&PauseRequest::event_type(&mail).until(Duration::from_secs(60))).await.unwrap());
    assert_eq!(storage.paused().await.unwrap()[0].scope, PauseScope::from(&mail));
    assert!(storage.resume(&(&mail).into()).await.unwrap());
    storage.stats(&StatsRequest::default()).await.unwrap();
    let holder = WorkerId::new();
    let lock = storage.acquire_lock("test", holder, secs(60)).await.unwrap().unwrap();
    assert!(storage.renew_lock(&lock, secs(60)).await.unwrap() && storage.release_lock(&lock).await.unwrap());
}

/// Only the owner can make partitions; what is kept too long is purged all the same.
#[tokio::test]
async fn runtime_role_purges_where_it_may_make_no_partitions() {
    let database = Database::empty().await;
    database.builder().partitioned(secs(3_600)).build().unwrap().migrate().await.unwrap();
    let role = Role::create(&database, GRANTS).await;
    let storage = role.storage(&database).await;
    // No partition is there for a clock that is a year ahead.
    let offset = tickr_core::ClockOffset::default();
    offset.advance(secs(365 * 24 * 3_600));
    let ahead = PostgresStorage::builder().url(&database.url_of(&role.0)).unwrap().clock_offset(offset).build().unwrap();
    Client::new(storage.clone()).enqueue(message("1")).await.unwrap();
    let ran = Ran::default();
    worker(&storage, &ran).build().unwrap().run_until_idle().await.unwrap();
    let purged = ahead.purge(&PurgeRequest::default().limit(1_000)).await.unwrap();
    assert_eq!((ran.count(), purged.bodies), (1, 1), "{purged:?}");
    sound(&storage).await;
}

#[tokio::test]
async fn migrating_without_the_right_to_says_which_one_is_missing() {
    let database = Database::empty().await;
    let role = Role::create(&database, "").await;
    let url = database.url_of(&role.0);
    for (storage, object) in [
        (PostgresStorage::connect(&url).await.unwrap(), "schema public"),
        (PostgresStorage::builder().url(&url).unwrap().schema("queue").connect().await.unwrap(), "database"),
    ] {
        let error = storage.migrate().await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Config, Retry::Never), "{error}");
        let said = error.to_string();
        assert!(said.contains(&format!("the role lacks rights: permission denied for {object}")), "{said}");
        assert!(said.contains("migrate() needs CREATE"), "{said}");
    }
}

/// A body that a policy hides looks as if it were lost, and a message without a body is dead: nothing is claimed instead.
#[tokio::test(flavor = "multi_thread")]
async fn row_security_stops_claims_with_an_error_and_kills_nothing() {
    let (database, owner) = Database::migrated().await;
    let role = Role::create(&database, GRANTS).await;
    let limited = role.storage(&database).await;
    let id = Client::new(owner.clone()).enqueue(message("1").tenant("acme")).await.unwrap().id();
    let policy = "ALTER TABLE tickr_messages ENABLE ROW LEVEL SECURITY;
                  CREATE POLICY tenants ON tickr_messages USING (tenant = current_setting('app.tenant', true))";
    database.client().await.batch_execute(policy).await.unwrap();
    let error = worker(&limited, &Ran::default()).build().unwrap().run_once(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("row-level security"), "{error}");
    assert_eq!(status(&owner, id).await, Status::Created);
}
