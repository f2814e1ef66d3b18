//! Wakes workers when another process commits: a thread that looks at `PRAGMA data_version`.
//!
//! The number changes with every commit of any other connection, and looking at it reads one page of shared memory
//! (<https://www.sqlite.org/pragma.html#pragma_data_version>). The thread sleeps until somebody writes to the log ([`sight`]), and then
//! looks until the commit is there. A commit alone is no reason to wake anybody: on a busy database each worker would claim in
//! vain a hundred times a second. So a listener is only hinted when, since the last look, something was put into the queue (the
//! counter of places moved) and a row of one of its types is there.
//! What becomes due later is not seen: promoting makes it ready, and that is.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rusqlite::params;
use tickr_core::{BoxFuture, Error, ErrorKind, EventType, Listener, Notifier, Result};
use tickr_sql::sqlite::queue;
use tokio::sync::Notify;

use crate::config::{Builder, Settings};
use crate::connection::{self, Purpose};
use crate::door;
use crate::error::Fault;
use crate::file::Open;
use crate::pause::is_paused;
use crate::scope::Scope;
use crate::sight::{self, Bell, Log};

/// How often the thread looks while the log is being written again and again, or if it cannot see that.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The first pause after a write, of which each next one is twice as long.
const LOOK_FIRST: Duration = Duration::from_millis(1);
/// The longest pause between these looks.
const LOOK_LAST: Duration = Duration::from_millis(64);
/// How long it looks for the commit that a write belongs to, for a commit waits for the disk. That one was found does not end
/// it: it may be the one before. What takes longer is found by a look without a cause.
const LOOK_FOR: Duration = Duration::from_millis(250);
/// How often it looks without a cause.
const LOOK_SELDOM: Duration = Duration::from_secs(1);
const LANES: std::ops::RangeInclusive<i16> = 0..=4;

/// The notifier of one storage handle. Its thread runs while somebody listens.
pub(crate) struct SqliteNotifier {
    config: Builder,
    thread: Mutex<Option<Arc<Room>>>,
}

/// Where listeners and the thread meet.
#[derive(Debug)]
struct Room {
    bell: Bell,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    ears: Vec<Weak<Ear>>,
    /// Nobody comes any more: the notifier is gone, or the thread has ended.
    closed: bool,
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
        if let Some(room) = thread.as_ref().filter(|room| room.enter(&ear)) {
            return Ok(Box::new(SqliteListener { ear, bell: room.bell.clone() }));
        }
        let bell = Bell::new().map_err(|source| Error::new(ErrorKind::Unavailable, "cannot listen").with_source(source))?;
        let room = Arc::new(Room { bell: bell.clone(), guests: Mutex::default() });
        room.enter(&ear);
        let (config, entered) = (self.config.clone(), Arc::clone(&room));
        door::spawn("tickr-sqlite-notify", move || watch(&config, &entered))?;
        *thread = Some(room);
        Ok(Box::new(SqliteListener { ear, bell }))
    }
}

impl Drop for SqliteNotifier {
    fn drop(&mut self) {
        if let Some(room) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner) {
            room.guests().closed = true;
            room.bell.ring();
        }
    }
}

impl Room {
    fn guests(&self) -> std::sync::MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is still somebody who looks.
    fn enter(&self, ear: &Arc<Ear>) -> bool {
        let mut guests = self.guests();
        if !guests.closed {
            guests.ears.push(Arc::downgrade(ear));
            self.bell.ring();
        }
        !guests.closed
    }

    /// Those who still listen; `None` when nobody does nor will.
    fn listeners(&self) -> Option<Vec<Arc<Ear>>> {
        let mut guests = self.guests();
        guests.ears.retain(|ear| ear.upgrade().is_some_and(|ear| !ear.is_closed()));
        let listeners: Vec<_> = guests.ears.iter().filter_map(Weak::upgrade).collect();
        (!guests.closed || !listeners.is_empty()).then_some(listeners)
    }

    /// Tells listeners that the channel is broken; they listen anew.
    fn break_off(&self, broken: &str) {
        for ear in std::mem::take(&mut self.guests().ears).iter().filter_map(Weak::upgrade) {
            ear.change(|state| state.broken = Some(broken.to_owned()));
        }
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
struct SqliteListener {
    ear: Arc<Ear>,
    bell: Bell,
}

impl Drop for SqliteListener {
    /// The thread has nothing to do for it any more, and may end.
    fn drop(&mut self) {
        self.ear.change(|state| state.closed = true);
        self.bell.ring();
    }
}

impl Listener for SqliteListener {
    fn next(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            loop {
                if let Some(result) = self.ear.take() {
                    return result;
                }
                self.ear.signal.notified().await;
            }
        })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<()>> {
        self.ear.change(|state| state.closed = true);
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
fn watch(config: &Builder, room: &Room) {
    let _last = Last(room);
    match Open::new(config, Purpose::Read) {
        Ok(open) => Watcher::new(open, config).run(room),
        Err(error) => room.break_off(&error.during("listen").to_string()),
    }
}

/// However the thread ends, whoever listens anew has another one started.
struct Last<'r>(&'r Room);

impl Drop for Last<'_> {
    fn drop(&mut self) {
        self.0.guests().closed = true;
        self.0.break_off("listen: the thread that looked has ended");
    }
}

/// What lives on the thread.
struct Watcher {
    open: Open,
    settings: Settings,
    busy_timeout: Duration,
    data_version: i64,
    last_seq: i64,
    /// Absent where writes cannot be seen.
    log: Option<Log>,
}

/// How often to look, by what was seen.
#[derive(Debug, Default)]
struct Rhythm {
    written_at: Option<Instant>,
    pause: Duration,
}

impl Rhythm {
    fn written(&mut self, now: Instant) {
        self.pause = if self.is_awake(now) { self.pause.min(LOOK_EVERY) } else { LOOK_FIRST };
        self.written_at = Some(now);
    }

