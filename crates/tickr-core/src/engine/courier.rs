//! Threads of their own for callbacks of the application that the engine does not wait for: metrics and `on_dead`.
//!
//! A callback may block its thread or never return; the engine's loops and the application's runtime must not notice. A courier
//! keeps a bounded queue and one thread that calls back in the order of the queue, within the application's runtime, so that a
//! callback may spawn tasks on it. The thread starts with the first item and ends with the courier. Panics are caught and logged.
//!
//! What bounds the damage: the queue drops what comes while it is full, and logs how much; a callback that takes longer than
//! [`CALLBACK_MAX`] loses its thread, and another one goes on with the queue, [`THREADS_MAX`] times; the end of the run waits a
//! bounded time and then drops what is left.
//!
//! Under a clock that a test may pause there are no threads: the callback is called at once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::lock;
use crate::door::clock::{self, Tick};
use crate::door::{Clock, task};
use crate::panic::caught;

/// How long one callback may take before the queue goes on without it.
const CALLBACK_MAX: Duration = Duration::from_secs(30);
/// How many threads one courier loses to callbacks that do not return; then its queue stands still.
const THREADS_MAX: u32 = 4;

/// How a courier works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The thread's name, also in logs.
    pub(super) name: &'static str,
    /// How many items may wait.
    pub(super) queue_max: usize,
    /// How many items are taken from the queue at a time. What is taken is lost with the thread.
    pub(super) at_once: usize,
    /// How long the thread lets items collect before it takes more.
    pub(super) linger: Duration,
}

/// Calls back, from a thread of its own.
pub(super) struct Courier<T: Send + 'static> {
    post: Arc<Post<T>>,
    is_inline: bool,
}

struct Post<T> {
    terms: Terms,
    call: Box<dyn Fn(T) + Send + Sync>,
    inbox: Mutex<Inbox<T>>,
    /// Wakes the thread.
    filled: Condvar,
    /// Wakes those that wait until everything is delivered.
    emptied: Notify,
    /// The application's.
    runtime: Option<Handle>,
}

struct Inbox<T> {
    queue: VecDeque<T>,
    /// Which thread serves the queue; 0 before the first.
    thread: u32,
    /// Since when the thread is away with items.
    away_since: Option<Tick>,
    /// The thread sleeps until it is woken.
    asleep: bool,
    closed: bool,
    dropped: u64,
}

impl<T> Inbox<T> {
    fn push(&mut self, item: T, terms: &Terms) {
        if self.queue.len() < terms.queue_max {
            return self.queue.push_back(item);
        }
        self.dropped += 1;
        if self.dropped.is_power_of_two() {
            tracing::error!(thread = terms.name, dropped = self.dropped, "callbacks were dropped: too many are waiting");
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Courier<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier").field("terms", &self.post.terms).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Courier<T> {
    /// A courier for `call`; `clock` is the worker's.
    pub(super) fn new(terms: Terms, clock: Clock, call: impl Fn(T) + Send + Sync + 'static) -> Self {
        let inbox = Inbox { queue: VecDeque::new(), thread: 0, away_since: None, asleep: false, closed: false, dropped: 0 };
        let post = Post {
            terms,
            call: Box::new(call),
            inbox: Mutex::new(inbox),
            filled: Condvar::new(),
            emptied: Notify::new(),
            runtime: Handle::try_current().ok(),
        };
        Self { post: Arc::new(post), is_inline: clock.is_runtime() }
    }

    /// Hands over an item; never waits.
    pub(super) fn send(&self, item: T) {
        self.send_all([item]);
    }

    /// Hands over items, under one lock; never waits.
    pub(super) fn send_all(&self, items: impl IntoIterator<Item = T>) {
        let post = &self.post;
        if self.is_inline {
            return items.into_iter().for_each(|item| post.deliver(item));
        }
        let mut inbox = lock(&post.inbox);
        for item in items {
            inbox.push(item, &post.terms);
        }
        if inbox.queue.is_empty() {
            return;
        }
        if inbox.thread == 0 {
            post.start_thread(&mut inbox);
        } else if std::mem::take(&mut inbox.asleep) {
            drop(inbox);
            post.filled.notify_one();
        }
    }

    /// Goes on without a callback that takes too long. Called now and then.
    pub(super) fn tend(&self) {
        let post = &self.post;
        let mut inbox = lock(&post.inbox);
        let is_late = inbox.away_since.is_some_and(|since| Clock::Boot.now().since(since) >= CALLBACK_MAX);
        if is_late && inbox.thread <= THREADS_MAX {
            tracing::error!(thread = post.terms.name, "a callback takes longer than {CALLBACK_MAX:?}; the next ones go on without it");
            post.start_thread(&mut inbox);
        }
    }

    /// Waits until everything that was sent is delivered.
    pub(super) async fn delivered(&self) {
        loop {
            let emptied = self.post.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            {
                let inbox = lock(&self.post.inbox);
                if inbox.queue.is_empty() && inbox.away_since.is_none() {
                    return;
                }
            }
            emptied.await;
        }
    }

    /// Drops what is not delivered; gives how many items that were.
    pub(super) fn abandon(&self) -> usize {
        let mut inbox = lock(&self.post.inbox);
        let left = inbox.queue.len() + usize::from(inbox.away_since.is_some());
        inbox.queue.clear();
        left
    }
}

impl<T: Send + 'static> Drop for Courier<T> {
    /// The thread delivers what is left, and ends.
    fn drop(&mut self) {
        lock(&self.post.inbox).closed = true;
        self.post.filled.notify_one();
    }
}

impl<T: Send + 'static> Post<T> {
    fn deliver(&self, item: T) {
        if let Err(panic) = caught(|| (self.call)(item)) {
            tracing::error!(thread = self.terms.name, panic, "a callback panicked");
        }
    }

