//! What the suite needs from the storage under test.

use std::future::{Future, ready};
use std::time::Duration;

use tickr_core::{AnyAdmin, BoxError, Enqueued, Error, ErrorKind, MessageId, NewMessage, Result, StoredMessage};

use crate::rendezvous::Rendezvous;

/// One fresh database under test, and the few things that the suite must do to it from outside.
///
/// A value lives for one case. The first six methods are needed by every storage; the others have a default that
/// says [`Unsupported`](ErrorKind::Unsupported), for groups that the suite is told to leave out
/// (`suite!(MyHarness, without: [tx = "..."])`).
pub trait Harness: Sized + Send + Sync + 'static {
    /// Makes a fresh, empty, migrated database (a schema, a file, a map) and opens it.
    ///
    /// What it makes is removed when the value is dropped, unless [`keep`](Self::keep) was called. The error is shown to
    /// the user as it is: when a server cannot be reached it says how to start one.
    fn create() -> impl Future<Output = Result<Self, BoxError>> + Send;

    /// The storage, opened. Every call answers a handle to the same connections and the same
    /// [`WakeHub`](tickr_core::WakeHub).
    fn storage(&self) -> AnyAdmin;

    /// An independent second handle to the same database, as another process would have.
    fn connect(&self) -> impl Future<Output = Result<AnyAdmin, BoxError>> + Send;

    /// Moves the database's clock forward, for all handles (see [`ClockOffset`](tickr_core::ClockOffset)).
    fn advance(&self, by: Duration);

    /// Sets the database's clock back, for all handles (see [`ClockOffset`](tickr_core::ClockOffset)).
    fn set_back(&self, by: Duration);

    /// The version of the database, for the report: `3.51.0`.
    fn version(&self) -> impl Future<Output = String> + Send;

    /// Called when the case failed: keeps what [`create`](Self::create) made, and says where it is.
    fn keep(&self) -> Option<String> {
        None
    }

    /// As [`create`](Self::create), but without the schema (group `migrate`).
    fn create_unmigrated() -> impl Future<Output = Result<Self, BoxError>> + Send {
        ready(Err("this harness makes no database without schema: leave the group `migrate` out".into()))
    }

    /// Runs a script in one native transaction of an application's own connection (group `tx`), and answers for each
    /// [`Enqueue`](TxStep::Enqueue) and [`Inspect`](TxStep::Inspect).
    ///
    /// Messages are enqueued by [`EnqueueIn`](tickr_core::EnqueueIn) of the handle that [`storage`](Self::storage)
    /// answers. The first error rolls the transaction back and is the answer. A script without [`Commit`](TxStep::Commit)
    /// is rolled back. The transaction waits at most two seconds for another one (a busy or lock time-out).
    fn run_tx(&self, steps: Vec<TxStep>) -> impl Future<Output = Result<Vec<TxReport>>> + Send {
        let _ = steps;
        ready(Err(Error::new(ErrorKind::Unsupported, "this harness runs no transactions: leave the group `tx` out")))
    }

    /// What [`Business`](TxStep::Business) steps left in the application's table, in any order (group `tx`).
    fn business_rows(&self) -> impl Future<Output = Result<Vec<String>>> + Send {
        ready(Err(Error::new(ErrorKind::Unsupported, "this harness has no application table: leave the group `tx` out")))
    }

    /// Damages the database behind the storage's back (group `audit`).
    fn sabotage(&self, damage: Sabotage) -> impl Future<Output = Result<()>> + Send {
        let _ = damage;
        ready(Err(Error::new(ErrorKind::Unsupported, "this harness does no damage: leave the group `audit` out")))
    }
}

/// One step of a transaction of the application.
#[derive(Clone, Debug)]
pub enum TxStep {
    /// Enqueues a batch.
    Enqueue(Vec<NewMessage>),
    /// Lists the messages of an event type that the transaction sees ([`InspectIn`](tickr_core::InspectIn)).
    Inspect(String),
    /// Writes a row into a table of the application.
    Business(String),
    /// Begins a savepoint. There is at most one at a time.
    Savepoint,
    /// Undoes what happened since the savepoint, and ends it.
    RollbackToSavepoint,
    /// Keeps what happened since the savepoint, and ends it.
    ReleaseSavepoint,
    /// Says that the script is here and waits to be sent on: [`Rendezvous::pause`] or [`Rendezvous::pause_blocking`].
    Pause(Rendezvous),
    /// Commits; the last step.
    Commit,
    /// Rolls back; the last step.
    Rollback,
}

/// What a step of a transaction answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxReport {
    /// The answer of [`TxStep::Enqueue`].
    Enqueued(Vec<Enqueued>),
    /// The answer of [`TxStep::Inspect`].
    Seen(Vec<StoredMessage>),
}

impl TxReport {
    /// The answers of an enqueue; empty for anything else.
    pub fn enqueued(&self) -> &[Enqueued] {
        match self {
            Self::Enqueued(answers) => answers,
            Self::Seen(_) => &[],
        }
    }
}

/// Damage that no operation of a storage can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sabotage {
    /// Deletes the row of a message from ready (not its body).
    RemoveReady(MessageId),
    /// Deletes the body of a message (not its rows).
    RemoveBody(MessageId),
    /// Puts a value into the row of a body that the storage cannot read, as a hand repair or another version may: headers that are
    /// no object of strings, for example.
    MakeUnreadable(MessageId),
}
