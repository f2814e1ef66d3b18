//! Help for the tests of applications.
//!
//! [`MemoryStorage`](crate::MemoryStorage) needs no database, [`Worker::run_until_idle`] works off what a test
//! enqueued, [`Worker::perform`] calls one handler without any storage, [`assert_enqueued!`](crate::assert_enqueued) looks
//! at the queue (also inside an open transaction), and [`ClockOffset`](crate::ClockOffset) moves time.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::handler::{Context, ContextParts, Invoke, Verdict};
use crate::id::MessageId;
use crate::limits::Limits;
use crate::message::{InboundMessage, IntoMessage, NewMessage, StoredMessage};
use crate::storage::{Admin, InspectIn, ListQuery};
use crate::time::Timestamp;
use crate::worker::Worker;

impl Worker {
    /// Calls the handler of a message at once and gives its verdict; nothing is stored, retried or recorded.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when the worker has no handler for the type; what the client would say of the message.
    pub async fn perform(&self, message: impl IntoMessage) -> Result<Verdict> {
        let message = NewMessage::check(message.into_message()?, MessageId::new(), &Limits::default())?;
        let engine = self.engine();
        let entry = engine.entries().iter().find(|entry| entry.event_type == *message.event_type());
        let entry =
            entry.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("this worker has no handler for {}", message.event_type())))?;
        let max_attempts = message.max_attempts.or(entry.options.max_attempts).unwrap_or(engine.max_attempts());
        let inbound = InboundMessage::new(message.to_stored(Timestamp::now()), 1, max_attempts, None);
        let parts =
            ContextParts { message: inbound, cancelled: CancellationToken::new(), deadline: None, around: Arc::clone(engine.around()) };
        let context = Context::new(parts);
        match &entry.invoke {
            Invoke::One(call) => Ok(call(context).await),
            Invoke::Many { call, .. } => {
                let first = call(vec![context]).await.into_iter().next();
                first.ok_or_else(|| Error::new(ErrorKind::Internal, "the batch handler gave no verdict"))
            }
        }
    }
}

/// The messages of `event_type` that are stored, newest first, 1000 at most.
///
/// # Errors
/// What the storage says.
pub async fn enqueued(storage: &impl Admin, event_type: &str) -> Result<Vec<StoredMessage>> {
    let query = ListQuery::default().event_type(event_type).limit(ListQuery::LIMIT_MAX);
    Ok(storage.list(&query).await?.items.into_iter().map(|record| record.stored).collect())
}

/// The messages of `event_type` that an open transaction sees.
///
/// # Errors
/// What the storage says.
pub async fn enqueued_in<Tx: ?Sized>(storage: &impl InspectIn<Tx>, tx: &mut Tx, event_type: &str) -> Result<Vec<StoredMessage>> {
    storage.messages_in(tx, event_type).await
}

/// Panics unless messages of a type are stored; gives them back. Awaits, so it is for async tests.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> tickr_core::Result<()> {
/// use tickr_core::{Client, MemoryStorage, Message, assert_enqueued};
///
/// let storage = MemoryStorage::new();
/// Client::new(storage.clone()).enqueue(Message::new("order.created", "7")).await?;
/// let orders = assert_enqueued!(storage, "order.created");
/// assert_eq!(orders[0].payload, "7");
/// assert_enqueued!(storage, "order.created", 1);
/// assert_enqueued!(storage, "order.cancelled", 0);
///
/// let mut tx = storage.begin().await;
/// Client::new(storage.clone()).enqueue_in(&mut tx, Message::new("mail", "")).await?;
/// assert_enqueued!(storage, in &mut tx, "mail", 1);
/// # Ok(()) }
/// ```
#[macro_export]
macro_rules! assert_enqueued {
    ($storage:expr, in $tx:expr, $event_type:expr, $count:expr) => {{
        let found = $crate::testing::enqueued_in(&$storage, $tx, $event_type).await.expect("the queue can be read");
        assert_eq!(found.len(), $count, "messages of type {} in this transaction", $event_type);
        found
    }};
    ($storage:expr, $event_type:expr, $count:expr) => {{
        let found = $crate::testing::enqueued(&$storage, $event_type).await.expect("the queue can be read");
        assert_eq!(found.len(), $count, "messages of type {}", $event_type);
        found
    }};
    ($storage:expr, $event_type:expr) => {{
        let found = $crate::testing::enqueued(&$storage, $event_type).await.expect("the queue can be read");
        assert!(!found.is_empty(), "no message of type {} is stored", $event_type);
        found
    }};
}
