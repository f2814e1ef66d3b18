//! A failover to an asynchronous standby that lacks the last transactions.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tickr_core::{Client, Message, Raw, State, Storage, Worker};
use tickr_postgres::PostgresStorage;
use tickr_servers::{Cluster, Stop};
use tokio::time::MissedTickBehavior;

use super::support::{Database, ORDER, connect, eventually, ms, secs, sound, value};

/// How many messages the primary handled that the standby never learns of.
const BEHIND: usize = 10_000;
/// After the promotion: five a second, for ten seconds.
const AFTER: usize = 50;
const EVERY: Duration = ms(200);
/// How soon each of them starts.
const SOON: Duration = secs(5);

/// When each message was started.
#[derive(Clone, Default)]
struct Started(Arc<Mutex<Vec<Start>>>);

/// The body of a message, and when its handler was called.
type Start = (Vec<u8>, Instant);

impl Started {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn at(&self, body: &str) -> Option<Instant> {
        self.0.lock().unwrap().iter().find(|(started, _)| started == body.as_bytes()).map(|(_, at)| *at)
    }
}

async fn handle(State(started): State<Started>, body: Raw) {
    started.0.lock().unwrap().push((body.0.to_vec(), Instant::now()));
}

/// Enqueues many, and waits until they are handled.
async fn drain(client: &Client<PostgresStorage>, started: &Started) {
    let before = started.count();
    for _ in 0..BEHIND / 500 {
        client.enqueue_all((0..500).map(|_| Message::new(ORDER, "before"))).await.unwrap();
    }
    eventually("the queue is drained", async || started.count() >= before + BEHIND).await;
}

/// Waits until the standby has everything that the primary has.
async fn caught_up(primary: &str, standby: &str) {
    let (primary, standby) = (connect(primary).await, connect(standby).await);
    eventually("the standby has caught up", async || {
        let written = value(&primary, "SELECT pg_current_wal_lsn()").await.unwrap();
        value(&standby, &format!("SELECT pg_last_wal_replay_lsn() >= '{written}'")).await.as_deref() == Some("t")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_starts_soon_after_a_failover_to_a_standby_that_is_behind() {
    let mut primary = Cluster::builder().start().unwrap();
    let database = Database::on(&primary).await;
    database.storage().migrate().await.unwrap();
    let standby = primary.standby().unwrap();
    let (one, other) = (primary.url(&database.name), standby.url(&database.name));
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", primary.port(), standby.port());
    let both = one.replace(&format!("127.0.0.1:{}", primary.port()), &hosts);

    let started = Started::default();
    let storage = PostgresStorage::connect(&both).await.unwrap();
    let client = Client::new(PostgresStorage::connect(&both).await.unwrap());
    let worker = Worker::builder(storage.clone()).state(started.clone()).on(ORDER, handle).build().unwrap().spawn();
    drain(&client, &started).await;
    caught_up(&one, &other).await;
    let cut = connect(&standby.url("postgres")).await;
    cut.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
    cut.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let outside = connect(&primary.url("postgres")).await;
    eventually("nobody streams", async || value(&outside, "SELECT count(*) FROM pg_stat_replication").await.as_deref() == Some("0")).await;
    drain(&client, &started).await;
    drop((cut, outside));

    primary.stop(Stop::Immediate);
    standby.promote().unwrap();
    let promoted = Instant::now();
    let (mut stored, mut ticks) = (Vec::new(), tokio::time::interval(EVERY));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0..AFTER {
        ticks.tick().await;
        let (body, begun) = (format!("after {n}"), Instant::now());
        // As an application does that tries again until it is stored; the message waits from the first attempt on.
        while let Err(error) = client.enqueue(Message::new(ORDER, body.clone())).await {
            assert!(error.is_transient() && promoted.elapsed() < secs(30), "{error}");
        }
        stored.push((body, begun));
    }
    let count = || stored.iter().filter(|(body, _)| started.at(body).is_some()).count();
    eventually("everything is handled", async || count() == AFTER).await;
    let waited: Vec<Duration> = stored.iter().map(|(body, begun)| started.at(body).unwrap().duration_since(*begun)).collect();
    let (slowest, last) = (waited.iter().max().unwrap(), promoted.elapsed());
    println!("from the enqueue to the start: slowest {slowest:?} of {AFTER}, the first {:?}; all within {last:?}", waited[0]);
    assert!(*slowest < SOON, "{waited:?}");
    worker.shutdown();
    worker.join().await.unwrap();
    sound(&storage).await;
}
