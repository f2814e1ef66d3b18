//! LISTEN and NOTIFY: fast where it matters, silent where nobody sleeps, and never needed.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use tickr_core::{
    Client, ErrorKind, EventType, Heartbeat, Message, MessageId, Registration, State, Status, Storage, Worker, WorkerBuilder, WorkerHandle,
    WorkerId,
};
use tickr_postgres::{PostgresStorage, deadpool_postgres, tokio_postgres};
use tickr_servers::{Cluster, Stop};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{AsyncMessage, NoTls};

use super::support::{Database, ORDER, Ran, asleep, eventually, message, ms, note, secs, sound, until, value, worker};

/// So long that a worker of [`sleeper`] is then in the middle of a pause of more than a second: 1 s of polls every 20 ms, and pauses
/// of 40, 80, ... 640 ms are over.
const SILENCE: Duration = ms(2_600);

/// Shorter than what is left of that pause, and long enough for a hint on a busy machine.
const TOLD: Duration = ms(300);

/// A worker that soon sleeps for long: what it finds quickly it was told of.
fn sleeper(storage: &PostgresStorage, event_type: &str, ran: &Ran) -> WorkerBuilder {
    Worker::builder(storage.clone()).state(ran.clone()).on(event_type, note).poll_interval(ms(20)).idle_interval(secs(60))
}

async fn stop(worker: WorkerHandle) {
    worker.shutdown();
    worker.join().await.unwrap();
}

/// Waits until a worker slept for so long that polling finds nothing fast.
async fn silence(storage: &PostgresStorage, workers: usize) {
    asleep(storage, workers).await;
    tokio::time::sleep(SILENCE).await;
}

/// The connection that listens.
const LISTENER: &str = "query LIKE 'LISTEN%'";

/// The process of the server that serves it.
async fn listener(database: &Database, outside: &tokio_postgres::Client) -> Option<String> {
    let query = format!("SELECT pid FROM pg_stat_activity WHERE datname = '{}' AND {LISTENER}", database.name);
    value(outside, &query).await
}

async fn listens(database: &Database, outside: &tokio_postgres::Client) {
    eventually("the worker listens", async || listener(database, outside).await.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn message_after_silence_starts_at_once_in_another_process() {
    const ROUNDS: usize = 20;
    let (database, storage) = Database::migrated().await;
    let client = Client::new(storage.clone());
    client.enqueue(Message::new("nobody's", "")).await.unwrap(); // connects, and measures the clock
    let mut sleepers = Vec::new();
    for n in 0..ROUNDS {
        let (event_type, ran) = (format!("type-{n}"), Ran::default());
        let other = database.builder().pool_size(1).build().unwrap();
        let worker = sleeper(&other, &event_type, &ran).reclaimer(false).janitor(false).build().unwrap().spawn();
        sleepers.push((event_type, ran, worker));
    }
    silence(&storage, ROUNDS).await;
    let mut latencies = Vec::new();
    for (event_type, ran, _) in &sleepers {
        let begun = Instant::now();
        client.enqueue(Message::new(event_type.clone(), "")).await.unwrap();
        latencies.push(ran.reached(1).await.duration_since(begun));
    }
    latencies.sort_unstable();
    let (median, slowest) = (latencies[ROUNDS / 2], latencies[ROUNDS - 1]);
    println!("from before the enqueue to the start of the handler: median {median:?}, slowest {slowest:?}");
    assert!(median < ms(100), "{latencies:?}");
    for (.., worker) in sleepers {
        stop(worker).await;
    }
}

/// Hears what is notified in a database, from the raw protocol.
struct Ears {
    client: tokio_postgres::Client,
    heard: UnboundedReceiver<String>,
}

impl Ears {
    async fn open(database: &Database) -> Self {
        let (client, mut connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
        let (sender, heard) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(said)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(said) = said {
                    drop(sender.send(said.payload().to_owned()));
                }
            }
        });
        client.batch_execute("LISTEN tickr_ready").await.unwrap();
        Self { client, heard }
    }

    /// What was notified since the last call: all that was committed before comes before a notification of our own.
    async fn heard(&mut self) -> Vec<String> {
        const MARK: &str = "the mark";
        self.client.batch_execute(&format!("NOTIFY tickr_ready, '{MARK}'")).await.unwrap();
        let mut heard = Vec::new();
        loop {
            match self.heard.recv().await.unwrap() {
                said if said == MARK => return heard,
                said => heard.push(said),
            }
        }
    }
}

/// A worker as the storage knows it, without a loop of its own.
async fn registered(storage: &PostgresStorage) -> WorkerId {
    let (worker, event_types) = (WorkerId::new(), vec![EventType::new(ORDER).unwrap()]);
    storage.register(&Registration::new(worker, "w", event_types, secs(600))).await.unwrap();
    worker
}

