//! Compares all tables with the invariants of the storage protocol.

use tickr_core::protocol::Recorded;
use tickr_core::{Audit, AuditedSettlement, Auditor, MessageId, OpenClaim, Place, Token};
use tickr_sql::sqlite::{audit, settle};

use crate::error::Fault;
use crate::purge::Position;
use crate::row;
use crate::scope::Scope;

/// Reads everything, in one snapshot.
pub(crate) fn audit(scope: &Scope<'_>) -> Result<Audit, Fault> {
    let mut auditor = Auditor::default();
    for (sql, table, place) in
        [(audit::READY, "ready", Place::Ready), (audit::SCHEDULED, "scheduled", Place::Scheduled), (audit::DEAD, "dead", Place::Dead)]
    {
        audit_ids(scope, &mut auditor, sql, table, |auditor, id| auditor.row(id, place))?;
    }
    audit_claims(scope, &mut auditor)?;
    audit_ids(scope, &mut auditor, audit::BODIES, "messages", Auditor::body)?;
    Ok(auditor.finish())
}

fn audit_ids(
    scope: &Scope<'_>,
    auditor: &mut Auditor,
    sql: &str,
    table: &'static str,
    found: impl Fn(&mut Auditor, MessageId),
) -> Result<(), Fault> {
    let mut statement = scope.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match MessageId::from_slice(row::blob(row, 0)?) {
            Ok(id) => found(auditor, id),
            Err(_) => auditor.unreadable_id(table),
        }
    }
    Ok(())
}

fn audit_claims(scope: &Scope<'_>, auditor: &mut Auditor) -> Result<(), Fault> {
    let purged = Position::read(scope)?;
    let mut statement = scope.prepare(audit::CLAIMS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let token = row::token(row, 0)?;
        if row.get(5)? {
            auditor.unowned(token);
        }
        let Some(ids) = row::ids(row::blob(row, 1)?) else {
            auditor.orphan(token);
            continue;
        };
        let members = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let fence = match row.get::<_, Option<i64>>(2)? {
            Some(open) => {
                let open = u32::try_from(open).unwrap_or(0);
                let mut fence = OpenClaim::new(token, open);
                fence.settled = row::bits(row, 3, open)?;
                fence.revoked = row::bits(row, 4, open)?;
                Some(fence)
            }
            None => None,
        };
        let settlements = settlements(scope, token, members, purged)?;
        auditor.claim(token, &ids, fence.as_ref(), &settlements);
    }
    let mut statement = scope.prepare(audit::ORPHANS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        auditor.orphan(row::token(row, 0)?);
    }
    Ok(())
}

fn settlements(scope: &Scope<'_>, token: Token, members: u32, purged: Position) -> Result<Vec<AuditedSettlement>, Fault> {
    let mut statement = scope.prepare(settle::READ_SETTLEMENTS)?;
    let mut rows = statement.query([token.as_bytes().as_slice()])?;
    let mut settlements = Vec::new();
    while let Some(row) = rows.next()? {
        let recorded = Recorded::parse(&row::lossy(row.get_ref(0)?));
        let mut settlement = AuditedSettlement::new(recorded, row::bits(row, 1, members)?);
        settlement.proves_from = purged.first_member(row.get(3)?);
        settlements.push(settlement);
    }
    Ok(settlements)
}
