//! In which schema the tables are.
//!
//! A schema that is configured is taken as it is. Otherwise the tables are searched for once, in the search path that the role has by default
//! and then in the one that the connection came with, and the statements name the schema from then on. So they do not follow a
//! search path that somebody sets later: in the caller's transaction, or on a connection of the application's pool.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::TryStreamExt;
use tickr_sql::postgres::{Names, Rendered, schema};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::error::Fault;
use crate::executor::{Param, quiet_typed};
use crate::row::{self, Encoding};
use crate::sequence::Sequences;

/// Names, the statements that use them, and what texts the database can store.
#[derive(Debug)]
pub(crate) struct Dialect {
    pub(crate) names: Names,
    pub(crate) statements: Rendered,
    pub(crate) sequences: Sequences,
    pub(crate) encoding: Encoding,
}

impl Dialect {
    pub(crate) fn new(names: Names, encoding: Encoding) -> Self {
        Self { statements: Rendered::new(&names), sequences: Sequences::new(&names), names, encoding }
    }

    /// Asks the server. `None` when the tables are in no schema of either path.
    pub(crate) async fn resolve(client: &Client, prelude: &str, names: &Names) -> Result<Option<Arc<Self>>, Fault> {
        client.batch_execute(prelude).await.map_err(Fault::of_beginning)?;
        let came_with = query(client, schema::PATH.text, &[]).await?;
        let row = row::only(&came_with)?;
        let (path, encoding): (Vec<String>, Encoding) = (row.try_get(0)?, Encoding::parse(row.try_get(1)?));
        if names.schema().is_some() {
            client.batch_execute("COMMIT").await?;
            return Ok(Some(Arc::new(Self::new(names.clone(), encoding))));
        }
        client.batch_execute("SET LOCAL search_path TO DEFAULT").await?;
        let table = names.table("migrations");
        let found = query(client, schema::FIND.text, &[(&table, Type::TEXT), (&path, Type::TEXT_ARRAY)]).await?;
        client.batch_execute("COMMIT").await?;
        let Some(row) = found.first() else { return Ok(None) };
        Ok(Some(Arc::new(Self::new(names.in_schema(row.try_get(0)?)?, encoding))))
    }
}

/// The dialect of one storage: as it was configured, and with the schema in which the tables were found.
#[derive(Debug)]
pub(crate) struct Dialects {
    configured: Arc<Dialect>,
    /// `None` before the first use, and after an error that contradicts it.
    found: Mutex<Option<Arc<Dialect>>>,
    /// One operation searches, the others wait for it.
    searching: tokio::sync::Mutex<()>,
}

impl Dialects {
    pub(crate) fn new(names: Names) -> Self {
        let configured = Arc::new(Dialect::new(names, Encoding::default()));
        Self { configured, found: Mutex::default(), searching: tokio::sync::Mutex::default() }
    }

    pub(crate) fn configured(&self) -> &Dialect {
        &self.configured
    }

    /// The one that was found.
    pub(crate) fn found(&self) -> Option<Arc<Dialect>> {
        self.lock().clone()
    }

    /// The one that was found, or else what `search` finds. While there are no tables, names stay as they are.
    pub(crate) async fn find(&self, search: impl Future<Output = Result<Option<Arc<Dialect>>, Fault>>) -> Result<Arc<Dialect>, Fault> {
        let _one_at_a_time = self.searching.lock().await;
        if let Some(dialect) = self.found() {
            return Ok(dialect);
        }
        let found = search.await?;
        if let Some(dialect) = &found {
            *self.lock() = Some(Arc::clone(dialect));
        }
        Ok(found.unwrap_or_else(|| Arc::clone(&self.configured)))
    }

    /// Has the tables searched again.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Dialect>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn query(client: &Client, text: &str, params: &[Param<'_>]) -> Result<Vec<tokio_postgres::Row>, Fault> {
    Ok(client.query_typed_raw(text, quiet_typed(params)).await?.try_collect().await?)
}
