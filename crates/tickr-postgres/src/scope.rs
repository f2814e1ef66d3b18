//! A transaction of our own with several statements.

use std::sync::Arc;

use tickr_sql::postgres::Statement;
use tokio_postgres::Row;

use crate::enqueue::Session;
use crate::error::Fault;
use crate::executor::{Executor, Held, Param, Plan};
use crate::schema::Dialect;

/// An open transaction. Dropped without [`commit`](Self::commit) it closes its connection, which rolls it back.
pub(crate) struct Scope<'e> {
    executor: &'e Executor,
    dialect: Arc<Dialect>,
    connection: Held,
}

impl<'e> Scope<'e> {
    pub(crate) fn new(executor: &'e Executor, dialect: Arc<Dialect>, connection: Held) -> Self {
        Self { executor, dialect, connection }
    }

    /// The names that its statements use.
    pub(crate) fn dialect(&self) -> &Arc<Dialect> {
        &self.dialect
    }

    /// Uses other names from now on.
    pub(crate) fn speak(&mut self, dialect: Arc<Dialect>) {
        self.dialect = dialect;
    }

    /// Runs a statement.
    pub(crate) async fn query(&self, statement: Statement, params: &[Param<'_>]) -> Result<Vec<Row>, Fault> {
        self.executor.send(self.connection.client(), self.dialect.statements.get(statement), params).await
    }

    /// Runs a statement that was put together from names.
    pub(crate) async fn query_text(&self, text: &str) -> Result<Vec<Row>, Fault> {
        Ok(self.connection.client().query_typed(text, &[]).await?)
    }

    /// Runs a script without parameters, such as a migration.
    pub(crate) async fn script(&self, text: &str) -> Result<(), Fault> {
        Ok(self.connection.client().batch_execute(text).await?)
    }

    /// Ends the transaction; what it did counts from now on.
    pub(crate) async fn commit(self) -> Result<(), Fault> {
        let committed = self.connection.client().batch_execute("COMMIT").await;
        self.connection.give_back(committed.map_err(Fault::from))
    }
}

/// Several statements of one enqueue: with the plan that the transaction began with.
impl Session for Scope<'_> {
    async fn query(&self, _: Plan, statement: Statement, params: &[Param<'_>]) -> Result<Vec<Row>, Fault> {
        Scope::query(self, statement, params).await
    }
}
