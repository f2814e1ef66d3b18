//! Messages: what a caller enqueues, what is stored, what a handler sees.

use std::fmt;
use std::num::NonZeroU16;
use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;

use crate::error::Result;
use crate::event_type::EventType;
use crate::headers::Headers;
use crate::id::MessageId;
use crate::limits::Limits;
use crate::time::Timestamp;

/// How urgent a message is among those of its type.
///
/// A worker's claim takes all that it can of high priority, then of normal, then of low: while one of them fills the claim, those below
/// wait. So that none waits for ever, one claim in ten begins with low or normal priority, alternately. While there is enough of all
/// three, high priority gets 90 % of what is claimed, normal 5 % and low 5 %; with two of them, the higher one gets 90 to 95 %.
/// The shares are of messages, not of time. Messages that were given back, as after a crash, come before all priorities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before all others.
    High,
    /// The default.
    #[default]
    Normal,
    /// After all others.
    Low,
}

impl Priority {
    /// The stored number: 1 high, 2 normal, 3 low.
    pub const fn as_i16(self) -> i16 {
        match self {
            Self::High => 1,
            Self::Normal => 2,
            Self::Low => 3,
        }
    }

    /// Reads the stored number; `None` for a number that no priority has.
    pub const fn from_i16(number: i16) -> Option<Self> {
        match number {
            1 => Some(Self::High),
            2 => Some(Self::Normal),
            3 => Some(Self::Low),
            _ => None,
        }
    }
}

/// When a message may be handled for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Due {
    /// At once.
    #[default]
    Now,
    /// At a moment of the database's clock; a past one means now.
    At(Timestamp),
    /// This much later than the enqueue, by the database's clock.
    After(Duration),
}

impl Due {
    /// The moment, if it is later than `now`.
    pub fn later_than(self, now: Timestamp) -> Option<Timestamp> {
        let due = match self {
            Self::Now => return None,
            Self::At(at) => at,
            Self::After(delay) => now.after(delay),
        };
        (due > now).then_some(due)
    }
}

/// A message as a caller builds it; the client checks it against [`Limits`] before anything is written.
///
/// ```
/// use std::time::Duration;
/// use tickr_core::{Message, Priority};
///
/// let message = Message::new("order.created", r#"{"order":7}"#)
///     .content_type("application/json")
///     .idempotency_key("order-7")
///     .priority(Priority::High)
///     .after(Duration::from_secs(60));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Message {
    /// The id; absent, the client makes one in database time. Set it to repeat an enqueue whose answer was lost.
    pub id: Option<MessageId>,
    /// The event type: 1 to 255 bytes, printable.
    pub event_type: String,
    /// The body, opaque to tickr.
    pub payload: Bytes,
    /// What travels beside the body.
    pub headers: Headers,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// A second message with the same event type and key is a duplicate.
    pub idempotency_key: Option<String>,
    /// Messages with the same key belong together in order (stored; a later version orders by it).
    pub ordering_key: Option<String>,
    /// The tenant that the message belongs to.
    pub tenant: Option<String>,
    /// The organisation within the tenant.
    pub organisation: Option<String>,
    /// Ties messages of one business process together.
    pub correlation_id: Option<String>,
    /// The urgency among messages of the same type.
    pub priority: Priority,
    /// Overrides the handler's maximum number of attempts; at least 1.
    pub max_attempts: Option<u16>,
    /// When the message may be handled for the first time.
    pub due: Due,
}

impl Message {
    /// Makes a message with normal priority, due now.
    pub fn new(event_type: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            id: None,
            event_type: event_type.into(),
            payload: payload.into(),
            headers: Headers::new(),
            content_type: None,
            idempotency_key: None,
            ordering_key: None,
            tenant: None,
            organisation: None,
            correlation_id: None,
            priority: Priority::default(),
            max_attempts: None,
            due: Due::default(),
        }
    }

    /// Sets the id, so that the same message can be sent again without effect.
    #[must_use]
    pub fn id(mut self, id: MessageId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets one header.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<str> + Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Replaces all headers.
    #[must_use]
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the priority.
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Overrides the handler's maximum number of attempts; at least 1.
    #[must_use]
    pub const fn max_attempts(mut self, attempts: u16) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Delays the first attempt until `at`.
    #[must_use]
    pub fn at(mut self, at: impl Into<Timestamp>) -> Self {
        self.due = Due::At(at.into());
        self
    }

    /// Delays the first attempt by `delay`, counted by the database from the enqueue.
    #[must_use]
    pub const fn after(mut self, delay: Duration) -> Self {
        self.due = Due::After(delay);
        self
    }
}

macro_rules! text_setters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        impl Message {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(mut self, value: impl Into<String>) -> Self {
                self.$name = Some(value.into());
                self
            })*
        }
    };
}

text_setters! {
    /// Sets the media type of the body (at most 255 bytes).
    content_type,
    /// Sets the idempotency key (at most 255 bytes): with the event type it is unique.
    idempotency_key,
    /// Sets the ordering key (at most 255 bytes).
    ordering_key,
    /// Sets the tenant (at most 255 bytes).
    tenant,
    /// Sets the organisation (at most 255 bytes).
    organisation,
    /// Sets the correlation id (at most 255 bytes).
    correlation_id,
}

