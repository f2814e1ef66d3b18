//! The proof's view of SQLite: an application on rusqlite, and tickr's tables read past the adapter.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, TransactionBehavior, params};
use tickr_core::protocol::Recorded;
use tickr_core::{Bits, EnqueueIn, Enqueued, MessageId, Retry, Timestamp, Token, Uuid};
use tickr_sqlite::{SqliteStorage, Synchronous};

use crate::database::{Application, Database, Receipt, Transacted, Transaction};
use crate::journal::{Body, Claim, Journal, Key, Member, Open, Settlement, Transition as Step};

/// A file.
#[derive(Clone, Debug)]
pub(crate) struct Sqlite {
    pub(crate) path: PathBuf,
    /// Whether every commit goes to the disk.
    pub(crate) durable: bool,
}

/// How long anybody waits for the write lock: less than a writer may be stopped, so that operations fail and are repeated.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

impl Database for Sqlite {
    type Storage = SqliteStorage;
    type Application = SqliteApplication;

    const LOSES_ANSWERS: bool = false;

    fn storage(&self) -> Result<SqliteStorage> {
        let synchronous = if self.durable { Synchronous::Full } else { Synchronous::Normal };
        Ok(SqliteStorage::builder().path(&self.path).synchronous(synchronous).busy_timeout(BUSY_TIMEOUT).build()?)
    }

    async fn prepare(&self) -> Result<()> {
        let connection = Connection::open(&self.path)?;
        let table = "CREATE TABLE crash_receipts (n INTEGER PRIMARY KEY, id BLOB NOT NULL, duplicate_of BLOB) STRICT";
        Ok(connection.execute_batch(table)?)
    }

    async fn application(&self) -> Result<SqliteApplication> {
        let connection = Connection::open(&self.path)?;
        connection.pragma_update(None, "synchronous", if self.durable { "FULL" } else { "NORMAL" })?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(SqliteApplication(connection))
    }

    async fn journal(&self) -> Result<Journal> {
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // One snapshot of all tables.
        connection.execute_batch("BEGIN")?;
        read_journal(&connection).context("cannot read the journal")
    }
}

/// A connection of rusqlite.
#[derive(Debug)]
pub(crate) struct SqliteApplication(Connection);

impl Application for SqliteApplication {
    type Storage = SqliteStorage;

    async fn transact(
        &mut self,
        storage: &SqliteStorage,
        message: &Transaction<'_>,
        mut before_end: impl FnMut() -> Result<()>,
    ) -> Result<Transacted> {
        let mut tx = match self.0.transaction_with_behavior(TransactionBehavior::Immediate) {
            Err(error) if is_busy(&error) => return Ok(Transacted::Again),
            tx => tx?,
        };
        let id = message.message.id();
        // A transaction that is repeated because its answer was lost finds its own receipt.
        let insert = "INSERT INTO crash_receipts (n, id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        let before = tx.execute(insert, params![message.n, blob(&id)])? == 0;
        let batch = std::slice::from_ref(message.message);
        // Both roads into a transaction.
        let enqueued =
            if message.n.is_multiple_of(2) { storage.enqueue_sync(&tx, batch) } else { storage.enqueue_in(&mut tx, batch).await };
        let enqueued = match enqueued {
            Err(error) if error.retry() == Retry::Transaction => return Ok(Transacted::Again),
            enqueued => *enqueued?.first().context("no answer for one message")?,
        };
        let duplicate_of = match enqueued {
            Enqueued::Stored { id: stored } => {
                ensure!(stored == id, "message {id} was stored as {stored}");
                None
            }
            Enqueued::Duplicate { existing } => Some(existing),
        };
        tx.execute("UPDATE crash_receipts SET duplicate_of = ?2 WHERE n = ?1", params![message.n, duplicate_of.as_ref().map(blob)])?;
        before_end()?;
        if message.rolls_back {
            tx.rollback()?;
            return Ok(Transacted::RolledBack);
        }
        match tx.commit() {
            Err(error) if is_busy(&error) => Ok(Transacted::Again),
            committed => {
                committed?;
                Ok(Transacted::Committed { receipt: Receipt { n: message.n, id, duplicate_of }, before })
            }
        }
    }

    async fn receipts(&mut self) -> Result<Vec<Receipt>> {
        rows(&self.0, "SELECT n, id, duplicate_of FROM crash_receipts ORDER BY n", |row| {
            let duplicate_of = row.get::<_, Option<Vec<u8>>>(2)?.map(|bytes| MessageId::from_slice(&bytes)).transpose()?;
            Ok(Receipt { n: row.get(0)?, id: message_id(row, 1)?, duplicate_of })
        })
    }

