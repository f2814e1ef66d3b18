//! Messages whose transaction commits after later messages were claimed.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tickr_core::{Client, Message, Prefetch, Priority, Raw, State, Worker};
use tokio::sync::Notify;

use super::support::{Database, ms, secs, sound};

const TYPES: u64 = 6;
/// So many of each type and lane that no lane runs empty during the test.
const BACKLOG: usize = 6_000;
/// The documented bound, and what a busy machine adds: how soon a message is found that committed less than a minute late.
const BOUND: std::time::Duration = secs(5);
const BUSY: std::time::Duration = ms(2_500);

fn event_type(n: u64) -> String {
    format!("type-{n}")
}

/// When late messages were handled.
#[derive(Clone, Default)]
struct Seen(Arc<Log>);

#[derive(Default)]
struct Log {
    handled: Mutex<Vec<(String, Instant)>>,
    changed: Notify,
}

impl Seen {
    fn note(&self, body: &[u8]) {
        self.0.handled.lock().unwrap().push((String::from_utf8(body.to_vec()).unwrap(), Instant::now()));
        self.0.changed.notify_waiters();
    }

    async fn handled(&self, body: &str) -> Instant {
        let handled = async {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some((_, at)) = self.0.handled.lock().unwrap().iter().find(|(seen, _)| seen == body) {
                    return *at;
                }
                changed.await;
            }
        };
        tokio::time::timeout(secs(60), handled).await.unwrap_or_else(|_| panic!("{body} was not handled within a minute"))
    }
}

async fn handle(State(seen): State<Seen>, body: Raw) {
    if body.0.starts_with(b"late") {
        seen.note(&body.0);
    }
    tokio::time::sleep(ms(5)).await;
}

/// Six types, whose lanes are never empty: a claim reaches only a few of them.
#[tokio::test(flavor = "multi_thread")]
async fn late_commit_is_found_within_the_bound_while_every_lane_is_full() {
    let (database, storage) = Database::migrated().await;
    let client = Client::new(storage.clone());
    // The places of the late messages come before all others.
    let late: Vec<(String, Message)> = (0..TYPES)
        .map(|n| (event_type(n), Priority::Normal))
        .chain([(event_type(0), Priority::Low), (event_type(3), Priority::Low)])
        .enumerate()
        .map(|(n, (event_type, priority))| {
            let body = format!("late {n} {event_type} {priority:?}");
            (body.clone(), Message::new(event_type, body).priority(priority))
        })
        .collect();
    let mut connections = Vec::new();
    for _ in &late {
        connections.push(database.client().await);
    }
    let mut open = Vec::new();
    for (connection, (body, message)) in connections.iter_mut().zip(late) {
        let mut tx = connection.transaction().await.unwrap();
        client.enqueue_in(&mut tx, message).await.unwrap();
        open.push((body, tx));
    }
    for n in 0..TYPES {
        for priority in [Priority::Normal, Priority::Low] {
            client.enqueue_all((0..BACKLOG).map(|_| Message::new(event_type(n), "").priority(priority))).await.unwrap();
        }
    }
    let seen = Seen::default();
    let mut builder = Worker::builder(database.storage()).state(seen.clone()).pool(8).prefetch(Prefetch::Fixed(50));
    for n in 0..TYPES {
        builder = builder.on(&event_type(n), handle);
    }
    let worker = builder.build().unwrap().spawn();
    let mut slowest = ms(0);
    for (body, tx) in open {
        // All lanes have been claimed from meanwhile.
        tokio::time::sleep(secs(3)).await;
        tx.commit().await.unwrap();
        let committed = Instant::now();
        let found = seen.handled(&body).await.duration_since(committed);
        println!("{body}: {found:?}");
        slowest = slowest.max(found);
    }
    assert!(slowest < BOUND + BUSY, "found after {slowest:?}");
    worker.shutdown();
    worker.join().await.unwrap();
    sound(&storage).await;
}
