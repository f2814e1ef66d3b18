//! Enqueueing, and transactions that applications test with.
//!
//! A transaction keeps what it stores to itself until it commits, and reserves the ids and idempotency keys of it.
//! Whoever wants one of those waits until the transaction ends, as a database makes them wait for its unique index.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::MemoryStorage;
use super::state::{Body, Key, State, WaitingRow};
use crate::door::clock;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::event_type::EventType;
use crate::id::MessageId;
use crate::limits::check_batch;
use crate::message::{NewMessage, StoredMessage};
use crate::protocol::Waiting;
use crate::storage::{EnqueueIn, Enqueued, InspectIn, Storage};
use crate::time::Timestamp;

/// How long an enqueue waits for an open transaction: no operation waits for ever.
const WAIT_MAX: Duration = Duration::from_secs(2);

type TxId = u64;

/// A transaction of a [`MemoryStorage`]: what is enqueued in it exists if and only if it commits.
///
/// It reads what is committed (`READ COMMITTED`). Dropping it rolls it back. After an error that says
/// [`Retry::Transaction`](crate::Retry::Transaction) it can only be rolled back.
#[must_use = "dropping a transaction rolls it back"]
pub struct MemoryTx<'a> {
    storage: MemoryStorage,
    id: TxId,
    level: Level<'a>,
    /// How many messages were stored when this level began.
    mark: usize,
    refused: bool,
}

enum Level<'a> {
    Outer(Pending),
    Savepoint(&'a mut Pending),
}

/// What a transaction has stored so far.
#[derive(Default)]
struct Pending {
    stored: Vec<StoredMessage>,
    ids: HashSet<MessageId>,
    keys: HashMap<Key, MessageId>,
}

impl MemoryStorage {
    /// Begins a transaction. Any number may be open; they wait for each other only over equal ids and idempotency keys.
    pub async fn begin(&self) -> MemoryTx<'static> {
        let id = self.lock().reservations.begin();
        MemoryTx { storage: self.clone(), id, level: Level::Outer(Pending::default()), mark: 0, refused: false }
    }

    /// Enqueues in a transaction of its own, which needs no reservations: it is over at once.
    pub(super) async fn enqueue_committed(&self, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
        check_batch(batch)?;
        let store = |state: &mut State, now| {
            let mut pending = Pending::default();
            let results = pending.store(state, now, batch);
            let types = pending.ready_types(0);
            state.insert(pending.stored);
            (results, types)
        };
        let (results, types) = self.when_free(None, batch, store).await?;
        self.wakeups().wake(&types);
        Ok(results)
    }

    /// Runs `store` once no other transaction holds an id or a key of `batch`.
    async fn when_free<T>(&self, me: Option<TxId>, batch: &[NewMessage], store: impl FnOnce(&mut State, Timestamp) -> T) -> Result<T> {
        let deadline = clock::sleep(WAIT_MAX);
        tokio::pin!(deadline);
        loop {
            // Made before the look, so that a release between look and wait is not missed.
            let released = self.shared.released.notified();
            let waiting = {
                let mut state = self.lock();
                let Some(holder) = state.reservations.holder(me, batch) else {
                    let now = self.shared.time.now();
                    return Ok(store(&mut state, now));
                };
                match me {
                    Some(me) if state.reservations.closes_a_circle(me, holder) => return Err(deadlock()),
                    Some(me) => state.reservations.waiting.insert(me, holder),
                    None => None,
                };
                Waits { storage: self, me }
            };
            tokio::select! {
                () = released => drop(waiting),
                () = &mut deadline => return Err(waited_in_vain(me)),
            }
        }
    }
}

impl MemoryTx<'_> {
    /// Makes what was enqueued visible, all at once; of a savepoint, makes it part of the transaction around it.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) when an enqueue in it was refused; then it is rolled back.
    pub async fn commit(mut self) -> Result<()> {
        if self.refused {
            let error = Error::new(ErrorKind::Conflict, "an enqueue in the transaction was refused, so it is rolled back");
            return Err(error.with_retry(Retry::Transaction));
        }
        if let Level::Outer(pending) = &mut self.level {
            let stored = std::mem::take(&mut pending.stored);
            self.storage.lock().insert(stored);
        } else {
            self.mark = self.pending().stored.len();
        }
        // The drop gives the reservations of an outer level back; there is nothing left to undo.
        Ok(())
    }

    /// Discards what was enqueued, as dropping does.
    pub async fn rollback(self) {
        drop(self);
    }

    /// Begins a part that can be rolled back by itself. Savepoints nest.
    pub async fn savepoint(&mut self) -> MemoryTx<'_> {
        let (storage, id, refused) = (self.storage.clone(), self.id, self.refused);
        let pending = self.pending_mut();
        let mark = pending.stored.len();
        MemoryTx { storage, id, level: Level::Savepoint(pending), mark, refused }
    }

    fn pending(&self) -> &Pending {
        match &self.level {
            Level::Outer(pending) => pending,
            Level::Savepoint(pending) => pending,
        }
    }

    fn pending_mut(&mut self) -> &mut Pending {
        match &mut self.level {
            Level::Outer(pending) => pending,
            Level::Savepoint(pending) => pending,
        }
    }

    fn check_owner(&self, storage: &MemoryStorage) -> Result<()> {
        if Arc::ptr_eq(&self.storage.shared, &storage.shared) {
            return Ok(());
        }
        Err(Error::config("the transaction belongs to another storage"))
    }
}

