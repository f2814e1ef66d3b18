//! Enqueueing inside the caller's own transaction.
//!
//! rusqlite's transaction is not `Send`, so the work is done before the future exists: awaiting it only hands the result over.
//! Callers without an async runtime use [`SqliteStorage::enqueue_sync`].

use std::future::{Future, ready};

use rusqlite::{Connection, Savepoint, Transaction};
use tickr_core::{EnqueueIn, Enqueued, Error, InspectIn, NewMessage, Result, Storage as _, StoredMessage, Timestamp, check_batch};
use tickr_sql::sqlite::enqueue::MESSAGES_OF_TYPE;

use crate::error::Fault;
use crate::scope::Scope;
use crate::storage::SqliteStorage;
use crate::{enqueue, row};

mod sealed {
    pub trait Sealed {}
}

/// A connection that is inside a transaction: rusqlite's [`Transaction`] and [`Savepoint`], or [`InTransaction`].
///
/// Never a bare connection, so that a forgotten `BEGIN` does not compile.
pub trait OpenTransaction: sealed::Sealed {
    #[doc(hidden)]
    fn connection(&self) -> &Connection;
}

impl sealed::Sealed for Transaction<'_> {}
impl OpenTransaction for Transaction<'_> {
    fn connection(&self) -> &Connection {
        self
    }
}

impl sealed::Sealed for Savepoint<'_> {}
impl OpenTransaction for Savepoint<'_> {
    fn connection(&self) -> &Connection {
        self
    }
}

/// A connection of which the caller says that it is inside a transaction: for code that has no [`Transaction`] at hand
/// because a framework, or a `BEGIN` of its own, opened it.
#[derive(Debug)]
pub struct InTransaction<'c>(&'c Connection);

impl<'c> InTransaction<'c> {
    /// Takes the caller's word for it, and checks it: outside a transaction every statement would commit by itself.
    ///
    /// # Errors
    /// `Config` when the connection is not inside a transaction.
    pub fn assume(connection: &'c mut Connection) -> Result<Self> {
        if connection.is_autocommit() {
            return Err(Error::config("the connection is not inside a transaction: begin one, or use Storage::enqueue"));
        }
        Ok(Self(connection))
    }
}

impl sealed::Sealed for InTransaction<'_> {}
impl OpenTransaction for InTransaction<'_> {
    fn connection(&self) -> &Connection {
        self.0
    }
}

impl SqliteStorage {
    /// Stores messages within `tx`, all or none, without a future. The results are parallel to `batch`.
    ///
    /// Workers of this process are told to look again and again for a moment, because the commit cannot be seen;
    /// `storage.wakeups().wake(..)` after the commit is exact.
    ///
    /// # Errors
    /// As [`EnqueueIn::enqueue_in`]. `Unavailable` says `Retry::Transaction`: roll back and run the transaction again. Begin
    /// it with `TransactionBehavior::Immediate`: a deferred one is refused at once when another connection writes.
    pub fn enqueue_sync<T: OpenTransaction>(&self, tx: &T, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
        check_batch(batch)?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (results, made_ready) = self.enqueue_on(tx.connection(), batch).map_err(Fault::in_callers_transaction)?;
        self.wakeups().burst(&made_ready);
        Ok(results)
    }

    /// A savepoint of its own, so that a failure in the middle leaves nothing behind in the caller's transaction.
    fn enqueue_on(&self, connection: &Connection, batch: &[NewMessage]) -> Result<(Vec<Enqueued>, Vec<tickr_core::EventType>), Fault> {
        connection.execute_batch("SAVEPOINT tickr_enqueue")?;
        let mut scope = Scope::new(connection, self.settings());
        let result = enqueue::store(&mut scope, batch);
        let made_ready = scope.into_made_ready();
        if result.is_err() && !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK TO tickr_enqueue; RELEASE tickr_enqueue")?;
        }
        let results = result?;
        connection.execute_batch("RELEASE tickr_enqueue")?;
        Ok((results, made_ready))
    }

    fn messages_on(&self, connection: &Connection, event_type: &str) -> Result<Vec<StoredMessage>, Fault> {
        let scope = Scope::new(connection, self.settings());
        let mut statement = scope.prepare(MESSAGES_OF_TYPE)?;
        let mut rows = statement.query([event_type])?;
        let mut messages = Vec::new();
        while let Some(row) = rows.next()? {
            messages.push(row::message(row, None, None)?.message);
        }
        Ok(messages)
    }
}

/// One implementation a type rather than one for all, so that the compiler explains itself when it is none of them.
macro_rules! enqueue_in {
    ($($transaction:ty),+) => {$(
        impl EnqueueIn<$transaction> for SqliteStorage {
            fn enqueue_in(&self, tx: &mut $transaction, batch: &[NewMessage]) -> impl Future<Output = Result<Vec<Enqueued>>> + Send {
                ready(self.enqueue_sync(tx, batch))
            }

            fn now_in(&self, _tx: &mut $transaction) -> impl Future<Output = Result<Option<Timestamp>>> + Send {
                ready(Ok(Some(self.settings().clock.apply(Timestamp::now()))))
            }
        }

        impl InspectIn<$transaction> for SqliteStorage {
            fn messages_in(&self, tx: &mut $transaction, event_type: &str) -> impl Future<Output = Result<Vec<StoredMessage>>> + Send {
                ready(self.messages_on(tx.connection(), event_type).map_err(|fault| fault.during("look into your transaction")))
            }
        }
    )+};
}

enqueue_in!(Transaction<'_>, Savepoint<'_>, InTransaction<'_>);
