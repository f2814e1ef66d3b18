//! Wakes workers when another process commits: a thread that looks at `PRAGMA data_version`.
//!
//! The number changes with every commit of any other connection, and looking at it reads one page of shared memory
//! (<https://www.sqlite.org/pragma.html#pragma_data_version>). A commit alone is no reason to wake anybody: on a busy
//! database each worker would claim in vain a hundred times a second. So a listener is only hinted when, since the last
//! look, something was put into the queue (the counter of places moved) and a row of one of its types is there.
//! What becomes due later is not seen: promoting makes it ready, and that is.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rusqlite::{Connection, params};
use tickr_core::{BoxFuture, Error, ErrorKind, EventType, Listener, Notifier, Result};
use tickr_sql::sqlite::queue;
use tokio::sync::Notify;

use crate::config::{Builder, Settings};
use crate::connection::{self, Purpose};
use crate::door;
use crate::error::Fault;
use crate::scope::Scope;

/// How often the thread looks: a wake-up takes half of it on average.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LANES: std::ops::RangeInclusive<i16> = 0..=4;

/// The notifier of one storage handle. Its thread runs while somebody listens.
pub(crate) struct SqliteNotifier {
    config: Builder,
    thread: Mutex<Option<Sender<Weak<Ear>>>>,
}

/// What a listener waits on.
#[derive(Debug)]
struct Ear {
    event_types: Vec<EventType>,
    signal: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    hinted: bool,
    broken: Option<String>,
    closed: bool,
}

impl SqliteNotifier {
    pub(crate) const fn new(config: Builder) -> Self {
        Self { config, thread: Mutex::new(None) }
    }

    fn start_listening(&self, event_types: &[EventType]) -> Result<Box<dyn Listener>> {
        let ear = Arc::new(Ear { event_types: event_types.to_vec(), signal: Notify::new(), state: Mutex::default() });
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let running = thread.as_ref().is_some_and(|ears| ears.send(Arc::downgrade(&ear)).is_ok());
        if !running {
            let (ears, queue) = channel();
            let config = self.config.clone();
            // Cannot fail: the other end is still here.
            drop(ears.send(Arc::downgrade(&ear)));
            door::spawn("tickr-sqlite-notify", move || watch(&config, &queue))?;
            *thread = Some(ears);
        }
        Ok(Box::new(SqliteListener(ear)))
    }
}

impl fmt::Debug for SqliteNotifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteNotifier").field("path", &self.config.path).finish_non_exhaustive()
    }
}

impl Notifier for SqliteNotifier {
    fn listen<'a>(&'a self, event_types: &'a [EventType]) -> BoxFuture<'a, Result<Box<dyn Listener>>> {
        Box::pin(std::future::ready(self.start_listening(event_types)))
    }

    /// Nothing to do: the commit itself is what others see.
    fn notify<'a>(&'a self, _event_types: &'a [EventType]) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

#[derive(Debug)]
struct SqliteListener(Arc<Ear>);

impl Listener for SqliteListener {
    fn next(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            loop {
                if let Some(result) = self.0.take() {
                    return result;
                }
                self.0.signal.notified().await;
            }
        })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<()>> {
        self.0.change(|state| state.closed = true);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Ear {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.signal.notify_one();
    }

    fn take(&self) -> Option<Result<()>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Some(Err(Error::new(ErrorKind::Closed, "the listener was closed")));
        }
        if let Some(text) = state.broken.take() {
            state.closed = true;
            return Some(Err(Error::new(ErrorKind::Unavailable, text)));
        }
        std::mem::take(&mut state.hinted).then_some(Ok(()))
    }

    fn is_closed(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed
    }
}

/// The thread. Opening the file is its business too: whoever starts to listen never waits for it.
fn watch(config: &Builder, queue: &Receiver<Weak<Ear>>) {
    match connection::open(config, Purpose::Read) {
        Ok(connection) => Watcher::new(connection, config).run(queue),
        Err(error) => tell(queue.try_iter(), &error.during("listen").to_string()),
    }
}

/// Tells listeners that the channel is broken; they listen anew, which starts another thread.
fn tell(ears: impl Iterator<Item = Weak<Ear>>, broken: &str) {
    for ear in ears.filter_map(|ear| ear.upgrade()) {
        ear.change(|state| state.broken = Some(broken.to_owned()));
    }
}

/// What lives on the thread.
struct Watcher {
    connection: Connection,
    settings: Settings,
    busy_timeout: Duration,
    data_version: i64,
    last_seq: i64,
}

impl Watcher {
    fn new(connection: Connection, config: &Builder) -> Self {
        Self { connection, settings: config.settings.clone(), busy_timeout: config.busy_timeout, data_version: -1, last_seq: -1 }
    }

    /// Runs while somebody listens or the notifier is there.
    fn run(mut self, queue: &Receiver<Weak<Ear>>) {
        let mut ears: Vec<Weak<Ear>> = Vec::new();
        if let Err(error) = connection::wait_for_locks(&mut self.connection, self.busy_timeout) {
            tracing::warn!(%error, "the busy handler cannot be set");
        }
        loop {
            let heard =
                if ears.is_empty() { queue.recv().map_err(|_| RecvTimeoutError::Disconnected) } else { queue.recv_timeout(LOOK_EVERY) };
            match heard {
                // Whatever is there already is found by the claim that follows the start of listening.
                Ok(ear) => ears.push(ear),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if ears.is_empty() => return connection::close(self.connection),
                Err(RecvTimeoutError::Disconnected) => door::sleep(LOOK_EVERY),
            }
            ears.retain(|ear| ear.upgrade().is_some_and(|ear| !ear.is_closed()));
            if ears.is_empty() {
                continue;
            }
            if let Err(fault) = self.look(&ears) {
                tell(ears.drain(..), &fault.during("listen").to_string());
            }
        }
    }

    fn look(&mut self, ears: &[Weak<Ear>]) -> Result<(), Fault> {
        let data_version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
        if data_version == self.data_version {
            return Ok(());
        }
        self.data_version = data_version;
        let scope = Scope::new(&self.connection, &self.settings);
        let last_seq = scope.prepare(queue::LAST_SEQ)?.query_row([], |row| row.get(0))?;
        if last_seq == self.last_seq {
            return Ok(());
        }
        self.last_seq = last_seq;
        for ear in ears.iter().filter_map(Weak::upgrade) {
            if has_work(&scope, &ear.event_types)? {
                ear.change(|state| state.hinted = true);
            }
        }
        Ok(())
    }
}

fn has_work(scope: &Scope<'_>, event_types: &[EventType]) -> Result<bool, Fault> {
    for event_type in event_types {
        for lane in LANES {
            if scope.asks(queue::HAS_READY, params![event_type.as_str(), lane])? && !scope.asks(queue::IS_PAUSED, [event_type.as_str()])? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