impl Drop for MemoryTx<'_> {
    fn drop(&mut self) {
        let (id, mark, ends) = (self.id, self.mark, matches!(self.level, Level::Outer(_)));
        let (ids, keys) = self.pending_mut().roll_back(mark);
        let mut state = self.storage.lock();
        if ends {
            state.reservations.end(id);
        } else {
            state.reservations.release(id, &ids, &keys);
        }
        drop(state);
        self.storage.shared.released.notify_waiters();
    }
}

impl fmt::Debug for MemoryTx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTx").field("id", &self.id).field("stored", &self.pending().stored.len()).finish_non_exhaustive()
    }
}

impl EnqueueIn<MemoryTx<'_>> for MemoryStorage {
    async fn enqueue_in(&self, tx: &mut MemoryTx<'_>, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
        tx.check_owner(self)?;
        check_batch(batch)?;
        if tx.refused {
            return Err(deadlock());
        }
        let id = tx.id;
        let pending = tx.pending_mut();
        let first = pending.stored.len();
        let store = |state: &mut State, now| {
            let results = pending.store(state, now, batch);
            state.reservations.reserve(id, &pending.stored[first..]);
            (results, pending.ready_types(first))
        };
        match self.when_free(Some(id), batch, store).await {
            Ok((results, types)) => {
                self.wakeups().burst(&types);
                Ok(results)
            }
            Err(error) => {
                tx.refused = true;
                Err(error)
            }
        }
    }

    async fn now_in(&self, tx: &mut MemoryTx<'_>) -> Result<Option<Timestamp>> {
        tx.check_owner(self)?;
        self.now().await.map(Some)
    }
}

impl InspectIn<MemoryTx<'_>> for MemoryStorage {
    async fn messages_in(&self, tx: &mut MemoryTx<'_>, event_type: &str) -> Result<Vec<StoredMessage>> {
        tx.check_owner(self)?;
        let state = self.lock();
        let committed = state.messages.values().map(|body| &body.stored);
        let seen = committed.chain(&tx.pending().stored).filter(|stored| stored.event_type.as_str() == event_type);
        let mut seen: Vec<StoredMessage> = seen.cloned().collect();
        seen.sort_by_key(|stored| stored.id);
        Ok(seen)
    }
}

impl Pending {
    /// Stores what is new, seeing what is committed, what this transaction stored before, and the batch up to here.
    fn store(&mut self, state: &State, now: Timestamp, batch: &[NewMessage]) -> Vec<Enqueued> {
        batch.iter().map(|message| self.store_one(state, now, message)).collect()
    }

    fn store_one(&mut self, state: &State, now: Timestamp, message: &NewMessage) -> Enqueued {
        let id = message.id();
        // The id first: an enqueue that is repeated finds its own message, whatever became of the key.
        if state.messages.contains_key(&id) || self.ids.contains(&id) {
            return Enqueued::Stored { id };
        }
        if let Some(key) = key(message) {
            let owner = state.dedupe.get(&key).map(|(id, _)| id).or_else(|| self.keys.get(&key)).copied();
            match owner {
                // Its body was purged already; the key still knows it.
                Some(owner) if owner == id => return Enqueued::Stored { id },
                Some(existing) => return Enqueued::Duplicate { existing },
                None => self.keys.insert(key, id),
            };
        }
        self.ids.insert(id);
        self.stored.push(message.to_stored(now));
        Enqueued::Stored { id }
    }

    /// The types of what is due at once, among what was stored from position `first` on.
    fn ready_types(&self, first: usize) -> BTreeSet<EventType> {
        let due = self.stored[first..].iter().filter(|stored| stored.scheduled_at.is_none());
        due.map(|stored| stored.event_type.clone()).collect()
    }

