//! Named leases.

use std::time::Duration;

use tickr_core::{Lock, WorkerId};
use tickr_sql::postgres::lock;
use tokio_postgres::types::Type;

use crate::enqueue::micros;
use crate::error::Fault;
use crate::executor::{Executor, Plan};

pub(crate) async fn acquire(executor: &Executor, offset: i64, name: &str, holder: WorkerId, ttl: Duration) -> Result<Option<Lock>, Fault> {
    let ttl = micros(ttl);
    let params = [(&offset as _, Type::INT8), (&name as _, Type::TEXT), (holder.as_uuid() as _, Type::UUID), (&ttl as _, Type::INT8)];
    let rows = executor.once(Plan::Indexed, lock::ACQUIRE, &params).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Lock::new(name, holder, row.try_get::<_, i64>(0)?.unsigned_abs())))
}

/// Extends a lease of that term, or gives it back when there is no time. `false` when it is gone.
pub(crate) async fn extend(executor: &Executor, offset: i64, lock: &Lock, ttl: Duration) -> Result<bool, Fault> {
    let (ttl, term) = (micros(ttl), i64::try_from(lock.term).unwrap_or(i64::MAX));
    let rows = executor
        .once(
            Plan::Indexed,
            lock::EXTEND,
            &[
                (&offset, Type::INT8),
                (&lock.name, Type::TEXT),
                (lock.holder.as_uuid(), Type::UUID),
                (&term, Type::INT8),
                (&ttl, Type::INT8),
            ],
        )
        .await?;
    Ok(!rows.is_empty())
}
