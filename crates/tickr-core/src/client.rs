//! The client: enqueues, alone or inside the caller's transaction.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::door::clock::Tick;
use crate::door::{Clock, clock, task};
use crate::error::{Error, ErrorKind, Result};
use crate::handler::ExponentialBackoff;
use crate::headers::Headers;
use crate::id::IdSource;
use crate::limits::Limits;
use crate::message::{Due, IntoMessage, Message, NewMessage};
use crate::observe::{Guarded, GuardedTracer, Metrics, Span, Tracer};
use crate::storage::{BoxFuture, EnqueueIn, Enqueued, Storage};
use crate::time::Timestamp;

/// Enqueues messages. Cheap to clone.
///
/// ```
/// # async fn example() -> tickr_core::Result<()> {
/// use tickr_core::{Client, MemoryStorage, Message};
///
/// let client = Client::new(MemoryStorage::new());
/// let first = client.enqueue(Message::new("order.created", "7").idempotency_key("order-7")).await?;
/// let again = client.enqueue(Message::new("order.created", "7").idempotency_key("order-7")).await?;
/// assert!(again.is_duplicate());
/// assert_eq!(again.id(), first.id());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Client<S> {
    inner: Arc<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    storage: S,
    limits: Limits,
    retries: u16,
    ids: IdSource,
    clock: DatabaseClock,
    metrics: Option<Guarded>,
    tracer: Option<GuardedTracer>,
    after_enqueue: Option<AfterEnqueue>,
}

/// When the database's clock was read, for [`IdSource`].
#[derive(Debug, Default)]
struct DatabaseClock {
    first: OnceCell<()>,
    /// When it is read again in the background.
    next: Mutex<Option<Instant>>,
}

/// How often a client reads the database's clock.
const CLOCK_INTERVAL: Duration = Duration::from_secs(300);
/// How long a client waits after a reading in the background failed.
const CLOCK_RETRY: Duration = Duration::from_secs(10);

/// The span of an enqueue, and what is enqueued.
type Prepared = (Option<Box<dyn Span>>, Vec<NewMessage>);

/// What follows an enqueue in inline mode.
struct AfterEnqueue(Arc<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>);

impl fmt::Debug for AfterEnqueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AfterEnqueue(..)")
    }
}

/// Builds a [`Client`].
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder<S>(Inner<S>);

impl<S> ClientBuilder<S> {
    /// Sets what the client accepts.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.0.limits = limits;
        self
    }

    /// How often an enqueue in an own transaction is repeated when the storage is unavailable or its answer was lost
    /// (default 3, with back-off from 20 ms). Repeating is safe: the id is the same.
    pub const fn retries(mut self, retries: u16) -> Self {
        self.0.retries = retries;
        self
    }

    /// Counts what is enqueued. A panic of `metrics` is logged and changes nothing else.
    pub fn metrics(mut self, metrics: Arc<dyn Metrics>) -> Self {
        self.0.metrics = Some(Guarded(metrics));
        self
    }

    /// Traces enqueues, and puts the trace's context into the headers of every message.
    ///
    /// A panic of `tracer` is logged and changes nothing else. Headers of the tracer that a message cannot have (a NUL byte, an
    /// empty name, more bytes than [`Limits`]) are left out with a warning, and the message is enqueued without them.
    pub fn tracer(mut self, tracer: Arc<dyn Tracer>) -> Self {
        self.0.tracer = Some(GuardedTracer(tracer));
        self
    }

    pub(crate) fn after_enqueue(mut self, call: Arc<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>) -> Self {
        self.0.after_enqueue = Some(AfterEnqueue(call));
        self
    }

    /// Builds the client.
    pub fn build(self) -> Client<S> {
        Client { inner: Arc::new(self.0) }
    }
}

impl<S> Clone for Client<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S: Storage> Client<S> {
    /// A client with default limits.
    pub fn new(storage: S) -> Self {
        Self::builder(storage).build()
    }

    /// Starts to build a client.
    pub fn builder(storage: S) -> ClientBuilder<S> {
        ClientBuilder(Inner {
            storage,
            limits: Limits::default(),
            retries: 3,
            ids: IdSource::default(),
            clock: DatabaseClock::default(),
            metrics: None,
            tracer: None,
            after_enqueue: None,
        })
    }

