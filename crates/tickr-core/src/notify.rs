//! Wake-ups: hints that make things fast. Polling is the truth; without any of this only latency changes.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::Result;
use crate::event_type::EventType;
use crate::storage::BoxFuture;

/// Wakes workers of other processes, by whatever the database has for it (`NOTIFY`, `PRAGMA data_version`).
pub trait Notifier: Debug + Send + Sync + 'static {
    /// Starts to listen for messages of `event_types` that other processes make ready.
    fn listen<'a>(&'a self, event_types: &'a [EventType]) -> BoxFuture<'a, Result<Box<dyn Listener>>>;

    /// Tells listeners of other processes that messages of `event_types` are ready.
    fn notify<'a>(&'a self, event_types: &'a [EventType]) -> BoxFuture<'a, Result<()>>;
}

/// A running [`Notifier::listen`]. Dropping it stops it.
pub trait Listener: Debug + Send {
    /// Waits for the next hint. Hints are coalesced: one hint may stand for many messages, or for none.
    ///
    /// # Errors
    /// When the channel is broken; the engine then listens anew, with back-off, and polls meanwhile.
    fn next(&mut self) -> BoxFuture<'_, Result<()>>;

    /// Stops listening. May be called more than once.
    fn close(&mut self) -> BoxFuture<'_, Result<()>>;
}

/// What a wake-up knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Hint {
    /// Something will be ready soon, once a transaction that cannot be seen commits: poll in a burst.
    Soon,
    /// Something is ready.
    Ready,
}

/// Wakes the workers of this process that share a storage handle.
#[derive(Clone, Debug, Default)]
pub struct WakeHub(Arc<Mutex<Vec<Weak<Subscriber>>>>);

#[derive(Debug, Default)]
struct Subscriber {
    types: HashSet<EventType>,
    hint: Mutex<Option<Hint>>,
    signal: Notify,
    due: Mutex<Option<Duration>>,
    due_signal: Notify,
}

impl Subscriber {
    fn deliver(&self, hint: Hint) {
        let mut pending = lock(&self.hint);
        *pending = (*pending).max(Some(hint));
        drop(pending);
        self.signal.notify_one();
    }
}

impl WakeHub {
    /// Says that messages of `types` are ready.
    pub fn wake<'a>(&self, types: impl IntoIterator<Item = &'a EventType>) {
        self.deliver(types, Hint::Ready);
    }

    /// Says that messages of `types` will be ready once the caller's transaction commits.
    pub fn burst<'a>(&self, types: impl IntoIterator<Item = &'a EventType>) {
        self.deliver(types, Hint::Soon);
    }

    /// Says that a message will be due in `delay`, so that workers of this process promote it in time. The client calls
    /// this; a message scheduled by another process is found when the promoter next looks (2 s at most).
    pub fn scheduled(&self, delay: Duration) {
        for subscriber in self.subscribers() {
            let mut due = lock(&subscriber.due);
            *due = Some(due.map_or(delay, |known| known.min(delay)));
            drop(due);
            subscriber.due_signal.notify_one();
        }
    }

    /// Wakes every subscriber, whatever it listens for.
    pub fn wake_all(&self) {
        for subscriber in self.subscribers() {
            subscriber.deliver(Hint::Ready);
        }
    }

    /// Subscribes to wake-ups for `types`, until the answer is dropped.
    pub fn subscribe<'a>(&self, types: impl IntoIterator<Item = &'a EventType>) -> Wakeups {
        let subscriber = Arc::new(Subscriber { types: types.into_iter().cloned().collect(), ..Subscriber::default() });
        let mut all = lock(&self.0);
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&subscriber));
        Wakeups(subscriber)
    }

    fn deliver<'a>(&self, types: impl IntoIterator<Item = &'a EventType>, hint: Hint) {
        let mut waiting = self.subscribers();
        for event_type in types {
            if waiting.is_empty() {
                return;
            }
            waiting.retain(|subscriber| {
                let wanted = subscriber.types.contains(event_type);
                if wanted {
                    subscriber.deliver(hint);
                }
                !wanted
            });
        }
    }

    fn subscribers(&self) -> Vec<Arc<Subscriber>> {
        lock(&self.0).iter().filter_map(Weak::upgrade).collect()
    }
}

/// A subscription to a [`WakeHub`].
#[derive(Debug)]
pub struct Wakeups(Arc<Subscriber>);

impl Wakeups {
    /// Waits for the next hint; those that came meanwhile are one.
    pub async fn next(&self) -> Hint {
        loop {
            if let Some(hint) = self.take() {
                return hint;
            }
            self.0.signal.notified().await;
        }
    }

    /// Waits for a message to be scheduled; gives the shortest delay since the last call.
    pub async fn next_scheduled(&self) -> Duration {
        loop {
            if let Some(delay) = lock(&self.0.due).take() {
                return delay;
            }
            self.0.due_signal.notified().await;
        }
    }

    /// The pending hint, without waiting.
    pub fn take(&self) -> Option<Hint> {
        lock(&self.0.hint).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hints_coalesce_and_ready_wins_over_soon() {
        let hub = WakeHub::default();
        let order = EventType::new("order").unwrap();
        let wakeups = hub.subscribe([&order]);
        hub.wake([&order]);
        hub.burst([&order]);
        assert_eq!(wakeups.next().await, Hint::Ready);
        assert_eq!(wakeups.take(), None);
    }

    #[test]
    fn only_subscribers_of_the_type_are_woken() {
        let hub = WakeHub::default();
        let (order, mail) = (EventType::new("order").unwrap(), EventType::new("mail").unwrap());
        let (orders, mails) = (hub.subscribe([&order]), hub.subscribe([&mail]));
        hub.wake([&order]);
        assert_eq!((orders.take(), mails.take()), (Some(Hint::Ready), None));
    }
}