async fn beat(storage: &PostgresStorage, worker: WorkerId, idle: bool) {
    let mut heartbeat = Heartbeat::new(worker, secs(600));
    heartbeat.idle = idle;
    storage.heartbeat(&heartbeat).await.unwrap();
}

#[tokio::test]
async fn nobody_is_notified_while_no_worker_of_the_type_sleeps() {
    let (database, storage) = Database::migrated().await;
    let client = Client::new(storage.clone());
    let mut ears = Ears::open(&database).await;
    client.enqueue(message("no worker")).await.unwrap();
    assert_eq!(ears.heard().await, [""; 0]);
    let worker = registered(&storage).await;
    client.enqueue(message("a worker that has not slept")).await.unwrap();
    assert_eq!(ears.heard().await, [""; 0]);
    beat(&storage, worker, true).await;
    client.enqueue(message("asleep")).await.unwrap();
    assert_eq!(ears.heard().await, [ORDER]);
    beat(&storage, worker, false).await;
    client.enqueue(message("awake")).await.unwrap();
    assert_eq!(ears.heard().await, [""; 0]);
    beat(&storage, worker, true).await;
    storage.retire(worker, "gone").await.unwrap();
    client.enqueue(message("gone")).await.unwrap();
    assert_eq!(ears.heard().await, [""; 0]);
}

#[tokio::test]
async fn a_promotion_notifies_nobody_while_no_worker_of_the_type_sleeps() {
    let (database, storage) = Database::migrated().await;
    let client = Client::new(storage.clone());
    let mut ears = Ears::open(&database).await;
    let worker = registered(&storage).await;
    for (idle, expected) in [(false, vec![]), (true, vec![ORDER])] {
        beat(&storage, worker, idle).await;
        client.enqueue(message("1").after(ms(1))).await.unwrap();
        while storage.promote(10).await.unwrap().moved == 0 {}
        assert_eq!(ears.heard().await, expected);
    }
}

