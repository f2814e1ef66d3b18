//! A meeting point of a script and a case.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// One side says that it has arrived and waits; the other waits for that, acts, and sends it on.
///
/// The waiting side may be a task ([`pause`](Self::pause)) or a blocking thread ([`pause_blocking`](Self::pause_blocking)).
/// Clones are the same meeting point. It is used once.
#[derive(Clone, Debug, Default)]
pub struct Rendezvous(Arc<Point>);

#[derive(Debug, Default)]
struct Point {
    state: Mutex<State>,
    changed: Notify,
    changed_blocking: Condvar,
}

#[derive(Debug, Default)]
struct State {
    arrived: bool,
    sent_on: bool,
}

/// Longer than any case may take: a thread that nobody sends on must not outlive the test.
const PATIENCE: Duration = Duration::from_secs(120);

impl Rendezvous {
    /// A new meeting point.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that the caller is here, and waits to be sent on.
    pub async fn pause(&self) {
        self.change(|state| state.arrived = true);
        self.until(|state| state.sent_on).await;
    }

    /// As [`pause`](Self::pause), from a thread that may block.
    ///
    /// # Panics
    /// When nobody sends the caller on for two minutes.
    pub fn pause_blocking(&self) {
        self.change(|state| state.arrived = true);
        let (state, timeout) = self
            .0
            .changed_blocking
            .wait_timeout_while(self.state(), PATIENCE, |state| !state.sent_on)
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        assert!(!timeout.timed_out(), "nobody sent the script on");
    }

    /// Waits until the other side is here.
    pub async fn arrived(&self) {
        self.until(|state| state.arrived).await;
    }

    /// Sends the other side on, now or as soon as it arrives.
    pub fn send_on(&self) {
        self.change(|state| state.sent_on = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.0.changed.notify_waiters();
        self.0.changed_blocking.notify_all();
    }

    async fn until(&self, reached: impl Fn(&State) -> bool) {
        loop {
            // Made before the look: a change between the look and the wait is not missed.
            let changed = self.0.changed.notified();
            if reached(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
