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

    /// Opens tickr's storage.
    fn storage(&self) -> Result<Self::Storage>;

    /// Opens a connection of the application, and makes its table if there is none.
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

    /// A number that grows with every recorded outcome.
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
    Committed(Receipt),
    RolledBack,
    /// The database was busy; nothing happened, and the transaction has to be run again.
    Again,
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