/// Its connection is gone, or may be: it is closed at once, and the listener is of no more use.
#[tokio::test]
async fn a_listener_that_failed_is_closed() {
    let (database, storage) = Database::migrated().await;
    let mut listener = storage.notifier().unwrap().listen(&[EventType::new(ORDER).unwrap()]).await.unwrap();
    database.terminate(&database.outside().await, LISTENER).await;
    assert_ne!(listener.next().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(listener.next().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_sleeper_is_notified_once_a_transaction_and_type() {
    let (database, storage) = Database::migrated().await;
    let client = Client::new(storage.clone());
    let worker = registered(&storage).await;
    beat(&storage, worker, true).await;
    let mut ears = Ears::open(&database).await;
    client.enqueue_all((0..10).map(|_| message("1"))).await.unwrap();
    assert_eq!(ears.heard().await, [ORDER]);
    let mut connection = database.client().await;
    let mut tx = connection.transaction().await.unwrap();
    for _ in 0..3 {
        client.enqueue_all_in(&mut tx, [message("1"), message("2"), Message::new("mail", "")]).await.unwrap();
    }
    assert_eq!(ears.heard().await, [""; 0], "before the commit");
    tx.commit().await.unwrap();
    assert_eq!(ears.heard().await, [ORDER]);
}

#[tokio::test]
async fn nobody_is_notified_of_what_is_not_ready_for_a_sleeper() {
    let (database, storage) = Database::migrated().await;
    let client = Client::new(storage.clone());
    let worker = registered(&storage).await;
    beat(&storage, worker, true).await;
    let mut ears = Ears::open(&database).await;
    client.enqueue(Message::new("mail", "another type")).await.unwrap();
    client.enqueue(message("delayed").after(secs(600))).await.unwrap();
    let mut connection = database.client().await;
    let mut tx = connection.transaction().await.unwrap();
    client.enqueue_in(&mut tx, message("rolled back")).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(ears.heard().await, [""; 0]);
    client.enqueue(message("ready").idempotency_key("k")).await.unwrap();
    assert_eq!(ears.heard().await, [ORDER]);
    client.enqueue(message("duplicate").idempotency_key("k")).await.unwrap();
    assert_eq!(ears.heard().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_listens_again_when_its_listener_is_killed() {
    let (database, storage) = Database::migrated().await;
    let (client, ran) = (Client::new(storage.clone()), Ran::default());
    let worker = sleeper(&database.storage(), ORDER, &ran).build().unwrap().spawn();
    let outside = database.outside().await;
    for round in 1..=2 {
        listens(&database, &outside).await;
        silence(&storage, 1).await;
        let begun = Instant::now();
        client.enqueue(message("1")).await.unwrap();
        let latency = ran.reached(round).await.duration_since(begun);
        assert!(latency < TOLD, "round {round}: {latency:?}");
        let killed = listener(&database, &outside).await;
        assert_eq!(database.terminate(&outside, LISTENER).await, 1);
        eventually("the listener is gone", async || listener(&database, &outside).await != killed).await;
    }
    stop(worker).await;
    sound(&storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_goes_on_when_connections_were_refused_for_a_while() {
    let (database, storage) = Database::migrated().await;
    let (client, ran) = (Client::new(storage.clone()), Ran::default());
    let worker = sleeper(&database.storage(), ORDER, &ran).idle_interval(secs(1)).build().unwrap().spawn();
    asleep(&storage, 1).await;
    let outside = database.outside().await;
    let allow = async |allow: bool| {
        outside.batch_execute(&format!("ALTER DATABASE \"{}\" ALLOW_CONNECTIONS {allow}", database.name)).await.unwrap();
    };
    allow(false).await;
    database.terminate(&outside, "true").await;
    eventually("the worker notices", async || worker.health().failures >= 3).await;
    let error = client.enqueue(message("refused")).await.unwrap_err();
    assert!(error.to_string().contains("not currently accepting connections"), "{error}");
    assert_eq!((error.kind(), error.retry()), (tickr_core::ErrorKind::Unavailable, tickr_core::Retry::Operation), "{error}");
    allow(true).await;
    client.enqueue(message("1")).await.unwrap();
    ran.reached(1).await;
    listens(&database, &outside).await;
    stop(worker).await;
    sound(&storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_goes_on_after_a_crash_of_the_server() {
    let mut cluster = Cluster::builder().start().unwrap();
    let database = Database::on(&cluster).await;
    let storage = database.storage();
    storage.migrate().await.unwrap();
    let (client, ran) = (Client::new(storage.clone()), Ran::default());
    let worker = worker(&database.storage(), &ran).build().unwrap().spawn();
    let mut ids = Vec::new();
    for round in 1..=2 {
        ids.push(client.enqueue(message("1")).await.unwrap().id());
        ran.reached(round).await;
        asleep(&storage, 1).await;
        cluster.stop(Stop::Immediate);
        eventually("the worker notices", async || worker.health().failures >= 2).await;
        cluster.start().unwrap();
    }
    ids.push(client.enqueue(message("1")).await.unwrap().id());
    ran.reached(3).await;
    for id in ids {
        until(&storage, id, Status::Success).await;
    }
    listens(&database, &database.outside().await).await;
    stop(worker).await;
    sound(&storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_is_enough_for_a_worker() {
    let (database, _) = Database::migrated().await;
    let storage = database.builder().pool_size(1).build().unwrap();
    let (client, ran) = (Client::new(storage.clone()), Ran::default());
    let worker = worker(&storage, &ran).build().unwrap().spawn();
    let ids: Vec<MessageId> =
        client.enqueue_all((0..100).map(|_| message("1"))).await.unwrap().into_iter().map(tickr_core::Enqueued::id).collect();
    ran.reached(100).await;
    for id in ids {
        until(&storage, id, Status::Success).await;
    }
    stop(worker).await;
    sound(&storage).await;
}

/// The application's pool has one connection, and the handler keeps it for three leases.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_extended_while_a_handler_holds_the_only_connection() {
    async fn hold(State(pool): State<deadpool_postgres::Pool>, State(ran): State<Ran>) {
        let connection = pool.get().await.unwrap();
        connection.batch_execute("SELECT pg_sleep(2)").await.unwrap();
        ran.once();
    }
    const LEASE: Duration = ms(700);
    let (database, watcher) = Database::migrated().await;
    let pool = database.pool(1);
    let storage = PostgresStorage::from_pool(pool.clone()).unwrap();
    let ran = Ran::default();
    let worker = Worker::builder(storage).state(pool).state(ran.clone()).on(ORDER, hold).lease(LEASE).build().unwrap().spawn();
    // It takes away whatever is not extended.
    let reclaimer = Ran::default();
    let other = sleeper(&database.storage(), "another type", &reclaimer).lease(LEASE).reclaim_interval(ms(50)).build().unwrap().spawn();
    let id = Client::new(watcher.clone()).enqueue(message("1")).await.unwrap().id();
    ran.reached(1).await;
    until(&watcher, id, Status::Success).await;
    let history = tickr_core::Admin::history(&watcher, id).await.unwrap();
    let events: Vec<&str> = history.iter().map(|step| step.event).collect();
    assert_eq!(events, ["created", "claimed", "ok"]);
    assert_eq!(ran.count(), 1);
    stop(worker).await;
    stop(other).await;
    sound(&watcher).await;
}
