//! Runs statements in transactions of our own.
//!
//! Nothing here needs a session, so that it works through a pooler: every transaction says by itself what it needs, and a statement
//! that is sent alone looks whether it has it.
//!
//! A pool may be the application's, so a connection of it may be in any state. Every transaction begins with a check that it is not
//! inside another one, whose COMMIT would not be ours; a statement that is sent alone is preceded by a mark that it sees only inside a
//! transaction, and then stores nothing, once anybody else had a connection of the pool. A connection that fails this check is closed, which rolls back what somebody forgot there, and
//! the operation goes on with another.

mod alone;
mod held;
mod patience;
mod plan;
mod server;
mod wire;

pub(crate) use held::Held;
pub(crate) use plan::Plan;
pub(crate) use wire::{Param, quiet, quiet_typed};

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::Manager as _;
use deadpool_postgres::{ClientWrapper, Pool, PoolError, StatementCache, TimeoutType, Timeouts};
use futures_util::TryStreamExt;
use futures_util::future::{join, join3, maybe_done};
use tickr_core::{Error, ErrorKind, Result, on_heartbeat_thread};
use tickr_sql::postgres::{Names, Statement, schema};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use crate::config::Settings;
use crate::connection::Connector;
use crate::door;
use crate::error::{Fault, connecting, no_answer, timed_out};
use crate::schema::{Dialect, Dialects};
use crate::scope::Scope;
use crate::sequence;
use patience::Patience;
use plan::Preludes;
use server::LastServer;
use wire::{each, prepare};

/// The deadline of audits and migrations.
const LONG: Duration = Duration::from_secs(3_600);

/// Connections and statements of one storage.
pub(crate) struct Executor {
    pool: Pool,
    /// Others have, or have had, connections of the pool, and may have left a transaction open.
    lent: AtomicBool,
    /// Who made the pool; `None` for the application's own.
    connector: Option<Connector>,
    dialects: Dialects,
    /// Whether statements are prepared: as configured, until a connection turns out to forget them.
    prepared: AtomicBool,
    limit: Duration,
    preludes: Preludes,
    server: LastServer,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("pool", &self.pool.status()).finish_non_exhaustive()
    }
}

impl Executor {
    pub(crate) fn new(pool: Pool, connector: Option<Connector>, names: Names, settings: &Settings, limit: Duration) -> Self {
        Self {
            pool,
            lent: AtomicBool::new(false),
            connector,
            dialects: Dialects::new(names),
            prepared: AtomicBool::new(settings.prepared),
            limit,
            preludes: Preludes::new(server_limit(limit)),
            server: LastServer::default(),
        }
    }

    /// The statements with their names. At the first use the server is asked in which schema the tables are, unless one is configured:
    /// from then on they are found whatever the search path of a connection or of the caller's transaction says. While there are no
    /// tables, names stay as they are.
    pub(crate) async fn dialect(&self) -> Result<Arc<Dialect>, Fault> {
        if let Some(dialect) = self.dialects.found() {
            return Ok(dialect);
        }
        // Boxed: it is rare, and the future of every operation would be as large.
        Box::pin(self.dialects.find(self.resolve())).await
    }

    /// Finds the tables. Never waits for a connection of the pool, which the caller may hold.
    async fn resolve(&self) -> Result<Option<Arc<Dialect>>, Fault> {
        let names = &self.dialects.configured().names;
        let at_once = Timeouts { wait: Some(Duration::ZERO), ..self.pool.timeouts() };
        match self.take(&at_once).await {
            Ok(Some(connection)) => {
                let found = Dialect::resolve(connection.client(), self.prelude(Plan::Free), names).await;
                match connection.give_back(found) {
                    // Of a connection in somebody's state nothing is learnt.
                    Err(fault) if fault.is_foreign() => {}
                    found => return found,
                }
            }
            Ok(None) => {}
            Err(fault) => return Err(fault),
        }
        let client = self.extra_connection().await?;
        Dialect::resolve(&client, self.prelude(Plan::Free), names).await
    }

