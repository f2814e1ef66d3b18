//! Pauses: the rows of `paused`. Claims compare their ends with the clock of the server.

use tickr_core::{Pause, PauseRequest, PauseScope};
use tickr_sql::postgres::{admin, stats};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::error::Fault;
use crate::executor::{Executor, Plan};
use crate::row::{self, At};
use crate::stats::now;

/// Stores a pause; says whether claims of the scope were allowed before.
pub(crate) async fn pause(executor: &Executor, offset: i64, request: &PauseRequest) -> Result<bool, Fault> {
    let pause = request.check(now(executor, offset).await?)?;
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 7] = [
        (&offset, Type::INT8),
        (&request.scope().key()?, Type::TEXT),
        (&At(pause.since), Type::TIMESTAMPTZ),
        (&pause.until.map(At), Type::TIMESTAMPTZ),
        (&pause.by, Type::TEXT),
        (&pause.reason, Type::TEXT),
        (&request.keeps_longer(), Type::BOOL),
    ];
    let rows = executor.once(Plan::Free, admin::PAUSE, &parameters).await?;
    let paused_before: bool = row::only(&rows)?.try_get(0)?;
    Ok(!paused_before)
}

/// Ends a pause; says whether it was in force.
pub(crate) async fn resume(executor: &Executor, offset: i64, scope: &PauseScope) -> Result<bool, Fault> {
    let rows = executor.once(Plan::Free, admin::RESUME, &[(&offset, Type::INT8), (&scope.key()?, Type::TEXT)]).await?;
    Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?)
}

/// The pauses in force: that of everything first, then types by name.
pub(crate) async fn in_force(executor: &Executor, offset: i64) -> Result<Vec<Pause>, Fault> {
    let rows = executor.once(Plan::Free, stats::PAUSES, &[(&offset, Type::INT8)]).await?;
    rows.iter().map(stored).collect()
}

fn stored(row: &Row) -> Result<Pause, Fault> {
    let scope = PauseScope::from_stored(row.try_get(0)?);
    let until = row.try_get::<_, Option<At>>(2)?.map(|At(until)| until);
    let mut pause = Pause::new(scope, row::timestamp(row, 1)?, until);
    (pause.by, pause.reason) = (row.try_get(3)?, row.try_get(4)?);
    Ok(pause)
}
