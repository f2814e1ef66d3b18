//! Alerts for people.

use std::fmt::Debug;
use std::sync::Arc;

use crate::error::BoxError;
use crate::event_type::EventType;
use crate::id::MessageId;
use crate::storage::BoxFuture;

/// What kind of trouble an [`ErrorEvent`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorEventKind {
    /// A handler failed; its message is retried.
    Handler,
    /// A message became DEAD.
    DeadLetter,
    /// Messages wait that no live worker handles.
    NoHandler,
    /// A claim failed.
    Claim,
    /// Another operation of the storage failed.
    Storage,
    /// A lease was lost.
    Lease,
    /// Handlers, or other code of the application, block every thread of its runtime, and the worker stands still.
    Blocked,
    /// The janitor (purge, promote) failed.
    Janitor,
    /// The reclaimer failed.
    Reclaimer,
}

impl ErrorEventKind {
    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::DeadLetter => "dead_letter",
            Self::NoHandler => "no_handler",
            Self::Claim => "claim",
            Self::Blocked => "blocked",
            Self::Storage => "storage",
            Self::Lease => "lease",
            Self::Janitor => "janitor",
            Self::Reclaimer => "reclaimer",
        }
    }
}

/// Something that a person may want to know of.
///
/// Bursts are coalesced: the first of a (kind, event type) comes at once, then one per 10 s with the count of all.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ErrorEvent {
    /// What kind of trouble.
    pub kind: ErrorEventKind,
    /// The event type; absent for errors of the engine itself.
    pub event_type: Option<EventType>,
    /// The message (the first of a burst); absent for errors of the engine itself.
    pub message_id: Option<MessageId>,
    /// The attempt that failed; 0 for errors of the engine itself.
    pub attempt: u16,
    /// The error.
    pub error: Arc<BoxError>,
    /// How many such events this one stands for.
    pub count: u64,
}

impl ErrorEvent {
    /// An event of the engine itself.
    pub fn new(kind: ErrorEventKind, error: impl Into<BoxError>) -> Self {
        Self { kind, event_type: None, message_id: None, attempt: 0, error: Arc::new(error.into()), count: 1 }
    }
}

/// Notifies people of errors.
///
/// The worker calls it on a thread of its own, within the application's runtime, one event after the other, for up to 30 s each;
/// panics are caught and logged. An alerter that blocks its thread holds up nothing but further events. At the end of a run the worker
/// waits up to 10 s for what is pending. [`Blocked`](ErrorEventKind::Blocked) is delivered on a thread and a runtime made for it,
/// because the application's stands still: do not use a connection there that belongs to the application's runtime.
///
/// ```
/// use std::sync::Arc;
/// use tickr_core::{Alerter, BoxFuture, ErrorEvent, ErrorEventKind, MemoryStorage, Worker};
///
/// #[derive(Debug)]
/// struct Pager;
///
/// impl Alerter for Pager {
///     fn on_error(&self, event: ErrorEvent) -> BoxFuture<'_, ()> {
///         Box::pin(async move {
///             if event.kind == ErrorEventKind::DeadLetter {
///                 eprintln!("{} dead letters, such as {:?}: {}", event.count, event.message_id, event.error);
///             }
///         })
///     }
/// }
///
/// # fn main() -> tickr_core::Result<()> {
/// let worker = Worker::builder(MemoryStorage::new()).alerter(Arc::new(Pager)).on("order.placed", async || ()).build()?;
/// # Ok(()) }
/// ```
pub trait Alerter: Debug + Send + Sync + 'static {
    /// Delivers one event.
    fn on_error(&self, event: ErrorEvent) -> BoxFuture<'_, ()>;
}

impl Alerter for () {
    fn on_error(&self, _event: ErrorEvent) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
