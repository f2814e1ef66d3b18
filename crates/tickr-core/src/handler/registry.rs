//! Which handler is called for which event type.

use std::fmt;
use std::sync::Arc;

use super::batch::BatchHandler;
use super::context::Context;
use super::event::{BatchEvent, NamesEvent};
use super::extract::{Requirements, StateMap};
use super::failure::Verdict;
use super::function::Handler;
use super::options::HandlerOptions;
use crate::error::{Error, Result};
use crate::event_type::EventType;
use crate::storage::BoxFuture;

/// Handlers by event type: a value of its own, so that modules of an application each bring theirs.
///
/// Errors (a type registered twice, wrong options) are kept and reported when the worker is built.
///
/// ```
/// use tickr_core::{Context, Handler, MemoryStorage, Registry, Worker};
///
/// mod billing {
///     # use super::*;
///     async fn charge(_: Context) {}
///     async fn refund(_: Context) {}
///
///     pub fn handlers() -> Registry {
///         Registry::new().on("order.placed", charge.max_attempts(5)).on("order.returned", refund)
///     }
/// }
///
/// # fn main() -> tickr_core::Result<()> {
/// let worker = Worker::builder(MemoryStorage::new())
///     .registry(billing::handlers())
///     .on("parcel.sent", async || ())
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Registry {
    entries: Vec<Entry>,
    requirements: Requirements,
    errors: Vec<Error>,
}

/// One registered event type.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) event_type: EventType,
    pub(crate) options: HandlerOptions,
    pub(crate) invoke: Invoke,
}

/// How a handler is called, its types erased.
#[derive(Clone)]
pub(crate) enum Invoke {
    One(Arc<dyn Fn(Context) -> BoxFuture<'static, Verdict> + Send + Sync>),
    Many { max_batch: u32, call: Arc<dyn Fn(Vec<Context>) -> BoxFuture<'static, Vec<Verdict>> + Send + Sync> },
}

impl Registry {
    /// No handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `handler` for messages of `event_type`. Options hang on the handler: `confirm.max_attempts(5)`.
    #[must_use]
    pub fn on<Args>(self, event_type: &str, handler: impl Handler<Args>) -> Self {
        fn requires<Args, H: Handler<Args>>(_handler: &H, requirements: &mut Requirements) {
            H::requires(requirements);
        }
        let mut this = self;
        requires(&handler, &mut this.requirements);
        let options = handler.options();
        let invoke = Invoke::One(Arc::new(move |context| Box::pin(handler.call(context))));
        this.add(event_type, options, invoke)
    }

    /// Calls `handler` for messages of the event that its arguments name, so that producer and handler cannot drift apart:
    /// `on_event(confirm)` for `async fn confirm(Json(body): Json<OrderPlaced>)`, where `OrderPlaced` is an
    /// [`Event`](crate::Event).
    #[must_use]
    pub fn on_event<Args: NamesEvent<Position>, Position>(self, handler: impl Handler<Args>) -> Self {
        self.on(Args::TYPE, handler)
    }

    /// Calls `handler` with many messages of `event_type` at once. Calls of one type never overlap. Options hang on the
    /// handler: `store.max_batch(500)`.
    #[must_use]
    pub fn on_batch<Args>(self, event_type: &str, handler: impl BatchHandler<Args>) -> Self {
        fn requires<Args, H: BatchHandler<Args>>(_handler: &H, requirements: &mut Requirements) {
            H::requires(requirements);
        }
        let mut this = self;
        requires(&handler, &mut this.requirements);
        let options = handler.options();
        if let Err(error) = options.check(event_type) {
            this.errors.push(error);
            return this;
        }
        let invoke = Invoke::Many { max_batch: options.max_batch, call: Arc::new(move |contexts| Box::pin(handler.call(contexts))) };
        this.add(event_type, options.handler, invoke)
    }

    /// Calls `handler` with many messages at once of the event that its batch names: `on_batch_event(store)` for
    /// `async fn store(rows: Batch<Json<RowAdded>>)`, where `RowAdded` is an [`Event`](crate::Event).
    #[must_use]
    pub fn on_batch_event<Args: BatchEvent>(self, handler: impl BatchHandler<Args>) -> Self {
        self.on_batch(Args::TYPE, handler)
    }

    /// Adds every handler of `other`.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.errors.extend(other.errors);
        self.requirements.extend(other.requirements);
        for entry in other.entries {
            self = self.insert(entry);
        }
        self
    }

    /// The registered event types, in the order they were registered.
    pub fn event_types(&self) -> impl Iterator<Item = &EventType> {
        self.entries.iter().map(|entry| &entry.event_type)
    }

    fn add(mut self, event_type: &str, options: HandlerOptions, invoke: Invoke) -> Self {
        match EventType::new(event_type) {
            Ok(event_type) => self.insert(Entry { event_type, options, invoke }),
            Err(error) => {
                self.errors.push(error);
                self
            }
        }
    }

    fn insert(mut self, entry: Entry) -> Self {
        if self.entries.iter().any(|known| known.event_type == entry.event_type) {
            self.errors.push(Error::config(format!("event type {} has two handlers", entry.event_type)));
        } else if let Err(error) = entry.options.check(&entry.event_type) {
            self.errors.push(error);
        } else {
            self.entries.push(entry);
        }
        self
    }

    /// Gives out the entries, or the first thing that is wrong.
    pub(crate) fn build(self, states: &StateMap) -> Result<Vec<Entry>> {
        if let Some(error) = self.errors.into_iter().next() {
            return Err(error);
        }
        if let Some(missing) = self.requirements.missing(states) {
            return Err(Error::config(format!("a handler wants State<{missing}>, which was not given to the worker with .state(..)")));
        }
        if self.entries.is_empty() {
            return Err(Error::config("the worker has no handlers"));
        }
        Ok(self.entries)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.invoke {
            Invoke::One(_) => "one",
            Invoke::Many { .. } => "batch",
        };
        f.debug_struct("Entry").field("event_type", &self.event_type).field("kind", &kind).field("options", &self.options).finish()
    }
}
