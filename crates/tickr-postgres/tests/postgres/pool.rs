//! A pool of the application's own: its connections may come in any state.

use tickr_core::{
    Admin, ClaimRequest, Client, Due, ErrorKind, EventType, LaneRequest, Message, PauseRequest, PauseScope, PurgeRequest, ReclaimRequest,
    Registration, Selection, Settlement, StatsRequest, Status, Storage, Token, WorkerId,
};
use tickr_postgres::PostgresStorage;
use tickr_postgres::deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};

use super::support::{Database, ORDER, Ran, connect, message, ms, secs, sound, status, value, worker};

/// A pool of one connection, and a queue on it.
async fn pooled() -> (Database, Pool, PostgresStorage) {
    let (database, _) = Database::migrated().await;
    let pool = database.pool(1);
    let storage = PostgresStorage::from_pool(pool.clone()).unwrap();
    (database, pool, storage)
}

/// What somebody leaves behind who returns early.
async fn leave(pool: &Pool, script: &str) {
    pool.get().await.unwrap().batch_execute(script).await.unwrap();
}

/// Forgets a transaction that has done half of its work.
async fn forget_transaction(pool: &Pool) {
    leave(pool, "ROLLBACK; BEGIN; INSERT INTO half_done VALUES (1)").await;
}

async fn half_done(database: &Database) -> String {
    value(&database.client().await, "SELECT count(*) FROM half_done").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_as_stored_is_committed_whatever_was_left_open() {
    let (database, pool, storage) = pooled().await;
    database.client().await.batch_execute("CREATE TABLE half_done (n int)").await.unwrap();
    let client = Client::new(storage.clone());
    for prepared in [true, false] {
        let storage = PostgresStorage::builder().pool(pool.clone()).prepared_statements(prepared).build().unwrap();
        let client = Client::new(storage.clone());
        for begin in [
            "BEGIN",
            "BEGIN; SELECT 1",
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1",
            "BEGIN READ ONLY",
            "BEGIN; INSERT INTO half_done VALUES (1)",
            "BEGIN; SAVEPOINT a",
        ] {
            let kinds: [fn() -> Vec<Message>; 5] = [
                || vec![message("single")],
                || vec![message("1"), message("2"), message("3")],
                || vec![message("keyed").idempotency_key(Token::new().to_string())],
                || vec![message("later").after(secs(600))],
                || (0..10_001).map(|n| message(&n.to_string())).collect(),
            ];
            for kind in kinds {
                // The first use reads the clock and finds the tables: it must not be what cleans the connection up.
                client.enqueue(message("warm")).await.unwrap();
                leave(&pool, begin).await;
                let stored = client.enqueue_all(kind()).await.unwrap();
                leave(&pool, "ROLLBACK").await;
                for stored in [stored.first().unwrap(), stored.last().unwrap()] {
                    assert_eq!(status(&database.storage(), stored.id()).await, Status::Created, "{begin}, prepared {prepared}");
                }
            }
        }
        // One that had failed already.
        let failing = pool.get().await.unwrap();
        assert!(failing.batch_execute("BEGIN; SELECT 1 / 0").await.is_err());
        drop(failing);
        client.enqueue(message("after a failure")).await.unwrap();
    }
    assert_eq!(half_done(&database).await, "0", "nobody's half-done work was committed");
    drop(client);
    sound(&storage).await;
}

/// Every operation, on a connection with a forgotten transaction: it works, and commits nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn no_operation_commits_what_somebody_left_open() {
    let (database, pool, storage) = pooled().await;
    database.client().await.batch_execute("CREATE TABLE half_done (n int)").await.unwrap();
    let client = Client::new(storage.clone());
    let order = EventType::new(ORDER).unwrap();
    let me = WorkerId::new();
    macro_rules! clean {
        ($($operation:expr),+ $(,)?) => {$(
            forget_transaction(&pool).await;
            let answer = Box::pin($operation).await;
            assert!(answer.is_ok(), "{}: {answer:?}", stringify!($operation));
            leave(&pool, "COMMIT").await;
            assert_eq!(half_done(&database).await, "0", "{}", stringify!($operation));
        )+};
    }
    let dead = client.enqueue(message("killed").after(secs(600))).await.unwrap().id();
    let later = client.enqueue(message("later").after(secs(600))).await.unwrap().id();
    client.enqueue(message("claimed")).await.unwrap();
    let registration = Registration::new(me, "me", vec![order.clone()], secs(60));
    clean!(storage.migrate(), storage.schema(), storage.now(), storage.register(&registration));
    let token = Token::new();
    let lanes = tickr_core::protocol::Lane::ORDINARY.to_vec();
    let groups = vec![LaneRequest::new(order.clone(), lanes, 10, 10)];
    let request = ClaimRequest::new(me, "me", token, groups, 10);
    clean!(storage.claim(&request), storage.adopt(token));
    let mut settlement = Settlement::new(token, 1);
    settlement.succeeded.insert(0);
    let settlements = [settlement];
    clean!(
        storage.settle(&settlements),
        storage.promote(10),
        storage.reclaim(&ReclaimRequest::condemning(10)),
        storage.purge(&PurgeRequest::default()),
        storage.stats(&StatsRequest::default()),
        storage.acquire_lock("a", me, secs(60)),
        storage.kill(&Selection::from(dead), "enough"),
        storage.requeue(&Selection::from(dead), Due::After(secs(600))),
        storage.reschedule(&Selection::from(later), Due::After(secs(900))),
        storage.discard(&Selection::from(dead)),
        storage.pause(&PauseRequest::event_type(&order)),
        storage.resume(&PauseScope::from(&order)),
        storage.get(later),
        storage.history(later),
        storage.list(&Default::default()),
        storage.list_dead(&Default::default()),
        storage.workers(),
        storage.audit(),
        storage.retire(me, "the end"),
    );
    sound(&storage).await;
}

