//! The server behind a connection changes: it becomes read-only, or another one answers at its address. What a process remembers
//! of the database turns out wrong: a sequence or a clock was set back, rows come from a backup.

use std::time::{Duration, Instant};

use tickr_core::{Client, ClockOffset, ErrorKind, Raw, State, Storage, Worker, WorkerHandle};
use tickr_postgres::PostgresStorage;

use super::support::{Database, ORDER, Ran, asleep, eventually, message, ms, secs, sound, status, value, worker};

/// How soon a worker finds what is ready after its memory of the database turned out wrong.
const SOON: Duration = secs(5);

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

/// A worker that has drained many messages, so that its scans begin far behind the start of the queue.
struct Drained {
    database: Database,
    client: Client<PostgresStorage>,
    ran: Ran,
    worker: WorkerHandle,
    storage: PostgresStorage,
}

impl Drained {
    const MESSAGES: u64 = 20_000;

    async fn new(clock: &ClockOffset) -> Self {
        let (database, other) = Database::migrated().await;
        let (storage, ran) = (database.builder().clock_offset(clock.clone()).build().unwrap(), Ran::default());
        let worker = worker(&storage, &ran).pool(4).build().unwrap().spawn();
        let drained = Self { database, client: client(&other), ran, worker, storage };
        drained.enqueue(Self::MESSAGES).await;
        drained.ran.reached(Self::MESSAGES).await;
        drained
    }

    async fn enqueue(&self, count: u64) {
        for _ in 0..count.div_ceil(1_000) {
            self.client.enqueue_all((0..count.min(1_000)).map(|_| message("1"))).await.unwrap();
        }
    }

    async fn script(&self, script: &str) {
        self.database.client().await.batch_execute(script).await.unwrap();
    }

    /// Enqueues more by another handle, and expects the worker to find all of it.
    async fn finds(&self, count: u64) {
        let (begun, before) = (Instant::now(), self.ran.count());
        self.enqueue(count).await;
        let took = self.ran.reached(before + count).await.duration_since(begun);
        assert!(took < SOON, "{count} messages took {took:?}");
    }

