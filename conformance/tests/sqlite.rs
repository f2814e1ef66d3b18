//! tickr-sqlite under the suite: a temporary file per case, WAL and full durability as by default.
#![allow(clippy::unwrap_used, reason = "a harness is part of a test")]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use rusqlite::{Connection, Savepoint, Transaction, TransactionBehavior};
use tempfile::TempDir;
use tickr_conformance::{Harness, Sabotage, TxReport, TxStep};
use tickr_core::{
    AnyAdmin, BoxError, ClockOffset, EnqueueIn, Enqueued, Error, ErrorKind, InspectIn, NewMessage, Result, Retry, Storage, StoredMessage,
};
use tickr_sqlite::SqliteStorage;

#[derive(Debug)]
struct Sqlite {
    storage: SqliteStorage,
    clock: ClockOffset,
    path: PathBuf,
    /// Removed with its files when dropped.
    folder: Mutex<Option<TempDir>>,
}

impl Sqlite {
    fn open(path: &std::path::Path, clock: &ClockOffset) -> Result<SqliteStorage> {
        SqliteStorage::builder().path(path).clock_offset(clock.clone()).build()
    }

    /// The application's own connection.
    fn application(&self) -> Result<Connection> {
        let connection = Connection::open(&self.path).map_err(refused)?;
        connection.busy_timeout(Duration::from_secs(2)).map_err(refused)?;
        Ok(connection)
    }
}

impl Harness for Sqlite {
    async fn create() -> Result<Self, BoxError> {
        let sqlite = Self::create_unmigrated().await?;
        sqlite.storage.migrate().await?;
        Ok(sqlite)
    }

    async fn create_unmigrated() -> Result<Self, BoxError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("tickr.sqlite");
        let clock = ClockOffset::default();
        let storage = Self::open(&path, &clock)?;
        let sqlite = Self { storage, clock, path, folder: Mutex::new(Some(folder)) };
        sqlite.application()?.execute_batch("CREATE TABLE business (row TEXT NOT NULL)")?;
        Ok(sqlite)
    }

    fn storage(&self) -> AnyAdmin {
        AnyAdmin::new(self.storage.clone())
    }

    async fn connect(&self) -> Result<AnyAdmin, BoxError> {
        Ok(AnyAdmin::new(Self::open(&self.path, &self.clock)?))
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn set_back(&self, by: Duration) {
        self.clock.set_back(by);
    }

    async fn version(&self) -> String {
        rusqlite::version().to_owned()
    }

    fn keep(&self) -> Option<String> {
        let folder = self.folder.lock().unwrap().take()?;
        Some(folder.keep().display().to_string())
    }

    async fn run_tx(&self, steps: Vec<TxStep>) -> Result<Vec<TxReport>> {
        let (storage, mut connection) = (self.storage.clone(), self.application()?);
        // rusqlite blocks, and its transaction stays on one thread.
        let script = move || {
            let mut tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(refused)?;
            let mut script = Script { storage, steps: steps.into(), reports: Vec::new() };
            if script.run(&mut tx)? {
                tx.commit().map_err(refused)?;
            }
            Ok(script.reports)
        };
        match tokio::task::spawn_blocking(script).await {
            Ok(reports) => reports,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    async fn business_rows(&self) -> Result<Vec<String>> {
        let read = |connection: &Connection| -> rusqlite::Result<Vec<String>> {
            let mut statement = connection.prepare("SELECT row FROM business")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        read(&self.application()?).map_err(refused)
    }

    async fn sabotage(&self, damage: Sabotage) -> Result<()> {
        let found = match damage {
            Sabotage::RemoveReady(id) => self.storage.sabotage_remove_ready(id).await?,
            Sabotage::RemoveBody(id) => self.storage.sabotage_remove_body(id).await?,
            Sabotage::MakeUnreadable(id) => self.storage.sabotage_make_unreadable(id).await?,
            other => return Err(Error::new(ErrorKind::Unsupported, format!("{other:?} is not known here"))),
        };
        if found { Ok(()) } else { Err(Error::new(ErrorKind::NotFound, format!("{damage:?}: there is no such row"))) }
    }
}

/// What SQLite says to the application itself.
fn refused(error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    let retry = if kind == ErrorKind::Unavailable { Retry::Transaction } else { Retry::Never };
    Error::new(kind, error.to_string()).with_retry(retry).with_source(error)
}

struct Script {
    storage: SqliteStorage,
    steps: VecDeque<TxStep>,
    reports: Vec<TxReport>,
}

/// What a script runs in: a transaction, or a savepoint in it.
trait Level {
    fn enqueue(&mut self, storage: &SqliteStorage, batch: &[NewMessage]) -> Result<Vec<Enqueued>>;
    fn messages(&mut self, storage: &SqliteStorage, event_type: &str) -> Result<Vec<StoredMessage>>;
    fn connection(&self) -> &Connection;
    fn savepoint(&mut self) -> rusqlite::Result<Savepoint<'_>>;
}

macro_rules! level {
    ($transaction:ty) => {
        impl Level for $transaction {
            fn enqueue(&mut self, storage: &SqliteStorage, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
                storage.enqueue_in(self, batch).now_or_never().expect("the work is done before the future exists")
            }

            fn messages(&mut self, storage: &SqliteStorage, event_type: &str) -> Result<Vec<StoredMessage>> {
                storage.messages_in(self, event_type).now_or_never().expect("the work is done before the future exists")
            }

            fn connection(&self) -> &Connection {
                self
            }

            fn savepoint(&mut self) -> rusqlite::Result<Savepoint<'_>> {
                self.savepoint()
            }
        }
    };
}

level!(Transaction<'_>);
level!(Savepoint<'_>);

impl Script {
    /// Runs to the end of a transaction or a savepoint; says whether to keep it.
    fn run(&mut self, level: &mut impl Level) -> Result<bool> {
        while let Some(step) = self.steps.pop_front() {
            match step {
                TxStep::Enqueue(batch) => self.reports.push(TxReport::Enqueued(level.enqueue(&self.storage, &batch)?)),
                TxStep::Inspect(name) => self.reports.push(TxReport::Seen(level.messages(&self.storage, &name)?)),
                TxStep::Business(row) => {
                    level.connection().execute("INSERT INTO business VALUES (?1)", [row]).map_err(refused)?;
                }
                TxStep::Pause(point) => point.pause_blocking(),
                TxStep::Savepoint => {
                    let mut savepoint = level.savepoint().map_err(refused)?;
                    if self.run_savepoint(&mut savepoint)? {
                        savepoint.commit().map_err(refused)?;
                    }
                }
                TxStep::Commit | TxStep::ReleaseSavepoint => return Ok(true),
                TxStep::Rollback | TxStep::RollbackToSavepoint => return Ok(false),
            }
        }
        Ok(false)
    }

    fn run_savepoint(&mut self, savepoint: &mut Savepoint<'_>) -> Result<bool> {
        self.run(savepoint)
    }
}

tickr_conformance::suite!(Sqlite);
