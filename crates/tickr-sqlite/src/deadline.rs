//! A deadline for every operation, without a runtime: callers may await on any executor.
//!
//! One thread a handle wakes callers whose time is over. It protects them against a thread of the handle that hangs, in a system call
//! on a disk that does not answer, for example. All operations of a kind have the same limit, so entries are in the order of their
//! deadlines, and those whose operation has ended are removed from the front as new ones come.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tickr_core::Result;
use tokio::sync::oneshot;

use crate::door;

/// The limit of an operation that touches a bounded number of rows.
const SHORT: Duration = Duration::from_secs(60);
/// The limit of one that reads or changes everything.
const LONG: Duration = Duration::from_secs(3_600);

/// Which limit an operation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Short,
    Long,
}

/// The deadlines of a handle's operations.
#[derive(Debug)]
pub(crate) struct Deadlines {
    shared: Arc<Shared>,
    short: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: [VecDeque<(Instant, oneshot::Sender<()>)>; 2],
    closed: bool,
}

impl Deadlines {
    /// Starts the thread. `busy_timeout` is part of every operation's limit.
    pub(crate) fn start(busy_timeout: Duration) -> Result<Self> {
        Self::with_limit(SHORT.saturating_add(busy_timeout.saturating_mul(2)))
    }

    fn with_limit(short: Duration) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let watched = Arc::clone(&shared);
        door::spawn("tickr-sqlite-time", move || watched.watch())?;
        Ok(Self { shared, short })
    }

    /// Gives what resolves when the time of an operation that begins now is over.
    pub(crate) fn begin(&self, limit: Limit) -> oneshot::Receiver<()> {
        let (expire, expired) = oneshot::channel();
        let deadline = door::now() + if limit == Limit::Short { self.short } else { LONG };
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = &mut state.waiting[limit as usize];
        while waiting.front().is_some_and(|(_, over)| over.is_closed()) {
            waiting.pop_front();
        }
        // Only the first one has a deadline before what the thread sleeps for.
        let first = waiting.is_empty();
        waiting.push_back((deadline, expire));
        drop(state);
        if first {
            self.shared.changed.notify_one();
        }
        expired
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn watch(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.closed {
            let now = door::now();
            for waiting in &mut state.waiting {
                while let Some((_, expire)) = waiting.pop_front_if(|(deadline, over)| *deadline <= now || over.is_closed()) {
                    // Fails when the caller has its answer already.
                    let _ = expire.send(());
                }
            }
            let next = state.waiting.iter().filter_map(VecDeque::front).map(|(deadline, _)| *deadline).min();
            state = match next {
                Some(next) => {
                    let waited = self.changed.wait_timeout(state, next.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn deadline_ends_the_wait_and_what_has_ended_is_forgotten() {
        let deadlines = Deadlines::with_limit(Duration::from_millis(20)).unwrap();
        let began = door::now();
        deadlines.begin(Limit::Short).await.unwrap();
        assert!(door::now().duration_since(began) >= Duration::from_millis(20));
        drop(deadlines.begin(Limit::Long));
        drop(deadlines.begin(Limit::Long));
        let waits = deadlines.begin(Limit::Long);
        assert_eq!(deadlines.shared.state.lock().unwrap().waiting[Limit::Long as usize].len(), 1);
        drop(waits);
    }

    /// The limit grows with what an operation may wait for a lock.
    #[tokio::test]
    async fn limit_leaves_room_for_waiting_twice() {
        let deadlines = Deadlines::start(Duration::from_secs(5)).unwrap();
        assert_eq!(deadlines.short, Duration::from_secs(70));
    }
}
