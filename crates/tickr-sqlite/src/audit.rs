//! Compares all tables with the invariants of the storage protocol.

use std::collections::BTreeMap;

use tickr_core::protocol::Recorded;
use tickr_core::{Audit, Bits, Finding, MessageId, Token};
use tickr_sql::sqlite::{audit, settle};

use crate::error::Fault;
use crate::purge::Position;
use crate::row;
use crate::scope::Scope;

/// The places that a message can be in, in the order of [`PLACES`].
const READY: usize = 0;
const SCHEDULED: usize = 1;
const DEAD: usize = 2;
const CLAIMED: usize = 3;
const PLACES: [&str; 5] = ["ready", "scheduled", "dead", "claimed", "success"];

/// How often a message is in each place.
#[derive(Default)]
struct Places {
    live: [u32; 4],
    successes: u32,
    bodies: u32,
}

/// Reads everything, in one snapshot.
pub(crate) fn audit(scope: &Scope<'_>) -> Result<Audit, Fault> {
    let mut audit = Audit::default();
    let mut places: BTreeMap<MessageId, Places> = BTreeMap::new();
    for (sql, place) in [(audit::READY, READY), (audit::SCHEDULED, SCHEDULED), (audit::DEAD, DEAD)] {
        let mut statement = scope.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            places.entry(row::message_id(row, 0)?).or_default().live[place] += 1;
        }
    }
    audit_claims(scope, &mut places, &mut audit)?;
    audit_bodies(scope, places, &mut audit)?;
    Ok(audit)
}

/// I2: the masks of a token are disjoint, and full if and only if it is not open; the fence row says the same.
fn audit_claims(scope: &Scope<'_>, places: &mut BTreeMap<MessageId, Places>, audit: &mut Audit) -> Result<(), Fault> {
    let purged = Position::read(scope)?;
    let mut statement = scope.prepare(audit::CLAIMS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        audit.claims += 1;
        let token = row::token(row, 0)?;
        let ids = row::ids(row::blob(row, 1)?)?;
        let members = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let (settled, revoked) = audit_settlements(scope, token, &ids, purged, places, audit)?;
        let consistent = match row.get::<_, Option<u32>>(2)? {
            Some(open) => {
                let (fence_settled, fence_revoked) = (row::bits(row, 3, open)?, row::bits(row, 4, open)?);
                for index in fence_settled.union(&fence_revoked).complement().iter() {
                    if let Some(id) = ids.get(index as usize) {
                        places.entry(*id).or_default().live[CLAIMED] += 1;
                    }
                }
                open == members && fence_settled == settled && fence_revoked == revoked && !settled.union(&revoked).is_full()
            }
            None => settled.union(&revoked).is_full(),
        };
        if !consistent {
            audit.findings.push(Finding::Mismatch(token));
        }
    }
    let mut statement = scope.prepare(audit::ORPHANS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        audit.findings.push(Finding::Mismatch(row::token(row, 0)?));
    }
    Ok(())
}

/// The unions of the masks of a token: what its holder ended, and what was taken away.
fn audit_settlements(
    scope: &Scope<'_>,
    token: Token,
    ids: &[MessageId],
    purged: Position,
    places: &mut BTreeMap<MessageId, Places>,
    audit: &mut Audit,
) -> Result<(Bits, Bits), Fault> {
    let members = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let (mut settled, mut revoked) = (Bits::new(members), Bits::new(members));
    let mut overlap = false;
    let mut statement = scope.prepare(settle::READ_SETTLEMENTS)?;
    let mut rows = statement.query([token.as_bytes().as_slice()])?;
    while let Some(row) = rows.next()? {
        let recorded = Recorded::parse(row::text(row, 0)?);
        let mask = row::bits(row, 1, members)?;
        overlap |= !mask.intersection(&settled.union(&revoked)).is_empty();
        if recorded.is_some_and(Recorded::took_the_lease) {
            revoked = revoked.union(&mask);
        } else {
            settled = settled.union(&mask);
        }
        if recorded.is_some_and(Recorded::is_success) {
            let n = row.get(3)?;
            for index in mask.iter().filter(|index| purged.leaves(n, *index)) {
                places.entry(ids[index as usize]).or_default().successes += 1;
            }
        }
    }
    if overlap {
        audit.findings.push(Finding::Overlap(token));
    }
    Ok((settled, revoked))
}

/// I1 and I6: every body is in exactly one place, or succeeded; everything live or dead has a body.
fn audit_bodies(scope: &Scope<'_>, mut places: BTreeMap<MessageId, Places>, audit: &mut Audit) -> Result<(), Fault> {
    let mut statement = scope.prepare(audit::BODIES)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        audit.messages += 1;
        places.entry(row::message_id(row, 0)?).or_default().bodies = 1;
    }
    for (id, place) in places {
        // Without a body a success is history.
        let counts = place.live.into_iter().chain([place.successes * place.bodies]);
        let named: Vec<&'static str> =
            PLACES.into_iter().zip(counts).flat_map(|(name, count)| std::iter::repeat_n(name, count as usize)).collect();
        if place.bodies > 0 && named.is_empty() {
            audit.findings.push(Finding::Lost(id));
        }
        if place.bodies == 0 && !named.is_empty() {
            audit.findings.push(Finding::MissingBody(id));
        }
        if named.len() > 1 {
            audit.findings.push(Finding::Doubled { id, places: named });
        }
    }
    Ok(())
}
