//! Runs statements in transactions of our own.
//!
//! Nothing here needs a session, so that it works through a pooler: every transaction says by itself what it needs, and a statement
//! that is sent alone looks whether it has it.
//!
//! A pool may be the application's, so a connection of it may be in any state. Every transaction begins with a check that it is not
//! inside another one, whose COMMIT would not be ours; a statement that is sent alone is preceded by a mark that it sees only inside a
//! transaction, and then stores nothing. A connection that fails this check is closed, which rolls back what somebody forgot there, and
//! the operation goes on with another.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool::managed::Manager as _;
use deadpool_postgres::{ClientWrapper, Object, Pool, PoolError, TimeoutType, Timeouts};
use futures_util::TryStreamExt;
use futures_util::future::{join, join3, maybe_done};
use tickr_core::{Error, ErrorKind, Result, Timestamp, on_heartbeat_thread};
use tickr_sql::postgres::{Names, Statement, enqueue, prelude, schema};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{NoTls, Row, RowStream};

use crate::config::Settings;
use crate::connection::Connector;
use crate::door;
use crate::enqueue::Session;
use crate::error::{Fault, connecting, no_answer, timed_out};
use crate::row::{self, Quiet};
use crate::schema::Dialect;
use crate::scope::Scope;
use crate::sequence;

/// The deadline of audits and migrations.
const LONG: Duration = Duration::from_secs(3_600);

/// A value and its type: statements are sent with types, because a pooler may have no prepared statement to learn them from.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// How a transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// As the planner likes.
    Free,
    /// By indexes, in their order, with a plan that is made once a connection.
    Indexed,
    /// One snapshot for several statements, which only read, by indexes.
    Lookup,
    /// One snapshot for several statements, which only read, and everything; however long it takes.
    Snapshot,
    /// As the planner likes, however long it takes: migrations.
    Patient,
}

/// Connections and statements of one storage.
pub(crate) struct Executor {
    pool: Pool,
    /// Who made the pool; `None` for the application's own.
    connector: Option<Connector>,
    /// The names as they were configured.
    configured: Arc<Dialect>,
    /// The names with the schema in which the tables are; `None` before the first use, and after an error that contradicts it.
    resolved: Mutex<Option<Arc<Dialect>>>,
    resolving: tokio::sync::Mutex<()>,
    prepared: bool,
    limit: Duration,
    preludes: Preludes,
    server: LastServer,
}

/// The server that answered last, as a new connection finds it.
#[derive(Default)]
struct LastServer {
    /// When it was started, and the number of the database.
    identity: Mutex<Option<(Timestamp, u32)>>,
    /// How many times it was another one.
    generation: AtomicU64,
}

/// How transactions begin, by their plans.
struct Preludes {
    free: String,
    indexed: String,
    lookup: String,
    snapshot: String,
    patient: String,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("pool", &self.pool.status()).finish_non_exhaustive()
    }
}

impl Executor {
    pub(crate) fn new(pool: Pool, connector: Option<Connector>, names: Names, settings: &Settings, limit: Duration) -> Self {
        let server_ms = server_limit(limit).as_millis();
        let limits = format!(
            "SET LOCAL statement_timeout = {server_ms}; SET LOCAL idle_in_transaction_session_timeout = {server_ms}; \
             SET LOCAL lock_timeout = 0;\n"
        );
        // Without the comments. The check comes last: what is set before it is not read, and it takes the snapshot.
        let script = |prelude, limits: &str| {
            let names = Names::default();
            names.render(prelude) + limits + &names.render(prelude::CHECK)
        };
        let preludes = Preludes {
            free: script(prelude::FREE, &limits),
            indexed: script(prelude::INDEXED, &limits),
            lookup: script(prelude::LOOKUP, &limits),
            snapshot: script(prelude::SNAPSHOT, ""),
            patient: script(prelude::PATIENT, "SET LOCAL lock_timeout = 0;\n"),
        };
        Self {
            pool,
            connector,
            configured: Arc::new(Dialect::new(names, row::Encoding::default())),
            resolved: Mutex::default(),
            resolving: tokio::sync::Mutex::default(),
            prepared: settings.prepared,
            limit,
            preludes,
            server: LastServer::default(),
        }
    }