    /// The storage.
    pub fn storage(&self) -> &S {
        &self.inner.storage
    }

    /// Enqueues one message in a transaction of its own; it is durable when this returns.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) or [`Codec`](ErrorKind::Codec) for a message that is not accepted; else what the
    /// storage says.
    pub async fn enqueue(&self, message: impl IntoMessage) -> Result<Enqueued> {
        single(self.enqueue_all([message]).await?)
    }

    /// Enqueues many messages in one transaction, all or none. The results are in the same order.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_all<M: IntoMessage>(&self, messages: impl IntoIterator<Item = M>) -> Result<Vec<Enqueued>> {
        self.know_clock().await;
        let (span, batch) = self.prepare(messages)?;
        let result = self.enqueue_with_retries(&batch).await;
        self.report(span, &batch, &result);
        if let (Ok(_), Some(after)) = (&result, &self.inner.after_enqueue) {
            (after.0)().await?;
        }
        result
    }

    /// Enqueues one message inside the caller's transaction: it exists if and only if that commits.
    ///
    /// The first call of a client reads the database's clock on the transaction's own connection, so that all ids are in the
    /// database's time. Later the clock is read every five minutes, in the background.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue); [`Retry::Transaction`](crate::Retry::Transaction) says that the caller's
    /// transaction must be run again.
    pub async fn enqueue_in<Tx: ?Sized>(&self, tx: &mut Tx, message: impl IntoMessage) -> Result<Enqueued>
    where
        S: EnqueueIn<Tx>,
    {
        single(self.enqueue_all_in(tx, [message]).await?)
    }

    /// Enqueues many messages inside the caller's transaction.
    ///
    /// # Errors
    /// As [`enqueue_in`](Self::enqueue_in).
    pub async fn enqueue_all_in<Tx: ?Sized, M: IntoMessage>(
        &self,
        tx: &mut Tx,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Vec<Enqueued>>
    where
        S: EnqueueIn<Tx>,
    {
        self.know_clock_in(tx).await;
        let (span, batch) = self.prepare(messages)?;
        let result = self.inner.storage.enqueue_in(tx, &batch).await;
        self.report(span, &batch, &result);
        result
    }

    /// Encodes and checks messages and gives them ids, for a storage's own synchronous enqueue.
    ///
    /// Ids are in the database's time once this client has read the database's clock: in the background after the first call
    /// within a runtime, or by any enqueue of its own. Until then they are in this machine's time.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub fn check<M: IntoMessage>(&self, messages: impl IntoIterator<Item = M>) -> Result<Vec<NewMessage>> {
        self.measure_in_background();
        Ok(self.prepare(messages)?.1)
    }

    /// Wakes the workers of this process at once. Call it after committing a transaction that enqueued: the enqueue
    /// could not see the commit, and workers would find it by polling a little later.
    pub fn wake(&self) {
        self.inner.storage.wakeups().wake_all();
    }

    fn prepare<M: IntoMessage>(&self, messages: impl IntoIterator<Item = M>) -> Result<Prepared> {
        let inner = &*self.inner;
        let mut messages = messages.into_iter().map(M::into_message).collect::<Result<Vec<Message>>>()?;
        let span = inner.tracer.as_ref().map(|tracer| {
            let mut types: Vec<&str> = messages.iter().map(|message| message.event_type.as_str()).collect();
            types.sort_unstable();
            types.dedup();
            let span = tracer.start_enqueue_span(&types, messages.len());
            for message in &mut messages {
                inject(tracer, &*span, &mut message.headers, &inner.limits);
            }
            span
        });
        let check = |message: Message| NewMessage::check(message, inner.ids.next(), &inner.limits);
        let batch = messages.into_iter().map(check).collect::<Result<Vec<_>>>()?;
        Ok((span, batch))
    }

    async fn enqueue_with_retries(&self, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
        let backoff = ExponentialBackoff::new(Duration::from_millis(20), Duration::from_secs(1))?;
        let mut attempt = 1;
        loop {
            match self.inner.storage.enqueue(batch).await {
                Err(error) if error.is_transient() && attempt <= self.inner.retries => {
                    tracing::debug!(attempt, %error, "enqueue is repeated");
                    clock::sleep(backoff.delay(attempt)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn report(&self, span: Option<Box<dyn Span>>, batch: &[NewMessage], result: &Result<Vec<Enqueued>>) {
        if let Some(span) = span {
            span.end(result.as_ref().err().map(|error| error as _));
        }
        let Ok(results) = result else { return };
        let stored = || batch.iter().zip(results).filter(|(_, result)| !result.is_duplicate()).map(|(message, _)| message);
        if let Some(metrics) = &self.inner.metrics {
            stored().for_each(|message| metrics.message_enqueued(message.event_type()));
        }
        if let Some(delay) = stored().filter_map(|message| delay(message.due)).min() {
            self.inner.storage.wakeups().scheduled(delay);
        }
    }

    /// Reads the database's clock before the first enqueue, and again now and then. Only the placement of ids depends on it, so
    /// a failure is left to the enqueue that follows.
    async fn know_clock(&self) {
        let inner = &*self.inner;
        if inner.clock.first.initialized() {
            return self.measure_in_background();
        }
        if let Err(error) = inner.clock.first.get_or_try_init(|| inner.measure()).await {
            tracing::debug!(%error, "the database's clock could not be read");
        }
    }

    /// The same on the connection of the caller's transaction: a second one may never come, because the pool has no other.
    async fn know_clock_in<Tx: ?Sized>(&self, tx: &mut Tx)
    where
        S: EnqueueIn<Tx>,
    {
        let inner = &*self.inner;
        if !inner.clock.first.initialized() {
            let before = Clock::Boot.now();
            if let Ok(Some(database)) = inner.storage.now_in(tx).await {
                inner.measured(database, before);
                // Another call may have been first; both have measured.
                let _ = inner.clock.first.set(());
                return;
            }
        }
        self.measure_in_background();
    }

    /// Reads the database's clock in the background, if it is time to.
    fn measure_in_background(&self) {
        let inner = &self.inner;
        if !inner.clock.is_due(clock::runtime_now()) {
            return;
        }
        let inner = Arc::clone(inner);
        task::try_spawn(async move {
            match inner.measure().await {
                // Another call may have been first; both have measured.
                Ok(()) => drop(inner.clock.first.set(())),
                Err(error) => tracing::debug!(%error, "the database's clock could not be read"),
            }
        });
    }
}

impl<S: Storage> Inner<S> {
    async fn measure(&self) -> Result<()> {
        let before = Clock::Boot.now();
        self.measured(self.storage.now().await?, before);
        Ok(())
    }

    /// The database's clock read `database` between `before` and now.
    fn measured(&self, database: Timestamp, before: Tick) {
        self.ids.set(database, before.after(Clock::Boot.now().since(before) / 2));
        *self.clock.next() = Some(clock::runtime_now() + CLOCK_INTERVAL);
    }
}

impl DatabaseClock {
    fn next(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is time to read it; says so to one of many callers.
    fn is_due(&self, now: Instant) -> bool {
        let mut next = self.next();
        let due = next.is_none_or(|at| at <= now);
        if due {
            *next = Some(now + CLOCK_RETRY);
        }
        due
    }
}

/// Puts the context of `span` into the headers of a message. Whatever the tracer does, what the user wrote stays, and the message
/// is as acceptable as it was.
fn inject(tracer: &GuardedTracer, span: &dyn Span, headers: &mut Headers, limits: &Limits) {
    let mut injected = headers.clone();
    tracer.inject_headers(span, &mut injected);
    for (name, value) in headers.iter() {
        injected.insert(name, value);
    }
    match limits.check_headers(&injected) {
        Err(error) if limits.check_headers(headers).is_ok() => {
            tracing::warn!(%error, "the tracer's headers are left out of a message");
        }
        _ => *headers = injected,
    }
}

fn delay(due: Due) -> Option<Duration> {
    match due {
        Due::Now => None,
        Due::After(delay) => Some(delay),
        Due::At(at) => Some(at.since(Timestamp::now())),
    }
}

fn single(results: Vec<Enqueued>) -> Result<Enqueued> {
    results.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Internal, "the storage gave no result for one message"))
}
