//! What a job works with: a connection inside a transaction, the time, and the rows that every operation writes.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use tickr_core::protocol::{Recorded, Waiting};
use tickr_core::{Bits, EventType, MessageId, Timestamp, Token};
use tickr_sql::sqlite::{enqueue, queue};

use crate::config::Settings;
use crate::error::Fault;
use crate::row;

/// Places in the queue that are reserved, and the statement that fills them.
pub(crate) struct Places<'c> {
    insert: CachedStatement<'c>,
    next: i64,
    left: usize,
}

/// Whether a message is at that place already: the primary key of ready.
fn is_place_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY)
}

/// A transaction in progress.
#[derive(Debug)]
pub(crate) struct Scope<'c> {
    connection: &'c Connection,
    settings: &'c Settings,
    /// The database's clock, read once inside the transaction: this machine's, plus the offset of tests.
    now: Timestamp,
    made_ready: Vec<EventType>,
}

impl<'c> Scope<'c> {
    pub(crate) fn new(connection: &'c Connection, settings: &'c Settings) -> Self {
        Self { connection, settings, now: settings.clock.apply(Timestamp::now()), made_ready: Vec::new() }
    }

    pub(crate) const fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) const fn settings(&self) -> &'c Settings {
        self.settings
    }

    /// Every statement is prepared once a connection.
    pub(crate) fn prepare(&self, sql: &str) -> Result<CachedStatement<'c>, Fault> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// Runs a statement that answers yes or no.
    pub(crate) fn asks(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<bool, Fault> {
        Ok(self.prepare(sql)?.query_row(parameters, |row| row.get(0))?)
    }

    /// Runs a statement that writes; gives the number of rows.
    pub(crate) fn writes(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<usize, Fault> {
        Ok(self.prepare(sql)?.execute(parameters)?)
    }

    /// Runs a script of many statements, which is parsed by SQLite and never split here.
    pub(crate) fn run_script(&self, script: &str) -> Result<(), Fault> {
        Ok(self.connection.execute_batch(script)?)
    }

    pub(crate) fn message_exists(&self, id: MessageId) -> Result<bool, Fault> {
        self.asks(enqueue::MESSAGE_EXISTS, [id.as_bytes().as_slice()])
    }

    /// The newest recorded error or reason of a message.
    pub(crate) fn last_text(&self, id: MessageId) -> Result<Option<String>, Fault> {
        Ok(self.prepare(queue::LAST_TEXT)?.query_row([id.as_bytes().as_slice()], |row| row::shown(row, 0)).optional()?.flatten())
    }

    /// Reserves places in the queue; gives the first one.
    pub(crate) fn reserve(&self, places: usize) -> Result<i64, Fault> {
        let places = i64::try_from(places).unwrap_or(i64::MAX);
        let last: i64 = self.prepare(queue::RESERVE_SEQ)?.query_row([places], |row| row.get(0))?;
        Ok(last - places + 1)
    }

    /// Puts messages into the queue, in order.
    pub(crate) fn insert_ready<'m>(&mut self, rows: impl IntoIterator<Item = (MessageId, &'m EventType, Waiting)>) -> Result<(), Fault> {
        let rows: Vec<_> = rows.into_iter().collect();
        if rows.is_empty() {
            return Ok(());
        }
        let mut places = self.places(rows.len())?;
        for (id, event_type, waiting) in rows {
            self.put_ready(&mut places, id, event_type, waiting)?;
        }
        Ok(())
    }

    /// Reserves places for this number of messages.
    pub(crate) fn places(&self, count: usize) -> Result<Places<'c>, Fault> {
        Ok(Places { insert: self.prepare(queue::INSERT_READY)?, next: self.reserve(count)?, left: count })
    }

    /// Puts a message into the queue, at the next place.
    pub(crate) fn put_ready(
        &mut self,
        places: &mut Places<'_>,
        id: MessageId,
        event_type: &EventType,
        waiting: Waiting,
    ) -> Result<(), Fault> {
        loop {
            let row = params![
                event_type.as_str(),
                waiting.lane.as_i16(),
                places.next,
                id.as_bytes().as_slice(),
                waiting.attempt,
                waiting.crashes
            ];
            match places.insert.execute(row) {
                // The counter is behind its rows: it was set by hand, or its row comes from another copy.
                Err(error) if is_place_taken(&error) => {
                    if self.writes(queue::PASS_READY, [])? > 0 {
                        tracing::warn!("the counter of places was behind the rows of the queue, and is set behind them");
                    }
                    places.next = self.reserve(places.left)?;
                }
                inserted => {
                    inserted?;
                    break;
                }
            }
        }
        places.next += 1;
        places.left = places.left.saturating_sub(1);
        self.note_ready(event_type);
        Ok(())
    }

    pub(crate) fn insert_scheduled(&self, id: MessageId, at: Timestamp, event_type: &EventType, waiting: Waiting) -> Result<(), Fault> {
        self.writes(
            queue::INSERT_SCHEDULED,
            params![id.as_bytes().as_slice(), at.as_micros(), event_type.as_str(), waiting.lane.as_i16(), waiting.attempt, waiting.crashes],
        )?;
        Ok(())
    }

    pub(crate) fn insert_dead(&self, id: MessageId, event_type: &EventType, attempt: u16, reason: &str) -> Result<(), Fault> {
        let row = params![id.as_bytes().as_slice(), event_type.as_str(), attempt, reason, self.now.as_micros()];
        self.writes(queue::INSERT_DEAD, row)?;
        Ok(())
    }

    /// Gives up a row whose id is none, so that it does not stop the others: nobody can name its message.
    pub(crate) fn bury_nameless(&self, id: &[u8], event_type: &EventType) -> Result<(), Fault> {
        tracing::error!(%event_type, "the id of a queued row is not 16 bytes; the row is dead");
        let row = params![id, event_type.as_str(), 0, "the id of this row is not 16 bytes (corrupt data)", self.now.as_micros()];
        self.writes(queue::INSERT_DEAD, row)?;
        Ok(())
    }

    pub(crate) fn insert_settlement(&self, token: Token, recorded: Recorded, mask: &Bits) -> Result<(), Fault> {
        let row = params![token.as_bytes().as_slice(), recorded.as_str(), mask.to_bytes(), self.now.as_micros()];
        self.writes(queue::INSERT_SETTLEMENT, row)?;
        Ok(())
    }

    /// Records a step of one message, unless the history is off.
    pub(crate) fn insert_transition(
        &self,
        id: MessageId,
        token: Option<Token>,
        recorded: Recorded,
        attempt: u16,
        error: Option<&str>,
    ) -> Result<(), Fault> {
        if !self.settings.history {
            return Ok(());
        }
        let token = token.as_ref().map(|token| token.as_bytes().as_slice());
        let row = params![id.as_bytes().as_slice(), token, recorded.as_str(), attempt, error, self.now.as_micros()];
        self.writes(queue::INSERT_TRANSITION, row)?;
        Ok(())
    }

    /// Notes that messages of this type can be claimed once the transaction commits.
    pub(crate) fn note_ready(&mut self, event_type: &EventType) {
        if !self.made_ready.contains(event_type) {
            self.made_ready.push(event_type.clone());
        }
    }

    pub(crate) fn into_made_ready(self) -> Vec<EventType> {
        self.made_ready
    }
}
