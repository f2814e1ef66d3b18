//! The partitioned layout: partitions are made ahead, and dropped when nothing is left in them.
//!
//! A partition stands for a period of time; its name ends with the second at which it begins. Rows are purged one by one as in the
//! plain layout, each with its proof: a partition is dropped because it is empty, and what is in it is never asked.

use std::time::Duration;

use tickr_core::Timestamp;
use tickr_sql::postgres::{Names, partition};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::error::Fault;
use crate::executor::{Executor, Plan};
use crate::row;
use crate::scope::Scope;

/// The tables that grow, and what they are partitioned by.
const TABLES: [(&str, Key); 4] = [("messages", Key::Uuid), ("claims", Key::Uuid), ("settlements", Key::Uuid), ("transitions", Key::Time)];

/// How many periods are made ahead.
const AHEAD: i64 = 3;

/// How many rows of default partitions are counted a table.
const COUNT_MAX: i64 = 100_000;

/// Nothing here waits longer for a lock: whoever comes to the table meanwhile waits behind it.
const PATIENCE: &str = "SET LOCAL lock_timeout = 100";

/// What a table is partitioned by.
#[derive(Clone, Copy, Debug)]
enum Key {
    /// A UUIDv7, which begins with its time.
    Uuid,
    /// A moment.
    Time,
}

impl Key {
    /// The bound at a second.
    fn at(self, second: i64) -> String {
        match self {
            Self::Uuid => {
                let ms = second.max(0).unsigned_abs() * 1_000;
                format!("{:08x}-{:04x}-0000-0000-000000000000", ms >> 16, ms & 0xffff)
            }
            Self::Time => Timestamp::from_micros(second.saturating_mul(1_000_000)).to_string(),
        }
    }
}

/// Chooses the layout, in the transaction of the first migration.
pub(crate) async fn choose(scope: &Scope<'_>, period: Duration) -> Result<(), Fault> {
    let seconds = i64::try_from(period.as_secs()).unwrap_or(i64::MAX);
    scope.query(partition::WRITE_PERIOD, &[(&seconds, Type::INT8)]).await.map(drop)
}

/// Makes partitions ahead, and drops those that are over and empty. Nothing to do in the plain layout.
pub(crate) async fn upkeep(executor: &Executor, offset: i64) -> Result<(), Fault> {
    let dialect = executor.dialect().await?;
    let names = &dialect.names;
    let rows = executor.once(Plan::Free, partition::PERIOD, &[(&offset, Type::INT8)]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (period, now) = (row.try_get::<_, i64>(0)?, row::timestamp(row, 1)?.as_micros().div_euclid(1_000_000));
    let current = now.div_euclid(period) * period;
    let there = list(executor, names).await?;
    // One that cannot be made or dropped, such as one that a view of the application reads, keeps no other.
    let mut results = Vec::new();
    for (table, key) in TABLES {
        for from in (0..=AHEAD).map(|ahead| current + ahead * period) {
            let name = format!("{table}_p{from}");
            if !there.contains(&names.table(&name)) {
                results.push(make(executor, names, table, &name, (key.at(from), key.at(from + period))).await);
            }
        }
        for name in &there {
            // A period later: what is enqueued now may have an id that is a little older.
            let begin = name.strip_prefix(&names.table(&format!("{table}_p"))).and_then(|second| second.parse::<i64>().ok());
            if let Some(begin) = begin.filter(|begin| begin + 2 * period <= current) {
                results.push(drop_if_empty(executor, names, table, &format!("{table}_p{begin}")).await);
            }
        }
    }
    let strays = default_rows(executor).await?;
    if strays > 0 {
        tracing::warn!(rows = strays, "rows are in default partitions: clocks of clients are off, or partitions were made too late");
    }
    results.into_iter().collect()
}

/// How many rows fell into no partition, up to a limit. An error in the plain layout, which has none.
pub(crate) async fn default_rows(executor: &Executor) -> Result<u64, Fault> {
    let rows = executor.once(Plan::Free, partition::DEFAULT_ROWS, &[(&COUNT_MAX, Type::INT8)]).await?;
    row::count(row::only(&rows)?, 0)
}

async fn list(executor: &Executor, names: &Names) -> Result<Vec<String>, Fault> {
    let (schema, tables) = (names.schema(), TABLES.map(|(table, _)| names.table(table)));
    let tables: &[String] = &tables;
    let rows = executor.once(Plan::Free, partition::LIST, &[(&schema, Type::TEXT), (&tables, Type::TEXT_ARRAY)]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn make(executor: &Executor, names: &Names, table: &str, name: &str, (from, to): (String, String)) -> Result<(), Fault> {
    let scope = executor.begin(Plan::Patient).await?;
    scope.script(PATIENCE).await?;
    let made = scope.script(&names.attach_partition(table, name, &from, &to)).await;
    match made {
        Ok(()) => scope.commit().await,
        // Another worker was quicker.
        Err(fault) if fault.is(&SqlState::DUPLICATE_TABLE) || fault.is(&SqlState::INVALID_OBJECT_DEFINITION) => Ok(()),
        // Rows of that time are in the default partition already: they stay there.
        Err(fault) if fault.is(&SqlState::CHECK_VIOLATION) => {
            tracing::warn!(partition = name, "cannot be made: rows of its time are in the default partition");
            Ok(())
        }
        // Somebody holds the table: next time. There are partitions for now.
        Err(fault) if fault.is(&SqlState::LOCK_NOT_AVAILABLE) => Ok(()),
        Err(fault) => Err(fault),
    }
}

async fn drop_if_empty(executor: &Executor, names: &Names, table: &str, name: &str) -> Result<(), Fault> {
    // A look first, which nobody waits for.
    let scope = executor.begin(Plan::Free).await?;
    let empty = is_empty(&scope, names, name).await?;
    scope.commit().await?;
    if !empty {
        return Ok(());
    }
    let scope = executor.begin(Plan::Patient).await?;
    scope.script(PATIENCE).await?;
    let dropped = match scope.script(&names.detach_partition(table, name)).await {
        // Nobody can write into it any more.
        Ok(()) if is_empty(&scope, names, name).await? => scope.script(&names.drop_table(name)).await,
        Ok(()) => return Ok(()),
        refused => refused,
    };
    match dropped {
        Ok(()) => scope.commit().await,
        // Busy, gone already, or a claim of it is open: next time.
        Err(fault)
            if fault.is(&SqlState::LOCK_NOT_AVAILABLE)
                || fault.is(&SqlState::UNDEFINED_TABLE)
                || fault.is(&SqlState::FOREIGN_KEY_VIOLATION) =>
        {
            Ok(())
        }
        Err(fault) => Err(fault),
    }
}

async fn is_empty(scope: &Scope<'_>, names: &Names, name: &str) -> Result<bool, Fault> {
    let rows = scope.query_text(&names.is_empty(name)).await?;
    Ok(row::only(&rows)?.try_get(0)?)
}

#[cfg(test)]
mod tests {
    use tickr_core::MessageId;

    use super::*;

    #[test]
    fn bounds_hold_the_ids_of_their_time() {
        let now = Timestamp::now().as_micros() / 1_000_000;
        let id = MessageId::new().to_string();
        assert!(Key::Uuid.at(now - 5) <= id && id < Key::Uuid.at(now + 5), "{id}");
        assert_eq!(Key::Uuid.at(1_700_000_000), "018bcfe5-6800-0000-0000-000000000000");
        assert_eq!(Key::Time.at(1_700_000_000), "2023-11-14T22:13:20.000000Z");
    }
}
