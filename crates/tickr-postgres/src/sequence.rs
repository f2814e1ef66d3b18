//! Sequences that are behind their rows.
//!
//! Logical replication does not copy sequences, and people set them by hand. A sequence that is behind gives out numbers that are in
//! use, and every statement that inserts fails with 23505 until it has passed them. Such a failure sets the sequence behind the highest
//! row, and the statement is sent again. `migrate` checks without a cause, and so does every worker before it registers.

use std::future::Future;

use tickr_core::{Error, Retry};
use tickr_sql::postgres::{Names, Statement, schema, sequence};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::Type;

use crate::error::Fault;
use crate::executor::{Executor, Plan};
use crate::migrate;
use crate::row;
use crate::schema::Dialect;

/// How far behind the highest row a sequence is set. Others take numbers between the question and the answer, and these have to
/// stay below.
const MARGIN: i64 = 1_000_000;

/// The sequences of one storage.
#[derive(Debug)]
pub(crate) struct Sequences {
    all: [Sequence; 2],
    /// Of many that find a sequence behind, the first one sets it.
    lock: i64,
}

/// A table with an identity column that is in its primary key.
#[derive(Debug)]
struct Sequence {
    table: String,
    qualified: String,
    statement: Statement,
}

/// How a sequence stands.
struct Standing {
    name: String,
    highest: i64,
    /// The next number; `None` where the role has no right to the sequence.
    next: Option<i64>,
}

impl Sequences {
    pub(crate) fn new(names: &Names) -> Self {
        let of = |table, statement| Sequence { table: names.table(table), qualified: names.qualified(table), statement };
        Self { all: [of("ready", sequence::READY), of("transitions", sequence::TRANSITIONS)], lock: migrate::lock_of(names) }
    }

    /// The name, in SQL, of the table whose sequence gives out the places in the queue.
    pub(crate) fn table_of_places(&self) -> &str {
        &self.all[0].qualified
    }

    /// Whether an error blames a sequence: its number is in use.
    fn are_blamed(&self, fault: &Fault) -> bool {
        let Fault::Postgres(error) = fault else { return false };
        let Some(db) = error.as_db_error().filter(|db| db.code() == &SqlState::UNIQUE_VIOLATION) else { return false };
        // A partition has a longer name than its table.
        let is_of = |table: &str| db.table().is_some_and(|found| found.starts_with(table));
        is_primary_key(db) && self.all.iter().any(|sequence| is_of(&sequence.table))
    }
}

fn is_primary_key(error: &DbError) -> bool {
    error.constraint().is_some_and(|constraint| constraint.ends_with("_pkey"))
}

/// Sets all sequences behind their rows if an error blames one: a statement that is sent again would fail at the next one. `false`
/// where it blames none: then the error stands.
///
/// On a connection that the pool does not count: the caller may hold the only one.
pub(crate) async fn repaired(executor: &Executor, fault: &Fault) -> Result<bool, Fault> {
    if !fault.is(&SqlState::UNIQUE_VIOLATION) {
        return Ok(false);
    }
    let dialect = executor.dialect().await?;
    if !dialect.sequences.are_blamed(fault) {
        return Ok(false);
    }
    for sequence in &dialect.sequences.all {
        set_behind_rows(executor, &dialect, sequence).await?;
    }
    Ok(true)
}

/// Does `work`, a transaction of several statements, again if a sequence had to be set, or if a connection forgot its statements.
pub(crate) async fn again_if_repaired<T, F>(executor: &Executor, mut work: impl FnMut() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    match work().await {
        Err(fault) if fault.is(&SqlState::INVALID_SQL_STATEMENT_NAME) => {
            executor.learn_from(&fault);
            work().await
        }
        Err(fault) if repaired(executor, &fault).await? => work().await,
        done => done,
    }
}

/// The error of a caller's transaction, which has failed: with its sequence set it can be run again.
pub(crate) async fn repaired_in_callers_transaction(executor: &Executor, fault: Fault) -> Error {
    match repaired(executor, &fault).await {
        Ok(false) => fault.in_callers_transaction(),
        Ok(true) => {
            fault.during("enqueue in your transaction: a sequence was behind its rows, and is set now").with_retry(Retry::Transaction)
        }
        Err(refused) => refused.in_callers_transaction(),
    }
}

/// Checks every sequence, and sets those that are behind.
pub(crate) async fn look(executor: &Executor) -> Result<(), Fault> {
    let dialect = executor.dialect().await?;
    for sequence in &dialect.sequences.all {
        let rows = executor.once(Plan::Indexed, sequence.statement, &[(&sequence.qualified, Type::TEXT)]).await?;
        let standing = standing(row::only(&rows)?)?;
        if standing.next.is_some_and(|next| next <= standing.highest) {
            set_behind_rows(executor, &dialect, sequence).await?;
        }
    }
    Ok(())
}

async fn set_behind_rows(executor: &Executor, dialect: &Dialect, sequence: &Sequence) -> Result<(), Fault> {
    let client = executor.extra_connection().await?;
    client.batch_execute(executor.prelude(Plan::Indexed)).await.map_err(Fault::of_beginning)?;
    executor.send(&client, dialect.statements.get(schema::LOCK), &[(&dialect.sequences.lock, Type::INT8)]).await?;
    let rows = executor.send(&client, dialect.statements.get(sequence.statement), &[(&sequence.qualified, Type::TEXT)]).await?;
    let standing = standing(row::only(&rows)?)?;
    let last = standing.highest.saturating_add(MARGIN);
    match standing.next {
        None => return Err(may_not_set(&standing.name, &sequence.table, last).into()),
        // Another one was quicker.
        Some(next) if next > standing.highest => {}
        Some(next) => {
            executor.send(&client, dialect.statements.get(sequence::SET), &[(&standing.name, Type::TEXT), (&last, Type::INT8)]).await?;
            tracing::warn!(
                sequence = standing.name,
                table = sequence.table,
                next,
                highest = standing.highest,
                set_to = last,
                "a sequence was behind its rows and is set behind them: after logical replication, or set by hand"
            );
        }
    }
    Ok(client.batch_execute("COMMIT").await?)
}

fn standing(row: &tokio_postgres::Row) -> Result<Standing, Fault> {
    Ok(Standing { name: row.try_get(0)?, highest: row.try_get(1)?, next: row.try_get(2)? })
}

fn may_not_set(name: &str, table: &str, last: i64) -> Error {
    Error::config(format!(
        "the sequence {name} is behind the rows of {table}, and this role may not set it: run SELECT setval('{name}', {last}) as its \
         owner, and GRANT UPDATE ON SEQUENCE {name} to this role"
    ))
}
