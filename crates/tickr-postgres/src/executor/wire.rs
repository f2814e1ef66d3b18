//! How statements and their values are sent.

use std::future::Future;
use std::pin::pin;

use deadpool_postgres::ClientWrapper;
use futures_util::TryStreamExt;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, RowStream};

use crate::error::Fault;
use crate::row::Quiet;

/// A value and its type: statements are sent with types, because a pooler may have no prepared statement to learn them from.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// Reads every row as it comes, until one cannot be read; what follows it is still waited for.
pub(super) async fn each(
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
pub(super) async fn prepare(client: &ClientWrapper, text: &str, params: &[Param<'_>]) -> Result<tokio_postgres::Statement, Fault> {
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
