//! A database that was dumped while it was in use, and restored somewhere else.

use std::process::{Command, Stdio};

use tickr_core::protocol::Lane;
use tickr_core::{Admin, ClaimRequest, Client, EventType, LaneRequest, PauseScope, Registration, Storage, Token, WorkerId};
use tickr_postgres::PostgresStorage;
use tickr_servers::Binaries;

use super::support::{Database, ORDER, Ran, asleep, message, ms, secs, sound, worker};

const PAGE: &str = include_str!("../../../../docs/failover.md");
/// What the page tells to run on a copy before any worker does.
const PAUSE: &str = "INSERT INTO tickr_paused (event_type, paused_at, until, actor, reason)
VALUES ('', now(), 'infinity', 'restore', 'copy of production');";

const WAITING: u64 = 20;
const CLAIMED: u32 = 5;

/// Messages, of which a worker holds some at the moment of the dump.
async fn in_use(storage: &PostgresStorage) {
    Client::new(storage.clone()).enqueue_all((0..WAITING).map(|_| message("1"))).await.unwrap();
    let worker = WorkerId::new();
    let registration = Registration::new(worker, "gone", vec![], secs(1));
    storage.register(&registration).await.unwrap();
    let group = LaneRequest::new(EventType::new(ORDER).unwrap(), Lane::ORDINARY.to_vec(), CLAIMED, 10);
    let (token, groups) = (Token::new(), vec![group]);
    let request = ClaimRequest::new(worker, "gone", token, groups, CLAIMED);
    assert_eq!(storage.claim(&request).await.unwrap().messages.len(), CLAIMED as usize);
}

/// `pg_dump` of one database into another.
async fn copy(from: &Database, to: &Database) {
    let (from, to) = (from.url(), to.url());
    let copied = tokio::task::spawn_blocking(move || {
        let programs = Binaries::find().unwrap();
        let mut dump = Command::new(programs.program("pg_dump")).arg(from).stdout(Stdio::piped()).spawn().unwrap();
        let script = dump.stdout.take().unwrap();
        let restored = Command::new(programs.program("psql"))
            .args(["--quiet", "--single-transaction", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(to)
            .stdin(script)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        dump.wait().unwrap().success() && restored.success()
    });
    assert!(copied.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_a_live_queue_loses_nothing() {
    let (database, storage) = Database::migrated().await;
    in_use(&storage).await;
    let restored = Database::empty().await;
    copy(&database, &restored).await;
    let (storage, ran) = (restored.storage(), Ran::default());
    let worker = worker(&storage, &ran).lease(secs(3)).reclaim_interval(ms(50)).build().unwrap().spawn();
    ran.reached(WAITING).await;
    Client::new(storage.clone()).enqueue_all((0..10).map(|_| message("1"))).await.unwrap();
    ran.reached(WAITING + 10).await;
    worker.shutdown();
    worker.join().await.unwrap();
    sound(&storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_paused_handles_nothing_until_it_is_resumed() {
    assert!(PAGE.contains(PAUSE), "docs/failover.md does not have this statement:\n{PAUSE}");
    let (database, storage) = Database::migrated().await;
    in_use(&storage).await;
    let restored = Database::empty().await;
    copy(&database, &restored).await;
    restored.client().await.batch_execute(PAUSE).await.unwrap();
    let (storage, ran) = (restored.storage(), Ran::default());
    let worker = worker(&storage, &ran).lease(secs(3)).reclaim_interval(ms(50)).build().unwrap().spawn();
    asleep(&storage, 1).await;
    assert_eq!(ran.count(), 0);
    assert!(storage.resume(&PauseScope::Everything).await.unwrap());
    ran.reached(WAITING).await;
    worker.shutdown();
    worker.join().await.unwrap();
    sound(&storage).await;
}