    fn resolved(&self) -> MutexGuard<'_, Option<Arc<Dialect>>> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The statements with their names. At the first use the server is asked in which schema the tables are, unless one is configured:
    /// from then on they are found whatever the search path of a connection or of the caller's transaction says. While there are no
    /// tables, names stay as they are.
    pub(crate) async fn dialect(&self) -> Result<Arc<Dialect>, Fault> {
        if let Some(dialect) = self.resolved().clone() {
            return Ok(dialect);
        }
        let _one_at_a_time = self.resolving.lock().await;
        if let Some(dialect) = self.resolved().clone() {
            return Ok(dialect);
        }
        let found = self.resolve().await?;
        if let Some(dialect) = &found {
            *self.resolved() = Some(Arc::clone(dialect));
        }
        Ok(found.unwrap_or_else(|| Arc::clone(&self.configured)))
    }

    /// Finds the tables. Never waits for a connection of the pool, which the caller may hold.
    async fn resolve(&self) -> Result<Option<Arc<Dialect>>, Fault> {
        let names = &self.configured.names;
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

    /// Looks at an error: what it contradicts is forgotten.
    pub(crate) fn learn_from(&self, fault: &Fault) {
        if fault.says_tables_are_elsewhere() {
            *self.resolved() = None;
        }
    }

    /// A text as the database can store it.
    pub(crate) async fn text<'t>(&self, text: &'t str) -> Result<std::borrow::Cow<'t, str>, Fault> {
        Ok(self.dialect().await?.encoding.text(text))
    }

    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared
    }

    /// How every transaction begins: with the isolation that the statements are written for, whatever the database's default.
    pub(crate) fn prelude(&self, plan: Plan) -> &str {
        match plan {
            Plan::Free => &self.preludes.free,
            Plan::Indexed => &self.preludes.indexed,
            Plan::Lookup => &self.preludes.lookup,
            Plan::Snapshot => &self.preludes.snapshot,
            Plan::Patient => &self.preludes.patient,
        }
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

    pub(crate) fn pool(&self) -> &Pool {
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
            return Ok(Some(Held(None, Some(self.extra_connection().await?))));
        }
        let wait = self.limit / 2;
        match door::within(wait, self.pool.timeout_get(timeouts)).await {
            Some(Err(PoolError::Timeout(TimeoutType::Create))) => Err(no_answer(timeouts.create.unwrap_or(wait)).into()),
            Some(Err(PoolError::Timeout(TimeoutType::Wait))) => Ok(None),
            Some(connection) => {
                let connection = Held(Some(connection?), None);
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
        self.server.generation.load(Ordering::SeqCst)
    }

    /// Asks a new connection which server and database it leads to. Only new ones are asked: a server that changes closes its
    /// connections, unless a pooler stands between.
    async fn recognise(&self, client: &ClientWrapper) -> Result<(), Fault> {
        let rows = client.query_typed(self.configured.statements.get(schema::SERVER), &[]).await.map_err(connecting)?;
        let Some(row) = rows.first() else { return Ok(()) };
        let found = (row::timestamp(row, 0)?, row.try_get(1)?);
        let mut identity = self.server.identity.lock().unwrap_or_else(PoisonError::into_inner);
        if identity.replace(found).is_some_and(|known| known != found) {
            self.server.generation.fetch_add(1, Ordering::SeqCst);
            *self.resolved() = None;
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
                Err(fault) if patience.tries_another(&fault, used) => {}
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
        let (begun, rows, committed) = if self.prepared {
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
        if !self.prepared {
            return Ok(client.query_typed_raw(text, quiet_typed(params)).await?.try_collect().await?);
        }
        let prepared = prepare(client, text, params).await?;
        Ok(client.query_raw(&prepared, quiet(params)).await?.try_collect().await?)
    }

    /// A statement as a transaction of its own, behind a mark that it sees only inside another one; gives how many rows it wrote.
    async fn write_alone(
        &self,
        client: &ClientWrapper,
        dialect: &Dialect,
        statement: Statement,
        params: &[Param<'_>],
    ) -> Result<u64, Fault> {
        let (mark, text) = (dialect.statements.get(enqueue::MARK), dialect.statements.get(statement));
        // Each is sent when it is polled first: the mark goes first, in the same packet. Where the mark fails, the statement fails too or
        // is alone all the same.
        if self.prepared {
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
            join(client.batch_execute(mark), write).await.1
        }
    }

    /// Does `work`, which takes its own connection, again if its error may have been that connection's: it is closed.
    pub(crate) async fn on_another<T, F>(&self, mut work: impl FnMut() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut patience = self.patience();
        loop {
            match work().await {
                Err(fault) if patience.tries_another(&fault, true) => {}
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

    /// The same, but a statement that is a transaction of its own ends after `limit`.
    pub(crate) fn limited(&self, limit: Duration) -> Limited<'_> {
        Limited { executor: self, limit }
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
            // Of an id that is there, or by limits that are not ours: whoever has to know asks in a transaction.
            // So it is where the connection may be at fault, which is closed.
            Err(fault) if REFUSALS.iter().any(|code| fault.is(code)) || fault.may_be_of_the_connection() => Ok(0),
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

/// What refuses a statement that is a transaction of its own, with nothing written.
const REFUSALS: [&SqlState; 3] = [&SqlState::UNIQUE_VIOLATION, &SqlState::QUERY_CANCELED, &SqlState::LOCK_NOT_AVAILABLE];

/// How long the server may take. It gives up first: what it says is certain, a lost answer is not.
fn server_limit(limit: Duration) -> Duration {
    limit * 9 / 10
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

/// How often an operation is repeated on another connection, because the pool's was in a state that somebody left.
pub(crate) struct Patience {
    /// Connections with an open transaction: as many as the pool may have, and a new one.
    foreign: usize,
    /// Used connections with an error that a new one might not have, such as one without the rights of a role that was set.
    suspect: usize,
}

impl Patience {
    pub(crate) fn new(connections: usize) -> Self {
        Self { foreign: connections, suspect: 1 }
    }

    /// Whether nothing happened that another connection might not do.
    pub(crate) fn tries_another(&mut self, fault: &Fault, used: bool) -> bool {
        let left = match fault {
            Fault::Foreign(_) => &mut self.foreign,
            fault if used && fault.may_be_of_the_connection() => &mut self.suspect,
            _ => return false,
        };
        let tries = *left > 0;
        *left = left.saturating_sub(1);
        if tries && fault.is_foreign() {
            tracing::warn!("the pool gave a connection with an open transaction; it was closed, which rolls that transaction back");
        }
        tries
    }
}

/// Reads every row as it comes, until one cannot be read; what follows it is still waited for.
async fn each(
    stream: impl Future<Output = Result<RowStream, tokio_postgres::Error>>,
    read: &mut impl FnMut(Row) -> Result<(), Fault>,
) -> Result<Result<(), Fault>, tokio_postgres::Error> {
    let (mut stream, mut all) = (pin!(stream.await?), Ok(()));
    while let Some(row) = stream.try_next().await? {
        if all.is_ok() {
            all = read(row);
        }
    }
    Ok(all)
}

/// The statement as this connection knows it.
async fn prepare(client: &ClientWrapper, text: &str, params: &[Param<'_>]) -> Result<tokio_postgres::Statement, Fault> {
    let types: Vec<Type> = params.iter().map(|(_, of)| of.clone()).collect();
    Ok(client.prepare_typed_cached(text, &types).await?)
}

/// The values as prepared statements take them. The driver logs parameters by `Debug`, and these show none.
pub(crate) fn quiet<'a>(params: &'a [Param<'_>]) -> impl ExactSizeIterator<Item = Quiet<'a>> {
    params.iter().map(|(value, of)| Quiet { value: *value, of })
}

/// The same with their types.
pub(crate) fn quiet_typed<'a>(params: &'a [Param<'_>]) -> impl Iterator<Item = (Quiet<'a>, Type)> {
    params.iter().map(|(value, of)| (Quiet { value: *value, of }, of.clone()))
}

/// A connection of the pool in use. Unless it is given back it is closed: nobody knows in which state it is.
/// Instead of one of the pool it may be one of this operation alone, which is closed in any case.
pub(crate) struct Held(Option<Object>, Option<ClientWrapper>);

impl Held {
    pub(crate) fn client(&self) -> &ClientWrapper {
        self.0.as_deref().or(self.1.as_ref()).expect("present until it is given back")
    }

    /// Whether somebody had the connection before, since it was made.
    pub(crate) fn is_used(&self) -> bool {
        self.0.as_ref().is_some_and(|connection| Object::metrics(connection).recycle_count > 0)
    }

    /// Gives the connection back, unless the result says that it is of no more use.
    pub(crate) fn give_back<T>(mut self, result: Result<T, Fault>) -> Result<T, Fault> {
        let usable = result.as_ref().err().is_none_or(Fault::spares_connection);
        if usable {
            self.0.take();
        }
        result
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}