    async fn end(self) {
        self.worker.shutdown();
        self.worker.join().await.unwrap();
        sound(&self.storage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_found_after_the_counter_of_places_went_back() {
    let drained = Drained::new(&ClockOffset::default()).await;
    asleep(&drained.storage, 1).await;
    drained.script("ALTER TABLE tickr_ready ALTER seq RESTART WITH 5000").await;
    for _ in 0..3 {
        drained.finds(100).await;
    }
    // Still far below the old mark.
    drained.finds(1_000).await;
    drained.end().await;
}

/// A worker whose lane is never empty while a test runs.
struct NeverEmpty {
    database: Database,
    storage: PostgresStorage,
    client: Client<PostgresStorage>,
    late: Ran,
    worker: WorkerHandle,
}

impl NeverEmpty {
    /// More than the worker handles within a test.
    const WAITING: u64 = 20_000;

    fn worker(storage: &PostgresStorage, late: &Ran) -> WorkerHandle {
        async fn handle(State(late): State<Ran>, body: Raw) {
            match &*body.0 {
                b"late" => late.once(),
                _ => tokio::time::sleep(ms(10)).await,
            }
        }
        Worker::builder(storage.clone()).state(late.clone()).on(ORDER, handle).pool(4).lease(secs(3)).build().unwrap().spawn()
    }

    async fn new(database: Database, url: &str) -> Self {
        let (clock, late, client) = (ClockOffset::default(), Ran::default(), client(&database.storage()));
        let storage = PostgresStorage::builder().url(url).unwrap().clock_offset(clock.clone()).build().unwrap();
        for _ in 0..Self::WAITING / 1_000 {
            client.enqueue_all((0..1_000).map(|_| message("waiting"))).await.unwrap();
        }
        let first = Self::worker(&storage, &late);
        let mut never_empty = Self { database, storage, client, late, worker: first };
        never_empty.takes(100).await;
        never_empty.worker.shutdown();
        never_empty.worker.join().await.unwrap();
        // The same handle goes on: its scans that begin a minute back begin behind what was taken, and after the first one all others do.
        clock.advance(secs(120));
        never_empty.worker = Self::worker(&never_empty.storage, &never_empty.late);
        never_empty.takes(1_000).await;
        never_empty
    }

    async fn waiting(&self) -> u64 {
        value(&self.database.client().await, "SELECT count(*) FROM tickr_ready").await.unwrap().parse().unwrap()
    }

    /// Waits until the worker has taken more.
    async fn takes(&self, more: u64) {
        let before = self.waiting().await;
        eventually("messages are taken", async || self.waiting().await + more <= before).await;
    }

    /// How soon a message runs that is enqueued now.
    async fn late_message_runs_after(&self) -> Duration {
        let (begun, before) = (Instant::now(), self.late.count());
        self.client.enqueue(message("late")).await.unwrap();
        let ran = self.late.reached(before + 1).await;
        assert!(self.waiting().await > 0, "the lane is empty");
        ran.duration_since(begun)
    }

    async fn end(self) {
        self.worker.shutdown();
        self.worker.join().await.unwrap();
        sound(&self.storage).await;
    }
}

/// A heartbeat finds out, and not only once: what is taken of the old messages leads the scans behind the new ones again.
#[tokio::test(flavor = "multi_thread")]
async fn messages_are_found_after_the_sequence_was_set_back_under_a_lane_that_is_never_empty() {
    let (database, _) = Database::migrated().await;
    let url = database.url();
    let never_empty = NeverEmpty::new(database, &url).await;
    never_empty.database.client().await.batch_execute("ALTER TABLE tickr_ready ALTER seq RESTART").await.unwrap();
    for time in ["first", "second"] {
        let took = never_empty.late_message_runs_after().await;
        assert!(took < SOON, "the {time} time: {took:?}");
        never_empty.takes(500).await;
    }
    never_empty.end().await;
}

/// Without the right to read the sequence the worker works all the same; what has a lower place is found within a minute.
#[tokio::test(flavor = "multi_thread")]
async fn worker_that_may_not_read_the_sequence_extends_its_lease() {
    let (database, storage) = Database::migrated().await;
    let role = format!("app {}", database.name);
    let grants = format!(
        "CREATE ROLE \"{role}\" LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO \"{role}\";
         GRANT UPDATE ON ALL SEQUENCES IN SCHEMA public TO \"{role}\""
    );
    database.client().await.batch_execute(&grants).await.unwrap();
    let (ran, limited) = (Ran::default(), PostgresStorage::connect(&database.url_of(&role)).await.unwrap());
    let worker = worker(&limited, &ran).lease(secs(1)).build().unwrap().spawn();
    let expiry = "SELECT extract(epoch FROM max(expires_at)) FROM tickr_workers";
    let observer = database.client().await;
    eventually("the worker registers", async || value(&observer, expiry).await.is_some()).await;
    let first = value(&observer, expiry).await;
    eventually("a heartbeat succeeds", async || value(&observer, expiry).await > first).await;
    client(&storage).enqueue(message("1")).await.unwrap();
    ran.reached(1).await;
    worker.shutdown();
    worker.join().await.unwrap();
    sound(&storage).await;
}

/// As test suites do between tests, while a worker goes on.
#[tokio::test(flavor = "multi_thread")]
async fn messages_are_found_after_the_tables_were_emptied() {
    let drained = Drained::new(&ClockOffset::default()).await;
    asleep(&drained.storage, 1).await;
    drained
        .script(
            "TRUNCATE tickr_ready, tickr_scheduled, tickr_messages, tickr_claims, tickr_open_claims, tickr_settlements,
             tickr_transitions, tickr_dead, tickr_dedupe RESTART IDENTITY",
        )
        .await;
    drained.finds(100).await;
    drained.end().await;
}

/// A worker that was never idle meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_worker_finds_messages_after_the_counter_went_back() {
    let drained = Drained::new(&ClockOffset::default()).await;
    drained.enqueue(2_000).await;
    drained.script("ALTER TABLE tickr_ready ALTER seq RESTART WITH 1").await;
    drained.finds(2_000).await;
    drained.end().await;
}

/// Retried and scheduled messages have an age that proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_moved_into_the_queue_are_found_after_the_counter_went_back() {
    let drained = Drained::new(&ClockOffset::default()).await;
    drained.client.enqueue_all((0..100).map(|_| message("1").after(secs(3)))).await.unwrap();
    drained.script("ALTER TABLE tickr_ready ALTER seq RESTART WITH 1").await;
    let begun = Instant::now();
    let found = drained.ran.reached(Drained::MESSAGES + 100).await.duration_since(begun);
    assert!(found < secs(3) + SOON, "{found:?}");
    drained.end().await;
}

/// What a restore brings back has process_at long past.
#[tokio::test(flavor = "multi_thread")]
async fn scheduled_messages_are_found_that_were_due_before_the_last_promotion() {
    let drained = Drained::new(&ClockOffset::default()).await;
    drained.client.enqueue_all((0..10).map(|_| message("1").after(secs(3_600)))).await.unwrap();
    asleep(&drained.storage, 1).await;
    let begun = Instant::now();
    drained.script("UPDATE tickr_scheduled SET process_at = process_at - interval '2 hours'").await;
    let found = drained.ran.reached(Drained::MESSAGES + 10).await.duration_since(begun);
    assert!(found < SOON, "{found:?}");
    drained.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_messages_are_found_after_the_clock_was_set_back_or_forward() {
    let clock = ClockOffset::default();
    clock.advance(secs(7_200));
    let drained = Drained::new(&clock).await;
    for (n, (step, back)) in (1..).zip([(secs(3_600), true), (secs(600), true), (secs(1_800), false)]) {
        asleep(&drained.storage, 1).await;
        if back {
            clock.set_back(step);
        } else {
            clock.advance(step);
        }
        let at = drained.storage.now().await.unwrap().after(ms(1_500));
        drained.client.enqueue(message("1").at(at)).await.unwrap();
        let begun = Instant::now();
        let found = drained.ran.reached(Drained::MESSAGES + n).await.duration_since(begun);
        assert!(found < ms(1_500) + SOON, "step {n}: {found:?}");
    }
    drained.end().await;
}
