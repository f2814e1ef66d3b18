//! Help for the tests of applications.
//!
//! - [`MemoryStorage`](crate::MemoryStorage) needs no database, and [`ClockOffset`](crate::ClockOffset) moves its time.
//! - [`Worker::run_until_idle`] works off what a test enqueued; [`ClientBuilder::inline`] does so in every call of `enqueue`.
//! - [`Worker::perform`] calls one handler without any storage.
//! - [`assert_enqueued!`](crate::assert_enqueued) checks the queue, also inside an open transaction: at the messages of a type, or at
//!   those whose decoded body matches a pattern. A codec crate implements [`Decode`] for that.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::client::ClientBuilder;
use crate::error::{BoxError, Result};
use crate::event_type::Event;
use crate::handler::{Context, ContextParts, Failure, Invoke, Verdict};
use crate::id::MessageId;
use crate::limits::Limits;
use crate::message::{InboundMessage, IntoMessage, NewMessage, StoredMessage};
use crate::storage::{Admin, InspectIn, ListQuery};
use crate::time::Timestamp;
use crate::worker::Worker;

impl Worker {
    /// Calls the handler of a message at once, with its layers, and gives its verdict; nothing is stored, retried or recorded.
    ///
    /// # Errors
    /// The failure that the handler gives.
    ///
    /// # Panics
    /// When the worker has no handler for the type, or a client would refuse the message.
    ///
    /// # Errors
    /// The handler's failure.
    pub async fn perform(&self, message: impl IntoMessage) -> Verdict {
        let checked = message.into_message().and_then(|message| NewMessage::check(message, MessageId::new(), &Limits::default()));
        let message = checked.unwrap_or_else(|error| panic!("a client would refuse this message: {error}"));
        let engine = self.engine();
        let entry = engine.entries().iter().find(|entry| entry.event_type == *message.event_type());
        let entry = entry.unwrap_or_else(|| panic!("this worker has no handler for {}", message.event_type()));
        let max_attempts = message.max_attempts.or(entry.options.max_attempts).unwrap_or(engine.max_attempts());
        let inbound = InboundMessage::new(message.to_stored(Timestamp::now()), 1, max_attempts, None);
        let parts =
            ContextParts { message: inbound, cancelled: CancellationToken::new(), deadline: None, around: Arc::clone(engine.around()) };
        let context = Context::new(parts);
        match &entry.invoke {
            Invoke::One(call) => call(context).await,
            Invoke::Many { call, .. } => {
                let first = call(vec![context]).await.into_iter().next();
                first.unwrap_or_else(|| Err(Failure::new("the batch handler gave no result for this message")))
            }
        }
    }
}

impl<S> ClientBuilder<S> {
    /// Inline mode, for tests: every enqueue in a transaction of its own ends with [`run_until_idle`](Worker::run_until_idle) of
    /// `worker`, so that the message and what its handler enqueues are handled when the call returns. Messages that failed and wait
    /// for their next attempt, and those due later, stay. An enqueue inside the caller's transaction handles nothing: the message exists
    /// only when that commits.
    ///
    /// The worker has to be one on the client's storage. An error of the run is returned by the enqueue, whose message is stored.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> tickr_core::Result<()> {
    /// use std::sync::Arc;
    /// use tickr_core::{Admin, Client, MemoryStorage, Message, Status, Worker};
    ///
    /// let storage = MemoryStorage::new();
    /// let worker = Worker::builder(storage.clone()).on("mail", async || ()).build()?;
    /// let client = Client::builder(storage.clone()).inline(Arc::new(worker)).build();
    /// let id = client.enqueue(Message::new("mail", "")).await?.id();
    /// assert_eq!(storage.get(id).await?.unwrap().status, Status::Success);
    /// # Ok(()) }
    /// ```
    pub fn inline(self, worker: Arc<Worker>) -> Self {
        self.after_enqueue(Arc::new(move || {
            let worker = Arc::clone(&worker);
            Box::pin(async move { worker.run_until_idle().await.map(drop) })
        }))
    }
}

/// How a codec makes a body of a stored message, for [`assert_enqueued!`](crate::assert_enqueued) with a pattern.
///
/// A codec implements it for [`Bodies`], with a type of its own as `Codec`:
/// `impl<T: DeserializeOwned> Decode<JsonCodec, T> for Bodies`. A pattern says nothing of a codec, so the compiler takes the one codec
/// that can make the body; a body that two codecs can make is searched for with [`matching`], which names one.
#[diagnostic::on_unimplemented(
    message = "no codec can make a `{Body}` of a stored message",
    note = "a body in JSON implements `serde::Deserialize`; a body in protobuf `prost::Message`"
)]
pub trait Decode<Codec, Body> {
    /// Decodes the body.
    ///
    /// # Errors
    /// What the codec says of the content type or the body.
    fn decode(message: &StoredMessage) -> Result<Body, BoxError>;
}