/// The storage's own pool is the application's too, once it was asked for.
#[tokio::test]
async fn single_message_is_not_lost_in_a_transaction_that_was_forgotten_in_the_storages_own_pool() {
    let (database, _) = Database::migrated().await;
    database.client().await.batch_execute("CREATE TABLE half_done (n int)").await.unwrap();
    for prepared in [true, false] {
        let storage = database.builder().prepared_statements(prepared).build().unwrap();
        let client = Client::new(storage.clone());
        client.enqueue(message("before")).await.unwrap();
        forget_transaction(storage.pool()).await;
        let id = client.enqueue(message("single")).await.unwrap().id();
        assert!(database.storage().get(id).await.unwrap().is_some(), "others see it, prepared: {prepared}");
    }
    assert_eq!(half_done(&database).await, "0");
}

/// A hook of the pool that begins a transaction on every connection: nothing is answered as stored, and the error says why.
#[tokio::test]
async fn pool_whose_connections_are_always_in_a_transaction_is_named() {
    use tickr_postgres::deadpool_postgres::{Hook, HookError, Manager};
    let (database, _) = Database::migrated().await;
    let manager = Manager::new(database.url().parse().unwrap(), tickr_postgres::tokio_postgres::NoTls);
    let begin = Hook::async_fn(|client, _| Box::pin(async move { client.batch_execute("BEGIN").await.map_err(HookError::Backend) }));
    let pool = Pool::builder(manager).max_size(2).post_create(begin).build().unwrap();
    let storage = PostgresStorage::from_pool(pool).unwrap();
    let error = Client::new(storage).enqueue_all([message("1"), message("2")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("a connection with an open transaction"), "{error}");
}

async fn process(pool: &Pool) -> i32 {
    pool.get().await.unwrap().query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// An operation that succeeds gives its connection back, also one of several statements.
#[tokio::test]
async fn operations_keep_the_connection() {
    let (_database, pool, storage) = pooled().await;
    let id = Client::new(storage.clone()).enqueue(message("1")).await.unwrap().id();
    let before = process(&pool).await;
    storage.history(id).await.unwrap();
    assert_eq!(process(&pool).await, before, "history");
    storage.schema().await.unwrap();
    assert_eq!(process(&pool).await, before, "schema");
    storage.audit().await.unwrap();
    assert_eq!(process(&pool).await, before, "audit");
}

#[tokio::test]
async fn statements_are_prepared_unless_the_pool_cannot_keep_them() {
    let (database, ..) = pooled().await;
    for prepared in [true, false] {
        let pool = database.pool(1);
        let storage = PostgresStorage::builder().pool(pool.clone()).prepared_statements(prepared).build().unwrap();
        storage.promote(10).await.unwrap();
        let connection = pool.get().await.unwrap();
        let kept = value(&connection, "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%tickr_scheduled%'").await;
        assert_eq!(kept.as_deref() != Some("0"), prepared, "{kept:?}");
    }
}

/// A connection that is new may lead to another server than those before; one that was used before does not change.
#[tokio::test]
async fn each_new_connection_is_asked_once_which_server_it_leads_to() {
    let (database, pool, storage) = pooled().await;
    let owner = database.client().await;
    // An expression that the planner puts in the place of the call: a call would run the server's own code.
    let counted = "CREATE SEQUENCE public.questions;
         CREATE OR REPLACE FUNCTION pg_catalog.pg_postmaster_start_time() RETURNS timestamptz LANGUAGE sql VOLATILE
         AS $$SELECT timestamptz '2026-01-01' + nextval('public.questions') * INTERVAL '0'$$";
    owner.batch_execute(counted).await.unwrap();
    let questions = async || value(&owner, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM questions").await.unwrap();
    for connections in ["1", "2"] {
        for _ in 0..5 {
            storage.promote(10).await.unwrap();
        }
        assert_eq!(questions().await, connections);
        pool.retain(|_, _| false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_somebody_left_change_nothing() {
    let (database, pool, _) = pooled().await;
    let outside = database.client().await;
    let role = format!("app {}", database.name);
    outside.batch_execute(&format!("CREATE SCHEMA other; CREATE ROLE \"{role}\"")).await.unwrap();
    for left in [
        "SET search_path = other",
        "SET search_path = ''",
        "CREATE TEMP TABLE IF NOT EXISTS tickr_ready (n int)",
        &format!("SET ROLE \"{role}\""),
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET default_transaction_read_only = on",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET statement_timeout = 20",
        "SET lock_timeout = 20",
        "SET idle_in_transaction_session_timeout = 20",
        "SET standard_conforming_strings = off",
        "SET TimeZone = 'Asia/Kathmandu'",
        "SET DateStyle = 'German'",
        "SET IntervalStyle = 'iso_8601'",
        "SET row_security = off",
        "SET client_encoding = 'LATIN1'",
        "SET synchronous_commit = off",
        "SET bytea_output = 'escape'",
        "SET extra_float_digits = 0",
        "SET transform_null_equals = on",
        "SET array_nulls = off",
        "SET enable_indexscan = off",
        "DEALLOCATE ALL",
        "DISCARD ALL",
    ] {
        // Ready before: found, and known to this handle.
        let storage = PostgresStorage::from_pool(pool.clone()).unwrap();
        let (client, ran) = (Client::new(storage.clone()), Ran::default());
        client.enqueue_all([message("warm"), message("warm")]).await.unwrap();
        worker(&storage, &ran).build().unwrap().run_until_idle().await.unwrap();
        let header = "größe ошибка";
        let mut ids = Vec::new();
        leave(&pool, left).await;
        ids.push(client.enqueue(message("single").header("h", header)).await.unwrap().id());
        leave(&pool, left).await;
        ids.extend(client.enqueue_all([message("1").header("h", header), message("2")]).await.unwrap().iter().map(|stored| stored.id()));
        leave(&pool, left).await;
        ids.push(client.enqueue(message("keyed").idempotency_key(Token::new().to_string())).await.unwrap().id());
        leave(&pool, left).await;
        let read = storage.get(ids[0]).await.unwrap().unwrap();
        assert_eq!(read.stored.headers.get("h"), Some(header), "{left}");
        leave(&pool, left).await;
        worker(&storage, &ran).build().unwrap().run_until_idle().await.unwrap_or_else(|error| panic!("{left}: {error}"));
        let other = database.storage();
        for id in ids {
            assert_eq!(status(&other, id).await, Status::Success, "{left}");
        }
        assert_eq!(other.get(read.stored.id).await.unwrap().unwrap().stored.headers.get("h"), Some(header), "{left}");
        pool.retain(|_, _| false);
    }
    sound(&database.storage()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_as_stored_survives_a_crash_where_commits_do_not_wait_by_default() {
    let mut cluster = tickr_servers::Cluster::builder().start().unwrap();
    // The log writer would make up for it soon.
    let database = Database::on(&cluster).await;
    let outside = database.client().await;
    let lazily = format!("ALTER DATABASE \"{}\" SET synchronous_commit = off; ALTER SYSTEM SET wal_writer_delay = '10s'", database.name);
    for statement in lazily.split("; ") {
        outside.batch_execute(statement).await.unwrap();
    }
    value(&outside, "SELECT pg_reload_conf()").await;
    drop(outside);
    let storage = database.storage();
    storage.migrate().await.unwrap();
    let client = Client::new(storage.clone());
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(client.enqueue(message(&n.to_string())).await.unwrap().id());
    }
    ids.extend(client.enqueue_all((0..20).map(|n| message(&n.to_string()))).await.unwrap().iter().map(|stored| stored.id()));
    ids.push(client.enqueue(message("keyed").idempotency_key("k")).await.unwrap().id());
    cluster.stop(tickr_servers::Stop::Immediate);
    cluster.start().unwrap();
    let storage = database.storage();
    for id in ids {
        assert!(storage.get(id).await.unwrap().is_some(), "{id} was answered as stored");
    }
}

/// Two queues of one database; a handle without `schema` belongs to that of its role's search path.
#[tokio::test(flavor = "multi_thread")]
async fn message_never_follows_the_callers_search_path() {
    let database = Database::empty().await;
    let outside = database.client().await;
    outside.batch_execute("CREATE SCHEMA mine; CREATE SCHEMA theirs").await.unwrap();
    for schema in ["mine", "theirs"] {
        database.builder().schema(schema).build().unwrap().migrate().await.unwrap();
    }
    outside.batch_execute(&format!("ALTER DATABASE \"{}\" SET search_path = mine", database.name)).await.unwrap();
    let count = async |schema: &str| {
        let client = connect(&database.url()).await;
        value(&client, &format!("SELECT count(*) FROM {schema}.tickr_messages")).await.unwrap()
    };
    let mut expected = 0;
    let connected = database.builder().connect().await.unwrap();
    let pool = database.pool(1);
    for (storage, name) in [
        (connected, "connected"),
        (database.storage(), "first used in the caller's transaction"),
        (PostgresStorage::from_pool(pool.clone()).unwrap(), "on the pool whose only connection the caller holds"),
        (database.builder().prepared_statements(false).build().unwrap(), "unprepared"),
    ] {
        let client = Client::new(storage);
        for path in ["theirs", "''", "nowhere", "pg_temp, theirs"] {
            let mut connection = pool.get().await.unwrap();
            let mut tx = connection.transaction().await.unwrap();
            tx.batch_execute(&format!("SET LOCAL search_path = {path}")).await.unwrap();
            client.enqueue_in(&mut tx, message("1")).await.unwrap_or_else(|error| panic!("{name}, {path}: {error}"));
            client.enqueue_all_in(&mut tx, [message("2"), message("3").idempotency_key(Token::new().to_string())]).await.unwrap();
            tx.commit().await.unwrap();
            expected += 3;
            assert_eq!((count("mine").await, count("theirs").await), (expected.to_string(), "0".to_owned()), "{name}, {path}");
        }
    }
    // What a connection of the pool has set counts no more than that.
    let storage = PostgresStorage::from_pool(pool.clone()).unwrap();
    leave(&pool, "SET search_path = theirs").await;
    Client::new(storage).enqueue_all([message("4"), message("5")]).await.unwrap();
    assert_eq!((count("mine").await, count("theirs").await), ((expected + 2).to_string(), "0".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_found_after_they_were_made_moved_or_named_by_the_pool() {
    let database = Database::empty().await;
    let storage = database.builder().connect().await.unwrap();
    let client = Client::new(storage.clone());
    let error = client.enqueue(message("1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Migration);
    assert!(error.to_string().contains("call migrate(), or name their schema"), "{error}");
    // By another handle, after this one was connected.
    database.storage().migrate().await.unwrap();
    client.enqueue(message("1")).await.unwrap();
    // Moved: what was found is looked for again.
    let outside = database.client().await;
    let rename = format!("ALTER SCHEMA public RENAME TO moved; ALTER DATABASE \"{}\" SET search_path = moved", database.name);
    for statement in rename.split("; ") {
        outside.batch_execute(statement).await.unwrap();
    }
    database.terminate(&database.outside().await, "true").await;
    let mut failures = 0;
    while client.enqueue(message("2")).await.is_err() {
        failures += 1;
        assert!(failures < 5, "the tables are not found again");
    }
    // Where only a hook of the pool names the schema.
    use tickr_postgres::deadpool_postgres::{Hook, HookError, Manager};
    outside.batch_execute(&format!("ALTER DATABASE \"{}\" RESET search_path", database.name)).await.unwrap();
    let manager = Manager::new(database.url().parse().unwrap(), tickr_postgres::tokio_postgres::NoTls);
    let path = "SET search_path = moved";
    let hook = Hook::async_fn(move |client, _| Box::pin(async move { client.batch_execute(path).await.map_err(HookError::Backend) }));
    let pool = Pool::builder(manager).max_size(2).post_create(hook).build().unwrap();
    let hooked = PostgresStorage::from_pool(pool).unwrap();
    let id = Client::new(hooked.clone()).enqueue(message("3")).await.unwrap().id();
    assert_eq!(status(&hooked, id).await, Status::Created);
    // Nowhere at all.
    let manager = Manager::new(database.url().parse().unwrap(), tickr_postgres::tokio_postgres::NoTls);
    let nowhere = PostgresStorage::from_pool(Pool::builder(manager).max_size(1).build().unwrap()).unwrap();
    let error = nowhere.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("no schema to make the tables in"), "{error}");
}

/// PostgreSQL prepares no transaction that has notified somebody: what enqueues in one is refused while a worker sleeps, at the
/// PREPARE, with nothing lost.
#[tokio::test(flavor = "multi_thread")]
async fn two_phase_commit_is_refused_while_a_worker_sleeps() {
    let mut cluster = tickr_servers::Cluster::builder().start().unwrap();
    let outside = connect(&cluster.url("postgres")).await;
    outside.batch_execute("ALTER SYSTEM SET max_prepared_transactions = 2").await.unwrap();
    drop(outside);
    cluster.stop(tickr_servers::Stop::Fast);
    cluster.start().unwrap();
    let database = Database::on(&cluster).await;
    let storage = database.storage();
    storage.migrate().await.unwrap();
    let ran = Ran::default();
    let running = worker(&storage, &ran).idle_interval(ms(100)).build().unwrap().spawn();
    super::support::asleep(&storage, 1).await;
    let mut connection = database.client().await;
    let client = Client::new(storage.clone());
    let mut tx = connection.transaction().await.unwrap();
    client.enqueue_in(&mut tx, message("1")).await.unwrap();
    let refused = tx.batch_execute("PREPARE TRANSACTION 'a'").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "0A000", "{refused}");
    running.shutdown();
    running.join().await.unwrap();
    assert_eq!(ran.count(), 0);
}

/// A pool of two connections that recycles them in this way.
fn recycling(database: &Database, recycling_method: &RecyclingMethod) -> Pool {
    let config = ManagerConfig { recycling_method: recycling_method.clone() };
    let manager = Manager::from_config(database.url().parse().unwrap(), tickr_postgres::tokio_postgres::NoTls, config);
    Pool::builder(manager).max_size(2).build().unwrap()
}

/// `DISCARD ALL` makes the server forget statements that the driver still knows; what `Clean` sends does not.
fn recycling_methods() -> [RecyclingMethod; 2] {
    [RecyclingMethod::Clean, RecyclingMethod::Custom("DISCARD ALL".to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn recycled_connection_fails_no_enqueue_in_the_callers_transaction() {
    for method in recycling_methods() {
        let (database, own) = Database::migrated().await;
        let pool = recycling(&database, &method);
        let shared = PostgresStorage::from_pool(pool.clone()).unwrap();
        // By a storage on the same pool, and by one that has a pool of its own and meets the application's only here.
        for client in [Client::new(shared), Client::new(own.clone())] {
            for n in 0..30 {
                let mut connection = pool.get().await.unwrap();
                let mut tx = connection.transaction().await.unwrap();
                let key = || Token::new().to_string();
                let enqueued = async {
                    client.enqueue_in(&mut tx, message("single")).await?;
                    client.enqueue_in(&mut tx, message("keyed").idempotency_key(key())).await?;
                    client.enqueue_all_in(&mut tx, [message("1"), message("2")]).await?;
                    client.enqueue_all_in(&mut tx, [message("1"), message("2").idempotency_key(key())]).await
                };
                enqueued.await.unwrap_or_else(|error| panic!("{method:?}, use {n}: {error}"));
                tx.commit().await.unwrap();
            }
        }
        assert_eq!(own.stats(&StatsRequest::default()).await.unwrap().total(Status::Created).n, 2 * 30 * 6);
        sound(&own).await;
    }
}

/// Every connection of the pool has forgotten what an operation prepared on it, so that another one is no better.
#[tokio::test(flavor = "multi_thread")]
async fn recycled_connections_fail_no_operation() {
    let (database, own) = Database::migrated().await;
    let id = Client::new(own.clone()).enqueue(message("1").after(secs(600))).await.unwrap().id();
    macro_rules! succeeds {
        ($($storage:ident => $operation:expr),+ $(,)?) => {$(
            for method in recycling_methods() {
                let pool = recycling(&database, &method);
                let $storage = PostgresStorage::from_pool(pool.clone()).unwrap();
                $storage.now().await.unwrap();
                // Once on each connection, of which the other one is taken, then on connections that were both recycled.
                for taken in [true, true, false] {
                    let other = if taken { Some(pool.get().await.unwrap()) } else { None };
                    let answer = Box::pin($operation).await;
                    assert!(answer.is_ok(), "{method:?}, {}: {answer:?}", stringify!($operation));
                    drop(other);
                }
            }
        )+};
    }
    let many = || (0..10_001).map(|n| message(&n.to_string()));
    succeeds!(
        storage => storage.stats(&StatsRequest::default()),
        storage => storage.history(id),
        storage => storage.promote(10),
        storage => storage.reclaim(&ReclaimRequest::condemning(10)),
        storage => Client::new(storage.clone()).enqueue_all([message("1"), message("2")]),
        storage => Client::new(storage.clone()).enqueue_all(many()),
    );
    sound(&own).await;
}