    /// How long to wait before the next look; `None` when nothing is looked for.
    fn next_pause(&mut self, now: Instant) -> Option<Duration> {
        let next = (self.pause * 2).min(LOOK_LAST);
        self.is_awake(now).then(|| std::mem::replace(&mut self.pause, next))
    }

    fn is_awake(&self, now: Instant) -> bool {
        self.written_at.is_some_and(|at| now - at < LOOK_FOR)
    }
}

impl Watcher {
    fn new(open: Open, config: &Builder) -> Self {
        Self { open, settings: config.settings.clone(), busy_timeout: config.busy_timeout, data_version: -1, last_seq: -1, log: None }
    }

    /// Runs while somebody listens or the notifier is there.
    fn run(mut self, room: &Room) {
        if let Err(error) = connection::wait_for_locks(&mut self.open.connection, self.busy_timeout) {
            tracing::warn!(%error, "the busy handler cannot be set");
        }
        let mut rhythm = Rhythm::default();
        while let Some(nobody) = room.listeners().map(|listeners| listeners.is_empty()) {
            if nobody {
                sight::wait(&room.bell, None, None);
                continue;
            }
            if !self.open.file.is_current() {
                // Those who listen again do so on the new file.
                break;
            }
            if let Err(fault) = self.look(room) {
                room.break_off(&fault.during("listen").to_string());
            }
            self.pause(&mut rhythm, &room.bell);
        }
        connection::close(self.open.connection);
    }

    /// Waits for the time of the next look.
    fn pause(&mut self, rhythm: &mut Rhythm, bell: &Bell) {
        let Some(log) = &self.log else {
            // The file is there once it was looked at.
            self.log = self.open.connection.path().and_then(|path| Log::watch(Path::new(&format!("{path}-wal"))).ok());
            if self.log.is_none() {
                sight::wait(bell, None, Some(LOOK_EVERY));
            }
            // Before it was watched somebody may have written what is not committed yet.
            rhythm.written(door::now());
            return;
        };
        let pause = rhythm.next_pause(door::now());
        if let Some(pause) = pause {
            // Not cut short by every further write.
            sight::wait(bell, None, Some(pause));
        }
        if sight::wait(bell, Some(log), Some(pause.map_or(LOOK_SELDOM, |_| Duration::ZERO))) {
            rhythm.written(door::now());
        }
    }

    /// Hints those for whom something came.
    fn look(&mut self, room: &Room) -> Result<(), Fault> {
        let data_version = self.open.connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
        if data_version == self.data_version {
            return Ok(());
        }
        self.data_version = data_version;
        let scope = Scope::new(&self.open.connection, &self.settings);
        let last_seq = scope.prepare(queue::LAST_SEQ)?.query_row([], |row| row.get(0))?;
        if last_seq == self.last_seq {
            return Ok(());
        }
        self.last_seq = last_seq;
        // Whoever begins to listen after this finds what is there by the claim that follows.
        for ear in room.listeners().unwrap_or_default() {
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
            if scope.asks(queue::HAS_READY, params![event_type.as_str(), lane])? && !is_paused(scope, event_type)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_write_after_silence_is_looked_for_soon_and_then_seldomer() {
        let (mut rhythm, start) = (Rhythm::default(), door::now());
        assert_eq!(rhythm.next_pause(start), None, "nothing was written");
        rhythm.written(start);
        let pauses: Vec<_> = (0..8).filter_map(|_| rhythm.next_pause(start)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64].map(ms));
        assert_eq!(rhythm.next_pause(start + LOOK_FOR), None);
        rhythm.written(start + LOOK_FOR);
        assert_eq!(rhythm.next_pause(start + LOOK_FOR), Some(LOOK_FIRST));
    }

    #[test]
    fn under_load_not_every_write_is_looked_for() {
        let (mut rhythm, mut now) = (Rhythm::default(), door::now());
        rhythm.written(now);
        while rhythm.next_pause(now) != Some(LOOK_LAST) {}
        for _ in 0..100 {
            now += ms(3);
            rhythm.written(now);
            assert_eq!(rhythm.next_pause(now), Some(LOOK_EVERY));
        }
    }
}