/// Implements [`Decode`] for every codec.
#[derive(Debug)]
pub struct Bodies;

/// Those of `messages` whose body matches.
///
/// # Errors
/// What [`assert_enqueued!`](crate::assert_enqueued) says when it finds too few or too many, as text: how many there are, and their
/// bodies as far as they are text.
pub fn matching<Codec, Body>(
    messages: Vec<StoredMessage>,
    count: Option<usize>,
    pattern: &str,
    matches: impl Fn(&Body) -> bool,
) -> Result<Vec<StoredMessage>, String>
where
    Body: Event,
    Bodies: Decode<Codec, Body>,
{
    let mut seen = Vec::with_capacity(messages.len());
    let mut found = Vec::new();
    for message in messages {
        let body = String::from_utf8_lossy(&message.payload).into_owned();
        match <Bodies as Decode<Codec, Body>>::decode(&message) {
            Ok(decoded) if matches(&decoded) => found.push(message),
            Ok(_) => seen.push(format!("\n  {body}")),
            Err(error) => seen.push(format!("\n  {body} ({error})")),
        }
    }
    if count.map_or(!found.is_empty(), |count| found.len() == count) {
        return Ok(found);
    }
    let wanted = count.map_or_else(|| "at least 1".to_owned(), |count| count.to_string());
    let others = if seen.is_empty() { String::new() } else { format!("; those that do not:{}", seen.concat()) };
    Err(format!("{} messages of type {} match {pattern}, wanted {wanted}{others}", found.len(), Body::TYPE))
}

/// The event type of the body that a predicate checks.
#[doc(hidden)]
pub fn type_of<Body: Event>(_matches: &impl Fn(&Body) -> bool) -> &'static str {
    Body::TYPE
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

/// Panics unless messages are stored; gives them back, newest first. Awaits, so it is for async tests.
///
/// The messages of an event type, with or without their number:
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
///
/// Or those whose decoded body matches a pattern, whose type is an [`Event`](crate::Event) in JSON or protobuf, with a guard if need
/// be:
///
/// ```text
/// assert_enqueued!(storage, OrderPlaced { order: 7, .. });
/// assert_enqueued!(storage, OrderPlaced { customer, .. } if customer == "Ada");
/// assert_enqueued!(storage, OrderPlaced { .. }, 2);
/// assert_enqueued!(storage, in &mut tx, OrderPlaced { order: 7, .. });
/// ```
#[macro_export]
macro_rules! assert_enqueued {
    ($storage:expr, in $tx:expr, $($body:ident)::+ { $($fields:tt)* } $(if $guard:expr)? $(, $count:expr)? $(,)?) => {{
        let matches = |body: &_| ::core::matches!(body, $($body)::+ { $($fields)* } $(if $guard)?);
        let found = $crate::testing::enqueued_in(&$storage, $tx, $crate::testing::type_of(&matches)).await;
        $crate::assert_enqueued!(@matching found, matches, ($($body)::+ { $($fields)* } $(if $guard)?), $($count)?)
    }};
    ($storage:expr, $($body:ident)::+ { $($fields:tt)* } $(if $guard:expr)? $(, $count:expr)? $(,)?) => {{
        let matches = |body: &_| ::core::matches!(body, $($body)::+ { $($fields)* } $(if $guard)?);
        let found = $crate::testing::enqueued(&$storage, $crate::testing::type_of(&matches)).await;
        $crate::assert_enqueued!(@matching found, matches, ($($body)::+ { $($fields)* } $(if $guard)?), $($count)?)
    }};
    (@matching $found:ident, $matches:ident, ($($pattern:tt)*), $($count:expr)?) => {{
        #[allow(unused_mut, unused_assignments, reason = "the count may be absent")]
        let mut count = ::core::option::Option::None;
        $(count = ::core::option::Option::Some($count);)?
        let found = $found.expect("the queue can be read");
        match $crate::testing::matching(found, count, ::core::stringify!($($pattern)*), $matches) {
            ::core::result::Result::Ok(found) => found,
            ::core::result::Result::Err(said) => ::core::panic!("{said}"),
        }
    }};
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
