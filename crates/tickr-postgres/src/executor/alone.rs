//! Statements that are a transaction of their own, without BEGIN.
//!
//! Where others use the pool too, they are sent behind a mark that they see only inside another transaction, and then store nothing. No `SET LOCAL` limits them, so
//! that a deadline on this side cancels them.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use futures_util::TryStreamExt;
use futures_util::future::join;
use tickr_core::{Error, ErrorKind};
use tickr_sql::postgres::{Statement, enqueue};
use tokio_postgres::error::SqlState;
use tokio_postgres::{NoTls, Row};

use super::wire::{prepare, quiet, quiet_typed};
use super::{Executor, Param, Plan, server_limit};
use crate::connection::Connector;
use crate::door;
use crate::enqueue::Session;
use crate::error::Fault;
use crate::row::Quiet;
use crate::schema::Dialect;

/// What refuses a statement that is a transaction of its own, with nothing written.
const REFUSALS: [&SqlState; 3] = [&SqlState::UNIQUE_VIOLATION, &SqlState::QUERY_CANCELED, &SqlState::LOCK_NOT_AVAILABLE];

impl Executor {
    /// The same storage, but a statement that is a transaction of its own ends after `limit`.
    pub(crate) fn limited(&self, limit: Duration) -> Limited<'_> {
        Limited { executor: self, limit }
    }

    /// A statement as a transaction of its own; gives how many rows it wrote. Where a connection may be inside a transaction that somebody
    /// left open, it goes behind a mark that it sees only there. Elsewhere there is no mark: it would add a third to the server's
    /// work for a single message.
    async fn write_alone(
        &self,
        client: &ClientWrapper,
        dialect: &Dialect,
        statement: Statement,
        params: &[Param<'_>],
    ) -> Result<u64, Fault> {
        let (mark, text) = (dialect.statements.get(enqueue::MARK), dialect.statements.get(statement));
        let is_lent = self.lent.load(Ordering::SeqCst);
        let is_prepared = self.is_prepared();
        if is_prepared && !is_lent {
            let prepared = prepare(client, text, params).await?;
            return Ok(client.execute_raw(&prepared, quiet(params)).await?);
        }
        // Each is sent when it is polled first: the mark goes first, in the same packet. Where the mark fails, the statement fails too or
        // is alone all the same.
        if is_prepared {
            let (mark, prepared) = join(prepare(client, mark, &[]), prepare(client, text, params)).await;
            let (mark, prepared) = (mark?, prepared?);
            let marked = client.execute_raw(&mark, [] as [Quiet<'_>; 0]);
            Ok(join(marked, client.execute_raw(&prepared, quiet(params))).await.1?)
        } else {
            let write = async {
                let mut rows = pin!(client.query_typed_raw(text, quiet_typed(params)).await?);
                while rows.try_next().await?.is_some() {}
                Ok::<_, Fault>(rows.rows_affected().unwrap_or(0))
            };
            if is_lent { join(client.batch_execute(mark), write).await.1 } else { write.await }
        }
    }

    /// A statement as a transaction of its own, cancelled after `limit`; gives how many rows it wrote, none if it was refused.
    async fn alone_within(&self, limit: Duration, statement: Statement, params: &[Param<'_>]) -> Result<u64, Fault> {
        let dialect = self.dialect().await?;
        let connection = self.connection().await?;
        let (written, cancelled) = {
            let unanswered = Unanswered { client: connection.client(), connector: self.connector.as_ref() };
            let mut sent = pin!(self.write_alone(unanswered.client, &dialect, statement, params));
            let in_time = door::within(limit, sent.as_mut()).await;
            let cancelled = in_time.is_none();
            let written = match in_time {
                Some(written) => written,
                None => {
                    unanswered.cancellation().await;
                    sent.await
                }
            };
            unanswered.answered();
            (written, cancelled)
        };
        if cancelled {
            // Not given back: a cancellation that comes too late would hit the next statement.
            drop(connection);
            return match written {
                Err(fault) if fault.is(&SqlState::QUERY_CANCELED) => {
                    Err(Error::new(ErrorKind::Unavailable, format!("statement timeout: cancelled after {limit:?}")).into())
                }
                written => written,
            };
        }
        match connection.give_back(written) {
            // Of an id that is there, or by limits that are not ours: a caller that has to know asks in a transaction.
            // So it is where the connection may be at fault, which is closed.
            Err(fault) if REFUSALS.iter().any(|code| fault.is(code)) || fault.may_be_of_the_connection() => {
                self.learn_from(&fault);
                Ok(0)
            }
            written => written,
        }
    }
}

impl Session for Executor {
    async fn query(&self, plan: Plan, statement: Statement, params: &[Param<'_>]) -> Result<Vec<Row>, Fault> {
        self.once(plan, statement, params).await
    }

    async fn alone(&self, statement: Statement, params: &[Param<'_>]) -> Result<u64, Fault> {
        self.alone_within(server_limit(self.limit), statement, params).await
    }
}

/// Less time for a statement that is a transaction of its own.
pub(crate) struct Limited<'e> {
    executor: &'e Executor,
    limit: Duration,
}

impl Session for Limited<'_> {
    async fn query(&self, plan: Plan, statement: Statement, params: &[Param<'_>]) -> Result<Vec<Row>, Fault> {
        self.executor.once(plan, statement, params).await
    }

    async fn alone(&self, statement: Statement, params: &[Param<'_>]) -> Result<u64, Fault> {
        self.executor.alone_within(self.limit, statement, params).await
    }
}

/// A statement under no time-out of the server's. Dropped before its answer, the server is asked to end it: else it would wait for a
/// lock for as long as that is held, and take a connection of the server's.
struct Unanswered<'c> {
    client: &'c ClientWrapper,
    connector: Option<&'c Connector>,
}

impl Unanswered<'_> {
    fn answered(self) {
        std::mem::forget(self);
    }

    fn cancellation(&self) -> impl Future<Output = ()> + Send + 'static {
        let (token, connector) = (self.client.cancel_token(), self.connector.cloned());
        async move {
            let cancelled = match connector {
                Some(connector) => connector.cancel(token).await,
                None => token.cancel_query(NoTls).await,
            };
            if let Err(error) = cancelled {
                tracing::warn!(%error, "a statement that takes too long could not be cancelled");
            }
        }
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        door::spawn(self.cancellation());
    }
}
