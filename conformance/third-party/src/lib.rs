//! A tickr storage over a plain map: what a company with a database of its own would write, in small.
//!
//! The layout is not that of the built-in storages. There is one entry per message, which knows the one *place* where the
//! message is; a claim keeps, per member, how its lease ended. Everything is behind one lock, which makes every operation
//! atomic. It lives as long as the process: it is an example, not a database.

mod admin;
mod claims;
mod storage;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tickr_core::{Capabilities, ClockOffset, Timestamp, WakeHub};

use table::Table;

/// A queue in a map. Clones share the wake-ups of one handle.
#[derive(Clone, Debug)]
pub struct MapStorage {
    table: Arc<Mutex<Table>>,
    wakeups: WakeHub,
    clock: ClockOffset,
    capabilities: Arc<Capabilities>,
}

impl MapStorage {
    /// An empty queue, whose clock is this machine's plus `clock`.
    pub fn new(clock: ClockOffset) -> Self {
        let mut capabilities = Capabilities::all("map");
        capabilities.notify = false;
        capabilities.transactions = false;
        capabilities.savepoints = false;
        capabilities.persistent = false;
        Self { table: Arc::default(), wakeups: WakeHub::default(), clock, capabilities: Arc::new(capabilities) }
    }

    /// A second handle to the same queue, with wake-ups of its own, as another process would have.
    pub fn other_handle(&self) -> Self {
        Self { wakeups: WakeHub::default(), ..self.clone() }
    }

    fn now(&self) -> Timestamp {
        self.clock.apply(Timestamp::now())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one operation under the lock, and wakes the workers of this handle for what it made ready.
    fn operate<T>(&self, operation: impl FnOnce(&mut Table, Timestamp) -> tickr_core::Result<T>) -> tickr_core::Result<T> {
        let now = self.now();
        let mut table = self.lock();
        table.made_ready.clear();
        let result = operation(&mut table, now);
        let made_ready = std::mem::take(&mut table.made_ready);
        drop(table);
        self.wakeups.wake(&made_ready);
        result
    }
}

/// How long an idempotency key outlives the time its message was due.
const KEY_RETENTION: Duration = Duration::from_secs(7 * 24 * 3_600);
