//! Enqueueing, also inside the caller's own transaction.

use std::future::Future;

use crate::error::{Error, ErrorKind, Result};
use crate::id::MessageId;
use crate::message::{NewMessage, StoredMessage};
use crate::storage::Storage;
use crate::time::Timestamp;

/// What became of one message of a batch.
///
/// Exhaustive on purpose: a producer that matches it has no third case to think of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enqueued {
    /// It is stored (by this call, or by an earlier one with the same id).
    Stored {
        /// Its id.
        id: MessageId,
    },
    /// Its event type and idempotency key belong to another message; nothing was stored.
    Duplicate {
        /// The message that has the key.
        existing: MessageId,
    },
}

impl Enqueued {
    /// The id of the message that stands for this one: its own, or that of the duplicate.
    pub const fn id(self) -> MessageId {
        match self {
            Self::Stored { id } | Self::Duplicate { existing: id } => id,
        }
    }

    /// Whether another message has the key.
    pub const fn is_duplicate(self) -> bool {
        matches!(self, Self::Duplicate { .. })
    }

    /// Turns a duplicate into an error, for callers who expect none.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict), naming the message that has the key.
    pub fn into_result(self) -> Result<MessageId> {
        match self {
            Self::Stored { id } => Ok(id),
            Self::Duplicate { existing } => {
                Err(Error::new(ErrorKind::Conflict, format!("message {existing} has the same event type and idempotency key")))
            }
        }
    }
}

/// Enqueues inside the caller's own transaction: the messages exist if and only if that transaction commits.
///
/// Implemented per native transaction type, never for a bare connection, so that a forgotten `BEGIN` or the
/// transaction of another driver does not compile.
///
/// # Contract
/// - The messages exist if and only if the transaction commits. (`tx::commit_keeps`, `tx::rollback_discards`, `tx::savepoint_rollback_discards`)
/// - A duplicate is a value and leaves the transaction usable. (`tx::duplicate_leaves_transaction_usable`)
/// - Where the database itself refuses (serialisation failure, deadlock, busy) the error says
///   [`Retry::Transaction`](crate::Retry::Transaction). (`tx::refusal_says_retry_transaction`)
/// - All else as [`Storage::enqueue`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot enqueue inside a `{Tx}`",
    label = "not a transaction that this storage knows",
    note = "begin a transaction with the storage's own driver and pass `&mut tx`: a bare connection would commit each statement by itself",
    note = "an erased `AnyStorage` cannot do this: keep the concrete storage for producers"
)]
pub trait EnqueueIn<Tx: ?Sized>: Storage {
    /// Stores messages within `tx`, all or none. The results are parallel to `batch`.
    fn enqueue_in(&self, tx: &mut Tx, batch: &[NewMessage]) -> impl Future<Output = Result<Vec<Enqueued>>> + Send;

    /// The database's clock, read on the transaction's own connection. `None`, unless implemented: the client then reads it by
    /// [`Storage::now`] in the background.
    ///
    /// A client calls this before its first enqueue, so that ids are in the database's time from the first message on without a
    /// second connection, which a pool of one does not have.
    fn now_in(&self, tx: &mut Tx) -> impl Future<Output = Result<Option<Timestamp>>> + Send {
        let _ = tx;
        std::future::ready(Ok(None))
    }
}

/// Looks at messages inside an open transaction, for tests.
pub trait InspectIn<Tx: ?Sized>: Storage {
    /// The messages of `event_type` that this transaction sees, oldest id first.
    fn messages_in(&self, tx: &mut Tx, event_type: &str) -> impl Future<Output = Result<Vec<StoredMessage>>> + Send;
}
