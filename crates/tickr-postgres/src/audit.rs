//! Compares all tables with the invariants of the storage protocol.

use std::collections::HashMap;

use tickr_core::protocol::Recorded;
use tickr_core::{Audit, AuditedSettlement, Auditor, OpenClaim, Place, Token};
use tickr_sql::postgres::audit;
use tokio_postgres::Row;

use crate::error::Fault;
use crate::executor::{Executor, Plan};
use crate::row::{self, Mask};

/// Reads everything, in one snapshot.
pub(crate) async fn audit(executor: &Executor) -> Result<Audit, Fault> {
    let scope = executor.begin(Plan::Snapshot).await?;
    let mut auditor = Auditor::default();
    for row in scope.query(audit::PLACES, &[]).await? {
        let place = match row.try_get::<_, i16>(1)? {
            0 => Place::Ready,
            1 => Place::Scheduled,
            _ => Place::Dead,
        };
        auditor.row(row::message_id(&row, 0)?, place);
    }
    let mut settlements: HashMap<Token, Vec<AuditedSettlement>> = HashMap::new();
    for row in scope.query(audit::SETTLEMENTS, &[]).await? {
        settlements.entry(row::token(&row, 0)?).or_default().push(settlement(&row)?);
    }
    for row in scope.query(audit::CLAIMS, &[]).await? {
        let token = row::token(&row, 0)?;
        let ended = settlements.remove(&token).unwrap_or_default();
        let fence = match row.try_get(2)? {
            Some(Mask(settled)) => {
                let mut fence = OpenClaim::new(token, settled.len());
                fence.settled = settled;
                fence.revoked = row::bits(&row, 3)?;
                Some(fence)
            }
            None => None,
        };
        if row.try_get(4)? {
            auditor.unowned(token);
        }
        auditor.claim(token, &row::message_ids(&row, 1)?, fence.as_ref(), &ended);
    }
    settlements.into_keys().for_each(|token| auditor.orphan(token));
    for row in scope.query(audit::BODIES, &[]).await? {
        auditor.body(row::message_id(&row, 0)?);
    }
    scope.commit().await?;
    Ok(auditor.finish())
}

fn settlement(row: &Row) -> Result<AuditedSettlement, Fault> {
    let proves_from: Option<i32> = row.try_get(3)?;
    let mut settlement = AuditedSettlement::new(Recorded::parse(row.try_get(1)?), row::bits(row, 2)?);
    settlement.proves_from = proves_from.map(i32::unsigned_abs);
    Ok(settlement)
}
