//! A storage in memory: the executable specification of the protocol, and a queue for applications' own tests.

mod admin;
mod audit;
mod claim;
mod look;
mod pause;
mod purge;
mod settle;
mod state;
mod stats;
mod tx;
mod upkeep;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use self::state::State;
pub use self::tx::MemoryTx;
use crate::door::Clock;
use crate::door::clock::Tick;
use crate::error::Result;
use crate::id::{MessageId, Token, WorkerId};
use crate::message::NewMessage;
use crate::notify::WakeHub;
use crate::storage::{
    Beat, Capabilities, Claim, ClaimRequest, Enqueued, Heartbeat, Lock, Migrated, Migration, PauseRequest, Promoted, PurgeRequest, Purged,
    ReclaimRequest, Reclaimed, Registration, Retired, SchemaStatus, Settled, Settlement, Stats, StatsRequest, Storage, check_lease,
};
use crate::time::{ClockOffset, Timestamp};

/// The queue in this process's memory. Clones share it; nothing survives the last of them.
///
/// Every operation is one critical section over plain collections that mirror the protocol's tables, so it is atomic,
/// and what it does can be read like the protocol itself. All that a database does, this does: leases, fences,
/// retention, transactions ([`begin`](Self::begin)) with savepoints.
///
/// Only an enqueue ever waits: for an open transaction that has stored the same message id or idempotency key, until
/// that transaction ends, for at most two seconds. A task that holds such a transaction itself waits in vain.
///
/// Arguments at the edge: a claim with a `total` or a `limit` of 0, or without groups, takes nothing; `promote(0)` only
/// says when the next message is due; a reclaim with `limit` 0 only condemns; a purge with `limit` 0 is refused, since
/// it would report `more` for ever. Limits of lists are taken as 1 to 1000. A lease is 100 ms at least.
///
/// ```
/// use tickr_core::{EnqueueIn, Limits, MemoryStorage, Message, MessageId, NewMessage, StatsRequest, Status, Storage};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> tickr_core::Result<()> {
/// let storage = MemoryStorage::new();
/// let message = NewMessage::check(Message::new("order.created", "7"), MessageId::new(), &Limits::default())?;
///
/// let mut tx = storage.begin().await;
/// storage.enqueue_in(&mut tx, &[message]).await?;
/// assert_eq!(storage.stats(&StatsRequest::default()).await?.total(Status::Created).n, 0);
/// tx.commit().await?;
/// assert_eq!(storage.stats(&StatsRequest::default()).await?.total(Status::Created).n, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MemoryStorage {
    shared: Arc<Shared>,
    hub: WakeHub,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled whenever a transaction gives up or settles what others may wait for.
    released: Notify,
    time: Time,
    capabilities: Capabilities,
}

impl fmt::Debug for Shared {
    /// Counts only: a test that prints its storage should not print its queue.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("State")
            .field("messages", &state.messages.len())
            .field("ready", &state.ready.len())
            .field("scheduled", &state.scheduled.len())
            .field("open_claims", &state.open_claims.len())
            .field("dead", &state.dead.len())
            .finish_non_exhaustive()
    }
}

/// What the storage takes for the database's clock.
struct Time {
    source: Source,
    offset: ClockOffset,
}

enum Source {
    Machine,
    Door { clock: Clock, start: Tick },
}

impl Time {
    /// Where a storage with a clock of its own begins: 2026-01-01T00:00:00Z, so that runs repeat exactly.
    const BASE: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    fn now(&self) -> Timestamp {
        let time = match &self.source {
            Source::Machine => Timestamp::now(),
            Source::Door { clock, start } => Self::BASE.after(clock.now().since(*start)),
        };
        self.offset.apply(time)
    }
}

/// Builds a [`MemoryStorage`].
///
/// ```
/// use tickr_core::MemoryStorage;
///
/// let storage = MemoryStorage::builder().history(false).build();
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct MemoryBuilder {
    clock: Option<Clock>,
    dedupe_retention: Option<Duration>,
    without_history: bool,
}

impl MemoryBuilder {
    /// Lets the queue's time begin at 2026-01-01T00:00:00Z and go with `clock`, for tests under paused time (default: the machine's
    /// clock).
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// How long an idempotency key is remembered after its message was due (default 7 days; longer while the message is live or
    /// dead). The purge that finds a key expired frees it.
    pub fn dedupe_retention(mut self, keep: Duration) -> Self {
        self.dedupe_retention = Some(keep);
        self
    }

    /// Whether errors, reasons, retries and requeues are recorded per message (default yes). Without them the history still shows
    /// claims and how they ended, but no texts, and handlers see no last error.
    pub fn history(mut self, record: bool) -> Self {
        self.without_history = !record;
        self
    }

    /// Makes an empty queue.
    pub fn build(self) -> MemoryStorage {
        let source = self.clock.map_or(Source::Machine, |clock| Source::Door { clock, start: clock.now() });
        let mut state = State::default();
        state.history = !self.without_history;
        state.dedupe_keep = self.dedupe_retention.unwrap_or(state.dedupe_keep);
        MemoryStorage::with_source(source, state)
    }
}

