//! What the conformance suite cannot ask, because only SQLite has it.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside their functions")]

mod application;
mod blocked;
mod file;
mod group;
mod plans;
mod processes;
mod rows;
mod transaction;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tickr_core::protocol::Lane;
use tickr_core::{
    Bits, Claim, ClaimRequest, EventType, LaneRequest, Limits, Message, MessageId, NewMessage, Registration, Settlement, Storage, Token,
    WorkerId,
};
use tickr_sqlite::SqliteStorage;

const ORDER: &str = "order";

/// A file in a folder of its own.
struct Database {
    folder: TempDir,
}

impl Database {
    fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    async fn migrated() -> (Self, SqliteStorage) {
        let database = Self::empty();
        let storage = SqliteStorage::open(database.path()).unwrap();
        storage.migrate().await.unwrap();
        (database, storage)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    /// An application's own connection.
    fn connection(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }
}

fn message(body: &str) -> NewMessage {
    checked(Message::new(ORDER, body.to_owned()))
}

fn checked(message: Message) -> NewMessage {
    NewMessage::check(message, MessageId::new(), &Limits::default()).unwrap()
}

fn order() -> EventType {
    EventType::new(ORDER).unwrap()
}

async fn worker(storage: &SqliteStorage) -> WorkerId {
    let worker = WorkerId::new();
    let registration = Registration::new(worker, "test", vec![order()], Duration::from_secs(600));
    storage.register(&registration).await.unwrap();
    worker
}

fn request(worker: WorkerId, total: u32) -> ClaimRequest {
    let group = LaneRequest::new(order(), Lane::ORDINARY.to_vec(), total, 10);
    ClaimRequest::new(worker, "test", Token::new(), vec![group], total)
}

fn all_ok(claim: &Claim) -> Settlement {
    let mut settlement = Settlement::new(claim.token, claim.members);
    settlement.succeeded = Bits::full(claim.members);
    settlement
}

/// Waits for something that another thread does in its own time.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = now() + Duration::from_secs(10);
    while !condition() {
        assert!(now() < deadline, "{what}");
        pause(Duration::from_millis(5)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the threads under test run in real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the threads under test run in real time")]
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
