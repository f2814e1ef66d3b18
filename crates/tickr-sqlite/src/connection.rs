//! Opening connections, and waiting for locks.

use std::cell::Cell;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tickr_core::{Error, ErrorKind, Result};

use crate::config::{Builder, OpenMode, Synchronous};
use crate::door;
use crate::error::{Fault, classify};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Write,
}

/// More statements than the adapter has, so that each is prepared once a connection.
const STATEMENTS_MAX: usize = 128;
/// Pages kept in memory, in KiB: the inner pages of the tables and what was written last.
const CACHE_KIB: i64 = 8 << 10;
/// The log is copied back into the database after this many pages (8 MiB). Between 1,000 and 10,000 it made no measurable
/// difference, nor did the cache between 2 and 64 MiB.
const CHECKPOINT_PAGES: i64 = 2_000;
/// A log that grew larger than this is cut when it is begun anew.
const LOG_BYTES_MAX: i64 = 48 << 20;

/// Opens a connection. Waiting for locks is left to [`wait_for_locks`], on the thread that will use it.
pub(crate) fn open(config: &Builder, purpose: Purpose) -> Result<Connection> {
    let flags = match config.mode {
        OpenMode::Create => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        OpenMode::ReadWrite => OpenFlags::SQLITE_OPEN_READ_WRITE,
        OpenMode::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let path = &config.path;
    let named = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::CannotOpen) => {
            let text = format!("cannot open the database file {}: {}", path.display(), cannot_open(path, config.mode));
            Error::config(text).with_source(error)
        }
        _ => classify(error).during(&format!("database file {}", path.display())),
    };
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(named)?;
    connection.busy_timeout(config.busy_timeout).map_err(named)?;
    if config.mode != OpenMode::ReadOnly {
        refuse_read_only(&connection, path)?;
        set_write_ahead_log(&connection, config).map_err(|fault| match fault {
            Fault::Sqlite(error) => named(error),
            Fault::Tickr(error) => error,
        })?;
    }
    configure(&connection, config, purpose).map_err(named)?;
    Ok(connection)
}

/// Why a file cannot be opened: SQLite has one code for all reasons.
fn cannot_open(path: &Path, mode: OpenMode) -> String {
    let folder = path.parent().unwrap_or(path);
    if path.is_dir() {
        "it is a folder; name a file in it".to_owned()
    } else if !folder.is_dir() {
        format!("the folder {} does not exist; make it first", folder.display())
    } else if path.exists() {
        "this process may not read it, or may not make files beside it".to_owned()
    } else if mode == OpenMode::Create {
        format!("it does not exist, and this process may not make files in {}", folder.display())
    } else {
        "it does not exist; only the mode `rwc` (the default) makes it".to_owned()
    }
}

/// SQLite opens a file that it may not write for reading, without a word.
fn refuse_read_only(connection: &Connection, path: &Path) -> Result<()> {
    match connection.is_readonly("main") {
        Ok(false) => Ok(()),
        Ok(true) => {
            Err(Error::config(format!("database file {} is read-only for this process; mode=ro opens it for reading", path.display())))
        }
        Err(error) => Err(classify(error)),
    }
}

/// Switches on the write-ahead log, which stays on. It needs the file alone for a moment, and SQLite does not wait for
/// that by itself: <https://www.sqlite.org/wal.html>.
fn set_write_ahead_log(connection: &Connection, config: &Builder) -> Result<(), Fault> {
    let deadline = door::now() + config.busy_timeout;
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                let text = format!("{} cannot use a write-ahead log (journal mode {mode}): is it on a network?", config.path.display());
                return Err(Error::new(ErrorKind::Unsupported, text).into());
            }
            Err(error) if is_busy(&error) && door::now() < deadline => door::sleep(door::jittered(Duration::from_millis(4))),
            Err(error) => return Err(error.into()),
        }
    }
}

fn configure(connection: &Connection, config: &Builder, purpose: Purpose) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    if purpose == Purpose::Read {
        return connection.pragma_update(None, "query_only", true);
    }
    let synchronous = match config.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    if let Some(pages) = config.max_page_count {
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    Ok(())
}

/// Closes one connection after the other. The last one of a file copies the log back and removes it, and two that close at
/// the same moment would each take the other for a reason not to.
pub(crate) fn close(connection: Connection) {
    static CLOSING: Mutex<()> = Mutex::new(());
    let one_at_a_time = CLOSING.lock().unwrap_or_else(PoisonError::into_inner);
    drop(connection);
    drop(one_at_a_time);
}

pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked))
}

thread_local! {
    /// How long this thread waits for a lock, and since when it does. rusqlite's handler has no state of its own, and each
    /// connection lives on a thread of its own.
    static PATIENCE: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static WAITING_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Makes this thread's connection wait for locks with short, random pauses.
///
/// SQLite's own handler backs off to 100 ms, and whoever waits longest looks least often: under several busy processes
/// it starves. Here everyone looks about as often as everyone else.
pub(crate) fn wait_for_locks(connection: &mut Connection, timeout: Duration) -> rusqlite::Result<()> {
    set_patience(timeout);
    connection.busy_handler(Some(keep_waiting))
}

/// Changes how long this thread's connection waits.
pub(crate) fn set_patience(timeout: Duration) {
    PATIENCE.set(timeout);
}

fn keep_waiting(looked: i32) -> bool {
    let now = door::now();
    if looked == 0 {
        WAITING_SINCE.set(Some(now));
    }
    let since = WAITING_SINCE.get().unwrap_or(now);
    if now.duration_since(since) >= PATIENCE.get() {
        return false;
    }
    let pause_us = match now.duration_since(since).as_millis() {
        0..10 => 150,
        10..1_000 => 500,
        // Whoever holds the lock for this long was stopped.
        _ => 2_000,
    };
    door::sleep(door::jittered(Duration::from_micros(pause_us)));
    true
}

/// Begins a transaction that reads one snapshot, or one that holds the write lock from the start: a deferred one that
/// begins to write later is refused at once, whatever the timeout (<https://www.sqlite.org/isolation.html>).
pub(crate) const fn behavior(purpose: Purpose) -> TransactionBehavior {
    match purpose {
        Purpose::Read => TransactionBehavior::Deferred,
        Purpose::Write => TransactionBehavior::Immediate,
    }
}
