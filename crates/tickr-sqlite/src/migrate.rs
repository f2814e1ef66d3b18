//! The schema: how it stands, and bringing it up to date.

use tickr_core::{Migrated, SchemaStatus};
use tickr_migrations::sqlite::{MIGRATIONS, VERSION};
use tickr_sql::sqlite::schema;

use crate::error::Fault;
use crate::scope::Scope;

/// The version of the schema, 0 when there is none, and the oldest library schema version that it admits.
fn version(scope: &Scope<'_>) -> Result<(u32, u32), Fault> {
    if !scope.asks(schema::EXISTS, [])? {
        return Ok((0, 0));
    }
    let mut statement = scope.prepare(schema::VERSION)?;
    let mut rows = statement.query([])?;
    match rows.next()? {
        Some(row) => Ok((row.get(0)?, row.get(1)?)),
        None => Ok((0, 0)),
    }
}

pub(crate) fn status(scope: &Scope<'_>) -> Result<SchemaStatus, Fault> {
    let (found, readable_from) = version(scope)?;
    Ok(SchemaStatus::of(found, readable_from, VERSION))
}

/// The answer when there is nothing to apply.
pub(crate) fn probe(scope: &Scope<'_>) -> Result<Option<Migrated>, Fault> {
    let (found, _) = version(scope)?;
    Ok((found >= VERSION).then(|| Migrated::new(found)))
}

/// Applies what is missing. Under the write lock, so that of many that try at once the first one does it and the others
/// find it done; in the transaction of the job, so that a failure leaves the schema as it was.
pub(crate) fn migrate(scope: &Scope<'_>) -> Result<Migrated, Fault> {
    let (found, _) = version(scope)?;
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > found) {
        scope.run_script(migration.sql)?;
    }
    let mut migrated = Migrated::new(found.max(VERSION));
    migrated.from = found;
    Ok(migrated)
}
