//! The schema: how it stands, and bringing it up to date.

use std::sync::Arc;
use std::time::Duration;

use tickr_core::{Error, Migrated, Migration, SchemaStatus};
use tickr_migrations::postgres::VERSION;
use tickr_sql::postgres::{Names, schema};
use tokio_postgres::types::Type;

use crate::error::Fault;
use crate::executor::{Executor, Plan};
use crate::partition;
use crate::row::{self, Encoding};
use crate::schema::Dialect;
use crate::scope::Scope;

/// What whoever migrates needs, and nobody else.
const NEEDS: &str = "migrate() needs CREATE on the schema, or on the database where it makes the schema too";

pub(crate) async fn status(executor: &Executor) -> Result<SchemaStatus, Fault> {
    let scope = executor.begin(Plan::Free).await?;
    let (found, readable_from) = version(&scope).await?;
    scope.commit().await?;
    Ok(SchemaStatus::of(found, readable_from, VERSION))
}

/// The version of the schema, 0 when there is none, and the oldest library schema version that it admits.
async fn version(scope: &Scope<'_>) -> Result<(u32, u32), Fault> {
    let names = &scope.dialect().names;
    let (schema, table) = (names.schema(), names.table("migrations"));
    let exists = scope.query(schema::EXISTS, &[(&schema, Type::TEXT), (&table, Type::TEXT)]).await?;
    if !row::only(&exists)?.try_get(0)? {
        return Ok((0, 0));
    }
    let rows = scope.query(schema::VERSION, &[]).await?;
    rows.first().map_or(Ok((0, 0)), |row| Ok((row::index(row, 0)?, row::index(row, 1)?)))
}

/// Applies what is missing, in one transaction, so that a failure leaves the schema as it was; under a lock, so that of many that
/// try at once the first one does it and the others find it done.
pub(crate) async fn migrate(executor: &Executor, migrations: &[Migration], partition_period: Option<Duration>) -> Result<Migrated, Fault> {
    let mut scope = executor.begin(Plan::Patient).await?;
    let dialect = named(&scope).await?;
    let names = &dialect.names;
    scope.speak(Arc::clone(&dialect));
    if dialect.encoding != Encoding::default() {
        tracing::warn!(
            encoding = ?dialect.encoding,
            "the database is not encoded in UTF8: messages with other characters are refused, and errors are recorded without them"
        );
    }
    let (found, _) = version(&scope).await?;
    if found >= VERSION {
        scope.commit().await?;
        return Ok(Migrated::new(found));
    }
    scope.query(schema::LOCK, &[(&lock_of(names), Type::INT8)]).await?;
    let (found, _) = version(&scope).await?;
    if let Some(namespace) = names.schema() {
        let exists = scope.query(schema::NAMESPACE, &[(&namespace, Type::TEXT)]).await?;
        if !row::only(&exists)?.try_get(0)? {
            scope.script(&names.create_schema()).await.map_err(|fault| fault.if_rights_lack(NEEDS))?;
        }
    }
    for migration in migrations.iter().filter(|migration| migration.version > found) {
        scope.script(&names.render(migration.sql)).await.map_err(|fault| fault.if_rights_lack(NEEDS))?;
    }
    if let Some(period) = partition_period.filter(|_| found == 0) {
        partition::choose(&scope, period).await?;
    }
    scope.commit().await?;
    let mut migrated = Migrated::new(found.max(VERSION));
    migrated.from = found;
    Ok(migrated)
}

/// The names with the schema that the tables are in, or will be in: where none is configured, the first of the search path.
async fn named(scope: &Scope<'_>) -> Result<Arc<Dialect>, Fault> {
    let dialect = scope.dialect();
    if dialect.names.schema().is_some() {
        return Ok(Arc::clone(dialect));
    }
    let rows = scope.query(schema::CURRENT, &[]).await?;
    let none = || Error::config("there is no schema to make the tables in: the search path names none that exists; name one (`schema`)");
    let current = row::only(&rows)?.try_get::<_, Option<&str>>(0)?.ok_or_else(none)?;
    let rows = scope.query(schema::PATH, &[]).await?;
    let encoding = Encoding::parse(row::only(&rows)?.try_get(1)?);
    Ok(Arc::new(Dialect::new(dialect.names.in_schema(current)?, encoding)))
}

/// The number of the lock: FNV-1a of the name of the table of migrations, which every version of this library must agree on.
pub(crate) fn lock_of(names: &Names) -> i64 {
    let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    names.qualified("migrations").as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, hash).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_the_lock_never_changes() {
        assert_eq!(lock_of(&Names::default()), lock_of(&Names::default()));
        assert_ne!(lock_of(&Names::default()), lock_of(&Names::new(Some("a"), "tickr_").unwrap()));
    }
}