    /// Starts the next thread; the one before, if there is any, finds that it is not wanted any more.
    fn start_thread(self: &Arc<Self>, inbox: &mut Inbox<T>) {
        inbox.thread += 1;
        inbox.away_since = None;
        let (post, thread) = (Arc::clone(self), inbox.thread);
        let started = task::spawn_thread(self.terms.name, move || {
            let _within = post.runtime.as_ref().map(Handle::enter);
            post.serve(thread);
        });
        if let Err(error) = started {
            tracing::error!(%error, thread = self.terms.name, "there is no thread for callbacks; they are dropped");
            inbox.queue.clear();
            inbox.thread -= 1;
        }
    }

    fn serve(&self, thread: u32) {
        // The same two buffers again and again: growing them under the lock would delay the engine's loops.
        let mut items = VecDeque::new();
        while self.take(thread, &mut items) {
            items.drain(..).for_each(|item| self.deliver(item));
            if !self.terms.linger.is_zero() {
                clock::block(self.terms.linger);
            }
        }
    }

    /// Waits for items and moves them to `items`, which is empty; `false` when the thread has to end.
    fn take(&self, thread: u32, items: &mut VecDeque<T>) -> bool {
        let mut inbox = lock(&self.inbox);
        loop {
            if inbox.thread != thread {
                return false;
            }
            if !inbox.queue.is_empty() {
                inbox.away_since = Some(Clock::Boot.now());
                if inbox.queue.len() <= self.terms.at_once {
                    std::mem::swap(&mut inbox.queue, items);
                } else {
                    items.extend(inbox.queue.drain(..self.terms.at_once));
                }
                return true;
            }
            inbox.away_since = None;
            self.emptied.notify_waiters();
            if inbox.closed {
                return false;
            }
            inbox.asleep = true;
            inbox = self.filled.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const TERMS: Terms = Terms { name: "tickr-test", queue_max: 8, at_once: 1, linger: Duration::ZERO };

    /// A courier with three items, of which the first holds its thread until the sender is dropped. Items that are called arrive at
    /// the receiver.
    fn stuck() -> (Courier<u32>, mpsc::Sender<()>, mpsc::Receiver<u32>) {
        let (called, calls) = mpsc::channel();
        let (release, hold) = mpsc::channel::<()>();
        let hold = Mutex::new(hold);
        let courier = Courier::new(TERMS, Clock::Boot, move |item| {
            let _ = called.send(item);
            if item == 0 {
                let _ = lock(&hold).recv();
            }
        });
        (0..3).for_each(|item| courier.send(item));
        assert_eq!(calls.recv(), Ok(0));
        (courier, release, calls)
    }

    #[test]
    fn a_callback_that_takes_too_long_loses_its_thread_and_the_queue_goes_on() {
        let (courier, release, calls) = stuck();
        courier.tend();
        assert_eq!(lock(&courier.post.inbox).thread, 1, "it has just begun");
        lock(&courier.post.inbox).away_since = Some(Tick::ZERO);
        courier.tend();
        assert_eq!([calls.recv_timeout(CALLBACK_MAX), calls.recv_timeout(CALLBACK_MAX)], [Ok(1), Ok(2)]);
        drop(release);
    }

    #[test]
    fn what_is_abandoned_counts_the_callback_that_has_not_returned() {
        let (courier, release, _calls) = stuck();
        assert_eq!(courier.abandon(), 3);
        assert_eq!(courier.abandon(), 1);
        drop(release);
    }
}