    /// Forgets what was stored after `mark`: gives back its ids and keys.
    fn roll_back(&mut self, mark: usize) -> (Vec<MessageId>, Vec<Key>) {
        let undone = self.stored.split_off(mark.min(self.stored.len()));
        let ids: Vec<MessageId> = undone.iter().map(|stored| stored.id).collect();
        let keys: Vec<Key> = undone.iter().filter_map(stored_key).collect();
        for id in &ids {
            self.ids.remove(id);
        }
        for key in &keys {
            self.keys.remove(key);
        }
        (ids, keys)
    }
}

impl State {
    /// Makes messages that [`Pending::store`] admitted visible.
    fn insert(&mut self, batch: Vec<StoredMessage>) {
        for stored in batch {
            let (id, due) = (stored.id, stored.scheduled_at);
            if let Some(key) = stored_key(&stored) {
                let expires_at = due.unwrap_or(stored.created_at).after(self.dedupe_keep);
                self.dedupe_order.insert((expires_at, key.clone()));
                self.dedupe.insert(key, (id, expires_at));
            }
            self.put(WaitingRow { id, event_type: stored.event_type.clone(), waiting: Waiting::fresh(stored.priority) }, due);
            let number = self.number();
            self.messages.insert(id, Body { stored, number });
        }
    }
}

/// The ids and keys that open transactions have stored, and which transaction waits for which.
#[derive(Default)]
pub(super) struct Reservations {
    ids: HashMap<MessageId, TxId>,
    keys: HashMap<Key, TxId>,
    waiting: HashMap<TxId, TxId>,
    last: TxId,
}

impl Reservations {
    fn begin(&mut self) -> TxId {
        self.last += 1;
        self.last
    }

    /// The first other transaction that holds an id or a key of `batch`.
    fn holder(&self, me: Option<TxId>, batch: &[NewMessage]) -> Option<TxId> {
        if self.ids.is_empty() {
            return None;
        }
        let holders = batch.iter().flat_map(|message| {
            let by_key = key(message).and_then(|key| self.keys.get(&key));
            self.ids.get(&message.id()).into_iter().chain(by_key).copied()
        });
        holders.into_iter().find(|holder| Some(*holder) != me)
    }

    /// Whether `holder` waits for `me`, by however many others.
    fn closes_a_circle(&self, me: TxId, holder: TxId) -> bool {
        let mut next = Some(holder);
        while let Some(tx) = next {
            if tx == me {
                return true;
            }
            next = self.waiting.get(&tx).copied();
        }
        false
    }

    fn reserve(&mut self, tx: TxId, stored: &[StoredMessage]) {
        self.ids.extend(stored.iter().map(|stored| (stored.id, tx)));
        self.keys.extend(stored.iter().filter_map(stored_key).map(|key| (key, tx)));
    }

    fn release(&mut self, tx: TxId, ids: &[MessageId], keys: &[Key]) {
        for id in ids {
            self.ids.remove(id);
        }
        for key in keys {
            self.keys.remove(key);
        }
        // Whoever waited for it looks again, and may find nothing in the way.
        self.waiting.retain(|_, holder| *holder != tx);
    }

    fn end(&mut self, tx: TxId) {
        self.ids.retain(|_, holder| *holder != tx);
        self.keys.retain(|_, holder| *holder != tx);
        self.waiting.retain(|_, holder| *holder != tx);
    }
}

/// Takes the note that a transaction waits back, also when the wait is dropped.
struct Waits<'a> {
    storage: &'a MemoryStorage,
    me: Option<TxId>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(me) = self.me {
            self.storage.lock().reservations.waiting.remove(&me);
        }
    }
}

fn key(message: &NewMessage) -> Option<Key> {
    message.idempotency_key.clone().map(|key| (message.event_type().clone(), key))
}

pub(super) fn stored_key(stored: &StoredMessage) -> Option<Key> {
    stored.idempotency_key.clone().map(|key| (stored.event_type.clone(), key))
}

fn deadlock() -> Error {
    let text = "two transactions wait for each other's idempotency keys; roll back and run the transaction again";
    Error::new(ErrorKind::Conflict, text).with_retry(Retry::Transaction)
}

fn waited_in_vain(me: Option<TxId>) -> Error {
    let text = format!("another transaction has held the same id or idempotency key for {WAIT_MAX:?}");
    let retry = if me.is_some() { Retry::Transaction } else { Retry::Operation };
    Error::new(ErrorKind::Unavailable, text).with_retry(retry)
}
