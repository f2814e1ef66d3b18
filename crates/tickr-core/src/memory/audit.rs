//! Compares all tables with the invariants I1, I2, I3 and I6. Walks the tables, never their indexes.

use std::collections::BTreeMap;

use super::state::{ClaimRow, OpenRow, SettlementRow, State};
use crate::bits::Bits;
use crate::id::{MessageId, Token};
use crate::storage::{Audit, Finding};

type Places = BTreeMap<MessageId, Vec<&'static str>>;

impl State {
    pub(super) fn audit(&self) -> Audit {
        let mut audit = Audit { messages: self.messages.len() as u64, claims: self.claims.len() as u64, findings: Vec::new() };
        let settlements = self.settlements_by_token();
        self.audit_places(&mut audit.findings);
        self.audit_claims(&settlements, &mut audit.findings);
        audit
    }

    fn settlements_by_token(&self) -> BTreeMap<Token, Vec<&SettlementRow>> {
        let mut by_token: BTreeMap<Token, Vec<&SettlementRow>> = BTreeMap::new();
        for row in self.settlements.values() {
            by_token.entry(row.token).or_default().push(row);
        }
        by_token
    }

    /// I1 and I6: a message is in exactly one place, and there as long as its body is.
    fn audit_places(&self, findings: &mut Vec<Finding>) {
        let live = self.live_places();
        let mut all = live.clone();
        self.add_successes(&mut all);
        for id in self.messages.keys() {
            match all.get(id) {
                None => findings.push(Finding::Lost(*id)),
                Some(places) if places.len() > 1 => findings.push(Finding::Doubled { id: *id, places: places.clone() }),
                Some(_) => {}
            }
        }
        for (id, places) in live.into_iter().filter(|(id, _)| !self.messages.contains_key(id)) {
            findings.push(Finding::MissingBody(id));
            if places.len() > 1 {
                findings.push(Finding::Doubled { id, places });
            }
        }
    }

    fn live_places(&self) -> Places {
        let mut places = Places::new();
        let mut add = |id: MessageId, place| places.entry(id).or_default().push(place);
        for row in self.ready.values() {
            add(row.id, "ready");
        }
        for row in self.scheduled.values() {
            add(row.id, "scheduled");
        }
        for id in self.dead.keys() {
            add(*id, "dead");
        }
        for (token, open) in &self.open_claims {
            let Some(claim) = self.claims.get(token) else { continue };
            for member in open.unset().iter().filter_map(|index| claim.members.get(index as usize)) {
                add(member.id, "claimed");
            }
        }
        places
    }

    /// Successes of bodies that are still kept; of an earlier life of the same id they prove nothing.
    fn add_successes(&self, places: &mut Places) {
        for (number, row) in self.settlements.iter().filter(|(_, row)| row.recorded.is_success()) {
            let Some(claim) = self.claims.get(&row.token) else { continue };
            for member in row.mask.iter().filter_map(|index| claim.members.get(index as usize)) {
                if self.messages.get(&member.id).is_some_and(|body| body.number < *number) {
                    places.entry(member.id).or_default().push("success");
                }
            }
        }
    }

    /// I2 and I3: masks are disjoint, and say the same as the fence row.
    fn audit_claims(&self, settlements: &BTreeMap<Token, Vec<&SettlementRow>>, findings: &mut Vec<Finding>) {
        for (token, claim) in &self.claims {
            let rows = settlements.get(token).map_or(&[][..], Vec::as_slice);
            if overlap(claim, rows) {
                findings.push(Finding::Overlap(*token));
            }
            if !agrees(claim, rows, self.open_claims.get(token)) {
                findings.push(Finding::Mismatch(*token));
            }
        }
        for (token, open) in &self.open_claims {
            if !self.claims.contains_key(token) || !self.workers.contains_key(&open.worker) {
                findings.push(Finding::Mismatch(*token));
            }
        }
    }
}

fn overlap(claim: &ClaimRow, rows: &[&SettlementRow]) -> bool {
    let set: u32 = rows.iter().map(|row| row.mask.count()).sum();
    union(claim, rows.iter().copied()).count() != set
}

/// A closed claim is covered by its settlements; an open one is not, and its fence row says what they say.
fn agrees(claim: &ClaimRow, rows: &[&SettlementRow], open: Option<&OpenRow>) -> bool {
    let len = claim.members.len();
    if rows.iter().any(|row| row.mask.len() as usize != len) {
        return false;
    }
    let Some(open) = open else {
        return union(claim, rows.iter().copied()).is_full();
    };
    let settled = union(claim, rows.iter().copied().filter(|row| !row.recorded.took_the_lease()));
    let revoked = union(claim, rows.iter().copied().filter(|row| row.recorded.took_the_lease()));
    open.settled == settled && open.revoked == revoked && !open.gone().is_full()
}

fn union<'a>(claim: &ClaimRow, rows: impl Iterator<Item = &'a SettlementRow>) -> Bits {
    let len = u32::try_from(claim.members.len()).unwrap_or(u32::MAX);
    rows.fold(Bits::new(len), |all, row| all.union(&row.mask))
}