impl MemoryStorage {
    /// An empty queue that reads the machine's clock.
    pub fn new() -> Self {
        Self::with_source(Source::Machine, State::default())
    }

    /// Begins a configuration.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }

    fn with_source(source: Source, state: State) -> Self {
        let mut capabilities = Capabilities::all("memory");
        capabilities.notify = false;
        capabilities.persistent = false;
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                released: Notify::new(),
                time: Time { source, offset: ClockOffset::default() },
                capabilities,
            }),
            hub: WakeHub::default(),
        }
    }

    /// Another handle to the same queue, as another process would have it: its wake-ups are its own, so that only
    /// polling finds what is enqueued through this one. A clone shares them.
    #[must_use]
    pub fn other_process(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), hub: WakeHub::default() }
    }

    /// The offset that is added to the clock: advance it instead of waiting.
    pub fn clock_offset(&self) -> ClockOffset {
        self.shared.time.offset.clone()
    }

    /// Removes the ready row of a message behind the protocol's back, so that tests see whether the audit finds it.
    #[doc(hidden)]
    pub fn sabotage_ready(&self, id: MessageId) -> bool {
        let mut state = self.lock();
        let ready = state.ready_ids.contains_key(&id);
        ready && state.take_waiting(id).is_some()
    }

    /// Removes the body of a message behind the protocol's back.
    #[doc(hidden)]
    pub fn sabotage_body(&self, id: MessageId) -> bool {
        self.lock().messages.remove(&id).is_some()
    }

    /// Makes the body of a message unreadable, as another writer would in a database.
    #[doc(hidden)]
    pub fn sabotage_unreadable(&self, id: MessageId) -> bool {
        let mut state = self.lock();
        let known = state.messages.contains_key(&id);
        known && state.unreadable.insert(id)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one operation: alone, and at one moment.
    fn run<T>(&self, operation: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let mut state = self.lock();
        let now = self.shared.time.now();
        operation(&mut state, now)
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl Storage for MemoryStorage {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    fn wakeups(&self) -> &WakeHub {
        &self.hub
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(self.run(|_, now| now))
    }

    async fn schema(&self) -> Result<SchemaStatus> {
        Ok(SchemaStatus::of(1, 1, 1))
    }

    async fn migrate(&self) -> Result<Migrated> {
        Ok(Migrated::new(1))
    }

    fn migrations(&self) -> &[Migration] {
        &[]
    }

    async fn enqueue(&self, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
        self.enqueue_committed(batch).await
    }

    async fn register(&self, registration: &Registration) -> Result<()> {
        check_lease(registration.lease)?;
        self.run(|state, now| state.register(now, registration))
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        self.run(|state, now| state.claim(now, request))
    }

    async fn settle(&self, batch: &[Settlement]) -> Result<Vec<Settled>> {
        self.run(|state, now| state.settle(now, batch))
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat> {
        check_lease(heartbeat.lease)?;
        self.run(|state, now| state.heartbeat(now, heartbeat))
    }

    async fn adopt(&self, token: Token) -> Result<Option<Claim>> {
        Ok(self.run(|state, _| state.adopt(token)))
    }

    async fn end_exclusive(&self, token: Token) -> Result<bool> {
        Ok(self.run(|state, _| state.end_exclusive(token)))
    }

    async fn retire(&self, worker: WorkerId, reason: &str) -> Result<Retired> {
        Ok(self.run(|state, now| state.retire(now, worker, reason)))
    }

    async fn promote(&self, limit: u32) -> Result<Promoted> {
        let (promoted, types) = self.run(|state, now| state.promote(now, limit));
        self.wakeups().wake(&types);
        Ok(promoted)
    }

    async fn reclaim(&self, request: &ReclaimRequest) -> Result<Reclaimed> {
        Ok(self.run(|state, now| state.reclaim(now, request)))
    }

    async fn purge(&self, request: &PurgeRequest) -> Result<Purged> {
        self.run(|state, now| state.purge(now, request))
    }

    async fn stats(&self, request: &StatsRequest) -> Result<Stats> {
        Ok(self.run(|state, now| state.stats(now, request)))
    }

    async fn pause(&self, request: &PauseRequest) -> Result<bool> {
        self.run(|state, now| state.pause(now, request))
    }

    async fn acquire_lock(&self, name: &str, holder: WorkerId, ttl: Duration) -> Result<Option<Lock>> {
        self.run(|state, now| state.acquire_lock(now, name, holder, ttl))
    }

    async fn renew_lock(&self, lock: &Lock, ttl: Duration) -> Result<bool> {
        self.run(|state, now| state.renew_lock(now, lock, ttl))
    }

    async fn release_lock(&self, lock: &Lock) -> Result<bool> {
        Ok(self.run(|state, now| state.release_lock(now, lock)))
    }
}
