//! Enqueueing inside the caller's own transaction.

use deadpool_postgres::Transaction as PooledTransaction;
use futures_util::TryStreamExt;
use tickr_core::{EnqueueIn, Enqueued, Error, InspectIn, NewMessage, Result, Storage as _, StoredMessage, Timestamp, check_batch};
use tickr_sql::postgres::Statement;
use tickr_sql::postgres::enqueue::MESSAGES_OF_TYPE;
use tickr_sql::postgres::schema::NOW;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, Transaction};

use crate::enqueue::{self, Session};
use crate::error::Fault;
use crate::executor::{Executor, Param, Plan, quiet, quiet_typed};
use crate::sequence;
use crate::storage::PostgresStorage;
use crate::{row, stats};

/// A client of which the caller says that it is inside a transaction: for code that has no [`Transaction`] at hand because a
/// framework, or a `BEGIN` of its own, opened it.
#[derive(Debug)]
pub struct InTransaction<'c>(&'c Client);

impl<'c> InTransaction<'c> {
    /// Takes the caller's word for it, and checks it: outside a transaction every statement would commit by itself.
    ///
    /// # Errors
    /// `Config` when the client is not inside a transaction; else what the server says.
    pub async fn assume(client: &'c mut Client) -> Result<Self> {
        // A savepoint is refused outside of a transaction block, and changes nothing inside one.
        match client.batch_execute("SAVEPOINT tickr_assume; RELEASE SAVEPOINT tickr_assume").await {
            Ok(()) => Ok(Self(client)),
            Err(error) if error.code() == Some(&SqlState::NO_ACTIVE_SQL_TRANSACTION) => {
                Err(Error::config("the client is not inside a transaction: begin one, or use Storage::enqueue"))
            }
            Err(error) => Err(Fault::from(error).in_callers_transaction()),
        }
    }
}

/// The caller's transaction with the texts of statements.
struct Borrowed<'t, T> {
    tx: &'t T,
    executor: &'t Executor,
}

/// Without preparing: nothing of the driver's tells which statements this connection knows.
impl Session for Borrowed<'_, Transaction<'_>> {
    async fn query(&self, _: Plan, statement: Statement, params: &[Param<'_>]) -> std::result::Result<Vec<Row>, Fault> {
        let dialect = self.executor.dialect().await?;
        Ok(self.tx.query_typed_raw(dialect.statements.get(statement), quiet_typed(params)).await?.try_collect().await?)
    }
}

impl Session for Borrowed<'_, Client> {
    async fn query(&self, _: Plan, statement: Statement, params: &[Param<'_>]) -> std::result::Result<Vec<Row>, Fault> {
        let dialect = self.executor.dialect().await?;
        Ok(self.tx.query_typed_raw(dialect.statements.get(statement), quiet_typed(params)).await?.try_collect().await?)
    }
}

/// A connection that this storage made remembers its statements. One of another pool may be recycled with `DISCARD ALL`, which the driver
/// does not learn of: a statement that the server forgot would fail there, and take the caller's transaction along.
impl Session for Borrowed<'_, PooledTransaction<'_>> {
    async fn query(&self, _: Plan, statement: Statement, params: &[Param<'_>]) -> std::result::Result<Vec<Row>, Fault> {
        let dialect = self.executor.dialect().await?;
        let text = dialect.statements.get(statement);
        if !self.executor.is_prepared() || !self.executor.made(&self.tx.statement_cache) {
            return Ok(self.tx.query_typed_raw(text, quiet_typed(params)).await?.try_collect().await?);
        }
        let types: Vec<Type> = params.iter().map(|(_, of)| of.clone()).collect();
        let prepared = self.tx.prepare_typed_cached(text, &types).await?;
        Ok(self.tx.query_raw(&prepared, quiet(params)).await?.try_collect().await?)
    }
}

impl PostgresStorage {
    async fn enqueue_on(&self, session: &(impl Session + Sync), batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
        check_batch(batch)?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (mut results, mut made_ready) = (Vec::with_capacity(batch.len()), Vec::new());
        for chunk in enqueue::chunks(batch).map_err(Fault::in_callers_transaction)? {
            match enqueue::store(session, self.settings(), self.channel(), chunk).await {
                Ok((stored, types)) => {
                    results.extend(stored);
                    made_ready.extend(types);
                }
                Err(fault) => {
                    self.executor().learn_from(&fault);
                    return Err(sequence::repaired_in_callers_transaction(self.executor(), fault).await);
                }
            }
        }
        self.wakeups().burst(&made_ready);
        Ok(results)
    }

    async fn now_on(&self, session: &(impl Session + Sync)) -> Result<Timestamp> {
        let rows = session.query(Plan::Free, NOW, &[(&self.offset(), Type::INT8)]).await;
        rows.and_then(|rows| stats::clock(&rows)).map_err(Fault::in_callers_transaction)
    }

    async fn messages_on(&self, session: &impl Session, event_type: &str) -> Result<Vec<StoredMessage>> {
        let rows = session.query(Plan::Free, MESSAGES_OF_TYPE, &[(&event_type, Type::TEXT)]).await;
        let message = |row: &Row| Ok(row::message(row)?.map(|salvaged| salvaged.message));
        let read = |rows: Vec<Row>| rows.iter().filter_map(|row| message(row).transpose()).collect();
        rows.and_then(read).map_err(|fault| fault.during("look into your transaction"))
    }
}

/// One implementation a type rather than one for all, so that the compiler explains itself when it is none of them.
macro_rules! enqueue_in {
    ($($transaction:ty, $tx:ident => $borrowed:expr);+) => {$(
        impl EnqueueIn<$transaction> for PostgresStorage {
            async fn enqueue_in(&self, $tx: &mut $transaction, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
                self.enqueue_on(&Borrowed { tx: $borrowed, executor: self.executor() }, batch).await
            }

            async fn now_in(&self, $tx: &mut $transaction) -> Result<Option<Timestamp>> {
                self.now_on(&Borrowed { tx: $borrowed, executor: self.executor() }).await.map(Some)
            }
        }

        impl InspectIn<$transaction> for PostgresStorage {
            async fn messages_in(&self, $tx: &mut $transaction, event_type: &str) -> Result<Vec<StoredMessage>> {
                self.messages_on(&Borrowed { tx: $borrowed, executor: self.executor() }, event_type).await
            }
        }
    )+};
}

enqueue_in!(
    Transaction<'_>, tx => &*tx;
    PooledTransaction<'_>, tx => &*tx;
    InTransaction<'_>, tx => tx.0
);
