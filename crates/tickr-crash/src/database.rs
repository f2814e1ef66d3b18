//! What the proof needs from a database beside tickr's own traits. One small module per database implements it.

use anyhow::Result;
use tickr_core::{Admin, MessageId, NewMessage};

use crate::journal::Journal;

/// A database under test.
pub(crate) trait Database {
    /// tickr's storage on it.
    type Storage: Admin + Clone;
    /// The application's own connection.
    type Application: Application<Storage = Self::Storage>;

    /// Whether answers can get lost on their way, and with them what a worker knows of its own claims.
    const LOSES_ANSWERS: bool;

    /// Opens tickr's storage.
    fn storage(&self) -> Result<Self::Storage>;

    /// Makes the application's table. Called once, after tickr's own were made.
    async fn prepare(&self) -> Result<()>;

    /// Opens a connection of the application.
    async fn application(&self) -> Result<Self::Application>;

    /// Reads tickr's tables as they are.
    async fn journal(&self) -> Result<Journal>;
}

/// The connection of an application that keeps a table of its own beside tickr's.
pub(crate) trait Application {
    /// tickr's storage.
    type Storage;

    /// Runs the transaction of a message: writes its receipt, enqueues it, calls `before_end`, and commits or rolls back.
    async fn transact(
        &mut self,
        storage: &Self::Storage,
        message: &Transaction<'_>,
        before_end: impl FnMut() -> Result<()>,
    ) -> Result<Transacted>;

    /// Every receipt: what was really committed.
    async fn receipts(&mut self) -> Result<Vec<Receipt>>;

    /// A number that is another one after every recorded outcome.
    async fn progress(&mut self) -> Result<i64>;
}

/// What a producer wants to do in one transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transaction<'m> {
    pub(crate) n: u32,
    pub(crate) message: &'m NewMessage,
    pub(crate) rolls_back: bool,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transacted {
    Committed {
        receipt: Receipt,
        /// Whether the receipt was there before: an earlier run of the transaction was committed and its answer lost.
        before: bool,
    },
    RolledBack,
    /// The database was busy, or another transaction in the way; nothing happened, and the transaction has to be run again.
    Again,
    /// A commit was sent and not answered: whether it happened, only the database knows.
    Unknown,
}

/// The row that an application writes in the transaction of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The number in the plan.
    pub(crate) n: u32,
    /// The id that the message was given.
    pub(crate) id: MessageId,
    /// The message that has the key, when the answer was "duplicate".
    pub(crate) duplicate_of: Option<MessageId>,
}