impl fmt::Debug for Message {
    /// Never shows the payload or the values of headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("event_type", &self.event_type)
            .field("payload_bytes", &self.payload.len())
            .field("headers", &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("idempotency_key", &self.idempotency_key)
            .field("priority", &self.priority)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

/// Anything that can become a [`Message`]: a message, or a codec's wrapper such as `Json(body)`.
pub trait IntoMessage {
    /// Encodes into a message.
    ///
    /// # Errors
    /// [`Codec`](crate::ErrorKind::Codec) when the body cannot be encoded.
    fn into_message(self) -> Result<Message>;
}

impl IntoMessage for Message {
    fn into_message(self) -> Result<Message> {
        Ok(self)
    }
}

/// A message that has an id and was checked against [`Limits`]: all that a storage accepts.
///
/// Only [`NewMessage::check`] makes one, so an adapter need not check anything again. It dereferences to the
/// [`Message`] it was made from.
#[derive(Clone, Debug)]
pub struct NewMessage {
    id: MessageId,
    event_type: EventType,
    message: Message,
}

impl NewMessage {
    /// Checks `message`, and gives it `id` unless it has one.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field and its limit.
    pub fn check(message: Message, id: MessageId, limits: &Limits) -> Result<Self> {
        let event_type = limits.check(&message)?;
        Ok(Self { id: message.id.unwrap_or(id), event_type, message })
    }

    /// The id.
    pub const fn id(&self) -> MessageId {
        self.id
    }

    /// The event type.
    pub const fn event_type(&self) -> &EventType {
        &self.event_type
    }

    /// What will be stored, were it stored at `now`.
    pub fn to_stored(&self, now: Timestamp) -> StoredMessage {
        let message = &self.message;
        StoredMessage {
            id: self.id,
            event_type: self.event_type.clone(),
            payload: message.payload.clone(),
            headers: message.headers.clone(),
            content_type: message.content_type.clone(),
            idempotency_key: message.idempotency_key.clone(),
            ordering_key: message.ordering_key.clone(),
            tenant: message.tenant.clone(),
            organisation: message.organisation.clone(),
            correlation_id: message.correlation_id.clone(),
            priority: message.priority,
            max_attempts: message.max_attempts.and_then(NonZeroU16::new),
            scheduled_at: message.due.later_than(now),
            created_at: now,
        }
    }
}

impl Deref for NewMessage {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// A message as the storage keeps it: written once, never updated.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StoredMessage {
    /// The id.
    pub id: MessageId,
    /// The event type.
    pub event_type: EventType,
    /// The body.
    #[cfg_attr(feature = "serde", serde(with = "crate::wire::payload"))]
    pub payload: Bytes,
    /// What travels beside the body.
    #[cfg_attr(feature = "serde", serde(default))]
    pub headers: Headers,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// The idempotency key.
    pub idempotency_key: Option<String>,
    /// The ordering key.
    pub ordering_key: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// The organisation.
    pub organisation: Option<String>,
    /// The correlation id.
    pub correlation_id: Option<String>,
    /// The urgency.
    #[cfg_attr(feature = "serde", serde(default))]
    pub priority: Priority,
    /// The message's own maximum number of attempts.
    pub max_attempts: Option<NonZeroU16>,
    /// When it was due for the first time, if that was later than its creation.
    pub scheduled_at: Option<Timestamp>,
    /// When it was enqueued, by the database's clock.
    pub created_at: Timestamp,
}

impl StoredMessage {
    /// A stored message with nothing but what every message has; adapters fill in the rest field by field.
    pub fn new(id: MessageId, event_type: EventType, payload: Bytes, created_at: Timestamp) -> Self {
        Self {
            id,
            event_type,
            payload,
            headers: Headers::new(),
            content_type: None,
            idempotency_key: None,
            ordering_key: None,
            tenant: None,
            organisation: None,
            correlation_id: None,
            priority: Priority::Normal,
            max_attempts: None,
            scheduled_at: None,
            created_at,
        }
    }
}

impl fmt::Debug for StoredMessage {
    /// Never shows the payload or the values of headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredMessage")
            .field("id", &self.id)
            .field("event_type", &self.event_type)
            .field("payload_bytes", &self.payload.len())
            .field("headers", &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("priority", &self.priority)
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}

/// What a handler sees: the stored message, and which attempt this is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InboundMessage {
    /// The message as it was stored.
    pub stored: StoredMessage,
    /// This attempt, from 1.
    pub attempt: u16,
    /// The effective maximum: of the message, else of the handler, else of the worker.
    pub max_attempts: u16,
    /// The newest recorded error or reason, if this is not the first attempt.
    pub last_error: Option<String>,
}

impl InboundMessage {
    /// Puts a message and its attempt together.
    pub const fn new(stored: StoredMessage, attempt: u16, max_attempts: u16, last_error: Option<String>) -> Self {
        Self { stored, attempt, max_attempts, last_error }
    }
}

impl Deref for InboundMessage {
    type Target = StoredMessage;

    fn deref(&self) -> &StoredMessage {
        &self.stored
    }
}