    /// Forgets what an error contradicts.
    pub(crate) fn learn_from(&self, fault: &Fault) {
        if fault.says_tables_are_elsewhere() {
            self.dialects.forget();
        }
        if fault.is(&SqlState::INVALID_SQL_STATEMENT_NAME) && self.prepared.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                "a connection forgot its prepared statements, by DISCARD ALL or in a pooler: from now on none are prepared; \
                 say prepared_statements=off, or recycle connections without DEALLOCATE ALL"
            );
        }
    }

    /// A text as the database can store it.
    pub(crate) async fn text<'t>(&self, text: &'t str) -> Result<std::borrow::Cow<'t, str>, Fault> {
        Ok(self.dialect().await?.encoding.text(text))
    }

    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared.load(Ordering::Relaxed)
    }

    /// Whether a connection with this cache of statements is one of the pool that this storage made.
    pub(crate) fn made(&self, cache: &Arc<StatementCache>) -> bool {
        self.connector.as_ref().is_some_and(|connector| connector.made(cache))
    }

    /// How every transaction begins: with the isolation that the statements are written for, whatever the database's default.
    pub(crate) fn prelude(&self, plan: Plan) -> &str {
        self.preludes.of(plan)
    }

    /// Runs `work` under the deadline of operations.
    pub(crate) async fn run<T>(&self, operation: &str, work: impl Future<Output = Result<T, Fault>>) -> Result<T> {
        let done = door::within(self.limit, work).await.unwrap_or_else(|| Err(timed_out()));
        done.map_err(|fault| self.failed(fault).during(operation))
    }

    /// Runs `work` of several steps, of which each has a deadline of its own.
    pub(crate) async fn run_steps<T>(&self, operation: &str, work: impl Future<Output = Result<T, Fault>>) -> Result<T> {
        work.await.map_err(|fault| self.failed(fault).during(operation))
    }

    /// A step of it, under the deadline of operations.
    pub(crate) async fn step<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        door::within(self.limit, work).await.unwrap_or_else(|| Err(timed_out()))
    }

    /// Runs `work` that reads or changes everything.
    pub(crate) async fn run_long<T>(&self, operation: &str, work: impl Future<Output = Result<T, Fault>>) -> Result<T> {
        let done = door::within(LONG, work).await.unwrap_or_else(|| Err(timed_out()));
        done.map_err(|fault| self.failed(fault).during(operation))
    }

    /// Drops idle connections to a server that accepts no writes, so that the next operation connects again: the name or the address
    /// may lead to the new primary by then.
    fn failed(&self, fault: Fault) -> Fault {
        self.learn_from(&fault);
        if fault.is(&SqlState::READ_ONLY_SQL_TRANSACTION) {
            self.pool.retain(|_, _| false);
        }
        fault
    }

    /// The pool, for others too: from now on a connection may be in any state.
    pub(crate) fn lend_pool(&self) -> &Pool {
        self.lent.store(true, Ordering::SeqCst);
        &self.pool
    }

    /// Takes a connection of the pool.
    pub(crate) async fn connection(&self) -> Result<Held, Fault> {
        let none = || Error::new(ErrorKind::Unavailable, "no connection of the pool became free in time").into();
        self.take(&self.pool.timeouts()).await?.ok_or_else(none)
    }

    /// The same; `None` when none became free in the pool's own time.
    async fn take(&self, timeouts: &Timeouts) -> Result<Option<Held>, Fault> {
        // Tasks of the application's runtime drive the connections of the pool, and may all be blocked.
        if on_heartbeat_thread() {
            return Ok(Some(Held::extra(self.extra_connection().await?)));
        }
        let wait = self.limit / 2;
        match door::within(wait, self.pool.timeout_get(timeouts)).await {
            Some(Err(PoolError::Timeout(TimeoutType::Create))) => Err(no_answer(timeouts.create.unwrap_or(wait)).into()),
            Some(Err(PoolError::Timeout(TimeoutType::Wait))) => Ok(None),
            Some(connection) => {
                let connection = Held::pooled(connection?);
                if !connection.is_used() {
                    self.recognise(connection.client()).await?;
                }
                Ok(Some(connection))
            }
            None => {
                let status = self.pool.status();
                let silent = status.available == 0 && status.size < status.max_size;
                let text =
                    if silent { "the server does not answer: no connection was made" } else { "no connection of the pool became free" };
                Err(Error::new(ErrorKind::Unavailable, format!("{text} within {wait:?}")).into())
            }
        }
    }

    /// For operations on connections in somebody's state.
    pub(crate) fn patience(&self) -> Patience {
        Patience::new(self.pool.status().max_size)
    }

    /// How many times a new connection found another server than the one before: what is remembered of the database may be wrong.
    pub(crate) fn generation(&self) -> u64 {
        self.server.generation()
    }

    /// Asks a new connection which server and database it leads to. Only new ones are asked: a server that changes closes its
    /// connections, unless a pooler stands between.
    async fn recognise(&self, client: &ClientWrapper) -> Result<(), Fault> {
        let question = self.dialects.configured().statements.get(schema::SERVER);
        if self.server.changes_with(client, question).await? {
            self.dialects.forget();
            tracing::info!("another server or database answers than before, or the server was restarted: everything is scanned again");
        }
        Ok(())
    }

    /// A connection that the pool does not count.
    pub(crate) async fn extra_connection(&self) -> Result<ClientWrapper, Fault> {
        let limit = self.pool.timeouts().create.unwrap_or(self.limit);
        match door::within(limit, self.pool.manager().create()).await {
            Some(created) => created.map_err(|error| connecting(error).into()),
            None => Err(no_answer(limit).into()),
        }
    }

    /// One statement in a transaction of its own, in one round trip.
    pub(crate) async fn once(&self, plan: Plan, statement: Statement, params: &[Param<'_>]) -> Result<Vec<Row>, Fault> {
        match self.try_once(plan, statement, params).await {
            Err(fault) if sequence::repaired(self, &fault).await? => self.try_once(plan, statement, params).await,
            other => other,
        }
    }

    async fn try_once(&self, plan: Plan, statement: Statement, params: &[Param<'_>]) -> Result<Vec<Row>, Fault> {
        let mut rows = Vec::new();
        let keep = |row| {
            rows.push(row);
            Ok(())
        };
        self.once_each(plan, statement, params, keep).await?;
        Ok(rows)
    }

    /// The same on a given connection.
    pub(crate) async fn once_on(
        &self,
        client: &ClientWrapper,
        plan: Plan,
        statement: Statement,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Fault> {
        let dialect = self.dialect().await?;
        let mut rows = Vec::new();
        let mut keep = |row| {
            rows.push(row);
            Ok(())
        };
        self.once_each_on(client, &dialect, plan, statement, params, &mut keep).await?;
        Ok(rows)
    }

    /// The same, with rows that are read while more of them come, and while the server commits: until this says that it has, they
    /// mean nothing.
    pub(crate) async fn once_each(
        &self,
        plan: Plan,
        statement: Statement,
        params: &[Param<'_>],
        read: impl FnMut(Row) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let dialect = self.dialect().await?;
        let mut read = read;
        let mut patience = self.patience();
        loop {
            let connection = self.connection().await?;
            let used = connection.is_used();
            let committed = self.once_each_on(connection.client(), &dialect, plan, statement, params, &mut read).await;
            match connection.give_back(committed) {
                Err(fault) if patience.tries_another(&fault, used) => self.learn_from(&fault),
                committed => return committed,
            }
        }
    }

    pub(crate) async fn once_each_on(
        &self,
        client: &ClientWrapper,
        dialect: &Dialect,
        plan: Plan,
        statement: Statement,
        params: &[Param<'_>],
        read: &mut impl FnMut(Row) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let prelude = self.prelude(plan);
        let text = dialect.statements.get(statement);
        let (begun, rows, committed) = if self.is_prepared() {
            // Sent first, because preparing waits for locks too, and has to end by the time-outs; answered while the rest goes on.
            let mut begun = pin!(maybe_done(client.batch_execute(prelude)));
            let mut preparing = pin!(prepare(client, text, params));
            let prepared = poll_fn(|context| {
                let _ = begun.as_mut().poll(context);
                preparing.as_mut().poll(context)
            });
            let prepared = match prepared.await {
                Ok(prepared) => prepared,
                Err(fault) => {
                    let (_, rolled_back) = join(begun.as_mut(), client.batch_execute("ROLLBACK")).await;
                    begun.take_output().unwrap_or(Ok(())).map_err(Fault::of_beginning)?;
                    rolled_back?;
                    return Err(fault);
                }
            };
            let rows = each(client.query_raw(&prepared, quiet(params)), read);
            let (_, rows, committed) = join3(begun.as_mut(), rows, client.batch_execute("COMMIT")).await;
            (begun.take_output().unwrap_or(Ok(())), rows, committed)
        } else {
            let rows = each(client.query_typed_raw(text, quiet_typed(params)), read);
            join3(client.batch_execute(prelude), rows, client.batch_execute("COMMIT")).await
        };
        begun.map_err(Fault::of_beginning)?;
        // What the server says comes before what was made of its rows.
        let read = rows?;
        committed?;
        read
    }

    /// A statement as it is, in the transaction that the connection is in; prepared, if it can be.
    pub(crate) async fn send(&self, client: &ClientWrapper, text: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Fault> {
        if !self.is_prepared() {
            return Ok(client.query_typed_raw(text, quiet_typed(params)).await?.try_collect().await?);
        }
        let prepared = prepare(client, text, params).await?;
        Ok(client.query_raw(&prepared, quiet(params)).await?.try_collect().await?)
    }

    /// Does `work`, which takes its own connection, again if its error may have been that connection's: it is closed.
    pub(crate) async fn on_another<T, F>(&self, mut work: impl FnMut() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut patience = self.patience();
        loop {
            match work().await {
                Err(fault) if patience.tries_another(&fault, true) => self.learn_from(&fault),
                done => return done,
            }
        }
    }

    /// Begins a transaction of several statements.
    pub(crate) async fn begin(&self, plan: Plan) -> Result<Scope<'_>, Fault> {
        let dialect = self.dialect().await?;
        let mut patience = self.patience();
        loop {
            let connection = self.connection().await?;
            let used = connection.is_used();
            let begun = connection.client().batch_execute(self.prelude(plan)).await.map_err(Fault::of_beginning);
            match begun {
                Ok(()) => return Ok(Scope::new(self, dialect, connection)),
                Err(fault) if patience.tries_another(&fault, used) => drop(connection),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// How long an operation takes at most.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }
}

/// How long the server may take. It gives up first: what it says is certain, a lost answer is not.
fn server_limit(limit: Duration) -> Duration {
    limit * 9 / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_gives_up_a_tenth_before_the_client() {
        assert_eq!(server_limit(Duration::from_secs(20)), Duration::from_secs(18));
    }
}
