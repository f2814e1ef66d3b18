//! A transaction of our own with several statements.

use tickr_sql::postgres::Statement;
use tokio_postgres::Row;

use crate::error::Fault;
use crate::executor::{Executor, Held, Param};

/// An open transaction. Dropped without [`commit`](Self::commit) it closes its connection, which rolls it back.
pub(crate) struct Scope<'e> {
    executor: &'e Executor,
    connection: Held,
}

impl<'e> Scope<'e> {
    pub(crate) fn new(executor: &'e Executor, connection: Held) -> Self {
        Self { executor, connection }
    }

    /// Runs a statement.
    pub(crate) async fn query(&self, statement: Statement, params: &[Param<'_>]) -> Result<Vec<Row>, Fault> {
        self.executor.send(self.connection.client(), self.executor.text(statement), params).await
    }

    /// Runs a statement that was put together from names.
    pub(crate) async fn query_text(&self, text: &str) -> Result<Vec<Row>, Fault> {
        Ok(self.connection.client().query_typed(text, &[]).await?)
    }

    /// Runs a script without parameters, such as a migration.
    pub(crate) async fn script(&self, text: &str) -> Result<(), Fault> {
        Ok(self.connection.client().batch_execute(text).await?)
    }

    pub(crate) async fn commit(self) -> Result<(), Fault> {
        let committed = self.connection.client().batch_execute("COMMIT").await;
        self.connection.give_back(committed.map_err(Fault::from))
    }
}
