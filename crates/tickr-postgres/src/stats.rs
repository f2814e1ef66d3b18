//! Counting what waits, runs and is dead, from thin tables only.

use tickr_core::{Count, Stats, StatsRequest, Timestamp, TypeStats};
use tickr_sql::postgres::{schema, stats};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::error::Fault;
use crate::executor::{Executor, Plan};
use crate::pause;
use crate::row::{self, At};

pub(crate) async fn sample(executor: &Executor, offset: i64, request: &StatsRequest) -> Result<Stats, Fault> {
    // One row more than a count may give, so that it is known whether there are more.
    let rows_max = i64::from(request.count_max) + 1;
    let rows = executor.once(Plan::Indexed, stats::SAMPLE, &[(&offset, Type::INT8), (&rows_max, Type::INT8)]).await?;
    let sampled_at = match rows.first() {
        Some(row) => row::timestamp(row, 9)?,
        None => now(executor, offset).await?,
    };
    let types = rows.iter().map(|row| type_stats(row, request.count_max)).collect::<Result<_, _>>()?;
    Ok(Stats::new(types, sampled_at).with_pauses(pause::in_force(executor, offset).await?))
}

fn type_stats(row: &Row, count_max: u32) -> Result<TypeStats, Fault> {
    let cut = |column| Ok::<_, Fault>(Count::cut(row::count(row, column)?, count_max));
    let mut stats = TypeStats::new(row::event_type(row, 0)?);
    stats.created = cut(1)?;
    stats.retrying = cut(2)?;
    stats.handling = cut(3)?;
    stats.dead = cut(4)?;
    stats.ready = cut(5)?;
    stats.suspects = cut(6)?;
    let now = row::timestamp(row, 9)?;
    stats.oldest_ready = row.try_get::<_, Option<At>>(7)?.map(|At(at)| now.since(at));
    stats.unserved = row.try_get(8)?;
    Ok(stats)
}

/// The database's clock.
pub(crate) async fn now(executor: &Executor, offset: i64) -> Result<Timestamp, Fault> {
    let rows = executor.once(Plan::Free, schema::NOW, &[(&offset, Type::INT8)]).await?;
    clock(&rows)
}

/// The answer of a query of the clock.
pub(crate) fn clock(rows: &[Row]) -> Result<Timestamp, Fault> {
    row::timestamp(row::only(rows)?, 0)
}
