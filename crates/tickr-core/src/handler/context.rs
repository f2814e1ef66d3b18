//! What a handler is called with, beside the body.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::extract::StateMap;
use crate::client::Client;
use crate::door::Clock;
use crate::door::clock::Tick;
use crate::event_type::EventType;
use crate::headers::Headers;
use crate::id::MessageId;
use crate::message::{InboundMessage, Priority};
use crate::storage::AnyStorage;
use crate::time::Timestamp;

/// The message, and everything around this attempt. Cheap to clone.
///
/// ```
/// use tickr_core::{Context, Failure, Message, Registry};
///
/// async fn ship(context: Context) -> Result<(), Failure> {
///     if context.is_last_attempt() {
///         eprintln!("order of {}: {:?}", context.tenant().unwrap_or("?"), context.last_error());
///     }
///     // What follows belongs to the same process, and is enqueued once even if this handler runs twice.
///     let follow_up = Message::new("parcel.shipped", "").idempotency_key(context.id().to_string());
///     context.client().enqueue(follow_up).await?;
///     Ok(())
/// }
///
/// let registry = Registry::new().on("order.paid", ship);
/// # assert_eq!(registry.event_types().count(), 1);
/// ```
#[derive(Clone)]
pub struct Context(Arc<ContextParts>);

pub(crate) struct ContextParts {
    pub(crate) message: InboundMessage,
    pub(crate) cancelled: CancellationToken,
    pub(crate) deadline: Option<Tick>,
    pub(crate) around: Arc<Surroundings>,
}

/// What all attempts of one worker share.
pub(crate) struct Surroundings {
    pub(crate) states: StateMap,
    pub(crate) client: Client<AnyStorage>,
    pub(crate) worker: String,
    pub(crate) clock: Clock,
}

impl Context {
    pub(crate) fn new(parts: ContextParts) -> Self {
        Self(Arc::new(parts))
    }

    /// The message as a whole, with this attempt.
    pub fn message(&self) -> &InboundMessage {
        &self.0.message
    }

    /// The id of the message: the same for each of its attempts, so that effects can be made idempotent by it.
    pub fn id(&self) -> MessageId {
        self.0.message.id
    }

    /// The event type.
    pub fn event_type(&self) -> &EventType {
        &self.0.message.event_type
    }

    /// The body, undecoded.
    pub fn payload(&self) -> &Bytes {
        &self.0.message.payload
    }

    /// What travels beside the body.
    pub fn headers(&self) -> &Headers {
        &self.0.message.headers
    }

    /// The media type of the body.
    pub fn content_type(&self) -> Option<&str> {
        self.0.message.content_type.as_deref()
    }

    /// The idempotency key that the message was enqueued with.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.0.message.idempotency_key.as_deref()
    }

    /// The ordering key.
    pub fn ordering_key(&self) -> Option<&str> {
        self.0.message.ordering_key.as_deref()
    }

    /// The tenant that the message belongs to.
    pub fn tenant(&self) -> Option<&str> {
        self.0.message.tenant.as_deref()
    }

    /// The organisation within the tenant.
    pub fn organisation(&self) -> Option<&str> {
        self.0.message.organisation.as_deref()
    }

    /// The correlation id, to be set on what the handler enqueues.
    pub fn correlation_id(&self) -> Option<&str> {
        self.0.message.correlation_id.as_deref()
    }

    /// The urgency among messages of the same type.
    pub fn priority(&self) -> Priority {
        self.0.message.priority
    }

    /// When the message was enqueued, by the database's clock.
    pub fn created_at(&self) -> Timestamp {
        self.0.message.created_at
    }

    /// When the message was due for the first time, if that was later than its creation.
    pub fn scheduled_at(&self) -> Option<Timestamp> {
        self.0.message.scheduled_at
    }

    /// This attempt, from 1.
    pub fn attempt(&self) -> u16 {
        self.0.message.attempt
    }

    /// How many attempts the message has: by itself, else by its handler, else by the worker.
    pub fn max_attempts(&self) -> u16 {
        self.0.message.max_attempts
    }

    /// Whether the message is DEAD if this attempt fails.
    pub fn is_last_attempt(&self) -> bool {
        self.0.message.attempt >= self.0.message.max_attempts
    }

    /// The newest recorded error or reason, if this is not the first attempt.
    pub fn last_error(&self) -> Option<&str> {
        self.0.message.last_error.as_deref()
    }

    /// Fires when the handler should stop: its time is over, its lease is gone, its message was killed, or the worker
    /// shuts down and the grace has passed.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.0.cancelled
    }

    /// How much of the attempt's time is left; `None` when it has no limit.
    pub fn remaining(&self) -> Option<Duration> {
        self.0.deadline.map(|deadline| deadline.since(self.0.around.clock.now()))
    }

    /// A client on the worker's storage, to enqueue what follows (sagas). It commits on its own: a handler that is
    /// called twice enqueues twice, unless the message has an idempotency key.
    pub fn client(&self) -> &Client<AnyStorage> {
        &self.0.around.client
    }

    /// The name of the worker.
    pub fn worker(&self) -> &str {
        &self.0.around.worker
    }

    pub(crate) fn states(&self) -> &StateMap {
        &self.0.around.states
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("message", &self.0.message).field("worker", &self.0.around.worker).finish_non_exhaustive()
    }
}