    async fn progress(&mut self) -> Result<i64> {
        let last = self.0.query_row("SELECT max(n) FROM tickr_settlements", [], |row| row.get::<_, Option<i64>>(0));
        Ok(last.optional()?.flatten().unwrap_or(0))
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked))
}

fn read_journal(connection: &Connection) -> Result<Journal> {
    let ids = |table: &str| rows(connection, &format!("SELECT id FROM {table}"), |row| message_id(row, 0));
    let claims = rows(connection, "SELECT token, worker, worker_name, solo, at, ids, attempts, maxes FROM tickr_claims ORDER BY n", claim)?;
    let settlements = rows(connection, "SELECT token, outcome, mask, at FROM tickr_settlements ORDER BY n", |row| {
        let (token, recorded, mask) = (token(row, 0)?, recorded(row, 1)?, row.get::<_, Vec<u8>>(2)?);
        // The real length is the claim's; a bit beyond it must not get lost before it is compared with that.
        let mask = Bits::from_bytes(u32::try_from(mask.len() * 8)?, &mask);
        Ok(Settlement { token, recorded, mask, at: timestamp(row, 3)? })
    })?;
    let transitions = rows(connection, "SELECT id, token, outcome, attempt FROM tickr_transitions ORDER BY n", |row| {
        let token = row.get::<_, Option<Vec<u8>>>(1)?.map(|bytes| Token::from_slice(&bytes)).transpose()?;
        Ok(Step { id: message_id(row, 0)?, token, recorded: recorded(row, 2)?, attempt: row.get(3)? })
    })?;
    Ok(Journal {
        bodies: rows(connection, "SELECT id, event_type, payload, idempotency_key, scheduled_at FROM tickr_messages", |row| {
            Ok(Body {
                id: message_id(row, 0)?,
                event_type: row.get(1)?,
                payload: row.get(2)?,
                key: row.get(3)?,
                scheduled_at: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_micros),
            })
        })?,
        ready: ids("tickr_ready")?,
        scheduled: ids("tickr_scheduled")?,
        dead: ids("tickr_dead")?,
        claims,
        open: rows(connection, "SELECT token, members, settled, revoked FROM tickr_open_claims", |row| {
            let (members, settled, revoked) = (row.get(1)?, row.get::<_, Vec<u8>>(2)?, row.get::<_, Vec<u8>>(3)?);
            Ok(Open { token: token(row, 0)?, settled: Bits::from_bytes(members, &settled), revoked: Bits::from_bytes(members, &revoked) })
        })?,
        settlements,
        transitions,
        keys: rows(connection, "SELECT event_type, key, id FROM tickr_dedupe", |row| {
            Ok(Key { event_type: row.get(0)?, key: row.get(1)?, id: message_id(row, 2)? })
        })?,
    })
}

fn claim(row: &Row<'_>) -> Result<Claim> {
    let ids: Vec<u8> = row.get(5)?;
    let ids = ids.chunks(16).map(|id| Ok(MessageId::from_slice(id)?)).collect::<Result<Vec<_>>>()?;
    let (attempts, maxes) = (numbers(row, 6, ids.len())?, numbers(row, 7, ids.len())?);
    let members = ids.into_iter().zip(attempts).zip(maxes);
    Ok(Claim {
        token: token(row, 0)?,
        worker: Uuid::from_slice(&row.get::<_, Vec<u8>>(1)?)?,
        worker_name: row.get(2)?,
        solo: row.get(3)?,
        at: timestamp(row, 4)?,
        members: members.map(|((id, attempt), max_attempts)| Member { id, attempt, max_attempts }).collect(),
    })
}

/// A list of little-endian numbers of 16 bits, one a member, or one for all.
fn numbers(row: &Row<'_>, column: usize, members: usize) -> Result<Vec<u16>> {
    let bytes: Vec<u8> = row.get(column)?;
    let numbers: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    match numbers[..] {
        [all] => Ok(vec![all; members]),
        _ => {
            ensure!(numbers.len() == members, "a claim of {members} members has {} numbers", numbers.len());
            Ok(numbers)
        }
    }
}

fn rows<T>(connection: &Connection, sql: &str, mut read: impl FnMut(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}

fn blob(id: &MessageId) -> &[u8] {
    id.as_bytes()
}

fn message_id(row: &Row<'_>, column: usize) -> Result<MessageId> {
    Ok(MessageId::from_slice(&row.get::<_, Vec<u8>>(column)?)?)
}

fn token(row: &Row<'_>, column: usize) -> Result<Token> {
    Ok(Token::from_slice(&row.get::<_, Vec<u8>>(column)?)?)
}

fn recorded(row: &Row<'_>, column: usize) -> Result<Recorded> {
    let word: String = row.get(column)?;
    Recorded::parse(&word).with_context(|| format!("the journal has the outcome {word:?}"))
}

fn timestamp(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    Ok(Timestamp::from_micros(row.get(column)?))
}
