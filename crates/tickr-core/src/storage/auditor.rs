//! Compares what the tables of a storage say with the invariants of the protocol.

use std::collections::BTreeMap;

use crate::bits::Bits;
use crate::id::{MessageId, Token};
use crate::protocol::Recorded;
use crate::storage::{Audit, Finding, OpenClaim};

/// A place of a live or dead message that has a row of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In ready.
    Ready,
    /// In scheduled.
    Scheduled,
    /// In dead.
    Dead,
}

/// A row of settlements, as an audit sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditedSettlement {
    /// What is recorded; `None` for a word that this library does not know.
    pub recorded: Option<Recorded>,
    /// Of which members.
    pub mask: Bits,
    /// From which member on it still proves successes: bodies of those before were purged. `None`: it proves nothing any more.
    pub proves_from: Option<u32>,
}

impl AuditedSettlement {
    /// A row that proves no success; set `proves_from` of one that does.
    pub const fn new(recorded: Option<Recorded>, mask: Bits) -> Self {
        Self { recorded, mask, proves_from: None }
    }
}

/// Collects what a storage has, in any order, and finds what contradicts the invariants I1, I2 and I6 of the storage protocol.
/// For implementations of [`Admin::audit`](crate::Admin::audit), which read everything in one snapshot.
#[derive(Debug, Default)]
pub struct Auditor {
    audit: Audit,
    messages: BTreeMap<MessageId, Places>,
}

/// How often a message is in each place.
#[derive(Debug, Default)]
struct Places {
    ready: u32,
    scheduled: u32,
    dead: u32,
    claimed: u32,
    successes: u32,
    bodies: u32,
}

impl Places {
    /// The name of each place as often as the message is there. Without a body a success is history.
    fn names(&self) -> Vec<&'static str> {
        let counts = [
            ("ready", self.ready),
            ("scheduled", self.scheduled),
            ("dead", self.dead),
            ("claimed", self.claimed),
            ("success", self.successes * self.bodies),
        ];
        counts.into_iter().flat_map(|(name, count)| std::iter::repeat_n(name, count as usize)).collect()
    }
}

impl Auditor {
    /// A body was found.
    pub fn body(&mut self, id: MessageId) {
        self.audit.messages += 1;
        self.messages.entry(id).or_default().bodies = 1;
    }

    /// A row of ready, scheduled or dead was found.
    pub fn row(&mut self, id: MessageId, place: Place) {
        let places = self.messages.entry(id).or_default();
        match place {
            Place::Ready => places.ready += 1,
            Place::Scheduled => places.scheduled += 1,
            Place::Dead => places.dead += 1,
        }
    }

    /// A row of this table has an id that cannot be read.
    pub fn unreadable_id(&mut self, table: &'static str) {
        self.audit.findings.push(Finding::UnreadableId(table));
    }

    /// A claim was found: its members, its fence if it is open, and its settlements.
    pub fn claim(&mut self, token: Token, ids: &[MessageId], fence: Option<&OpenClaim>, settlements: &[AuditedSettlement]) {
        self.audit.claims += 1;
        let members = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let (settled, revoked) = self.settlements(token, ids, settlements);
        let consistent = match fence {
            // Nobody can say which members such a fence leaves.
            Some(fence) if fence.settled.len() != members || fence.revoked.len() != members => false,
            Some(fence) => {
                for index in fence.settled.union(&fence.revoked).complement().iter() {
                    if let Some(id) = ids.get(index as usize) {
                        self.messages.entry(*id).or_default().claimed += 1;
                    }
                }
                fence.settled == settled && fence.revoked == revoked && !settled.union(&revoked).is_full()
            }
            None => settled.union(&revoked).is_full(),
        };
        if !consistent {
            self.audit.findings.push(Finding::Mismatch(token));
        }
    }

    /// An open claim was found whose worker has no row.
    pub fn unowned(&mut self, token: Token) {
        self.audit.findings.push(Finding::Unowned(token));
    }

    /// Settlements were found that belong to no claim.
    pub fn orphan(&mut self, token: Token) {
        self.audit.findings.push(Finding::Mismatch(token));
    }

    /// I2: the masks of a token are disjoint. Gives what its holder ended, and what was taken away.
    fn settlements(&mut self, token: Token, ids: &[MessageId], settlements: &[AuditedSettlement]) -> (Bits, Bits) {
        let members = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let (mut settled, mut revoked) = (Bits::new(members), Bits::new(members));
        let mut overlap = false;
        for AuditedSettlement { recorded, mask, proves_from } in settlements {
            if mask.len() != members {
                overlap = true;
                continue;
            }
            overlap |= !mask.intersection(&settled.union(&revoked)).is_empty();
            if recorded.is_some_and(Recorded::took_the_lease) {
                revoked = revoked.union(mask);
            } else {
                settled = settled.union(mask);
            }
            if recorded.is_some_and(Recorded::is_success)
                && let Some(from) = proves_from
            {
                for id in mask.iter().filter(|index| index >= from).filter_map(|index| ids.get(index as usize)) {
                    self.messages.entry(*id).or_default().successes += 1;
                }
            }
        }
        if overlap {
            self.audit.findings.push(Finding::Overlap(token));
        }
        (settled, revoked)
    }

    /// I1 and I6: every body is in exactly one place, or succeeded; everything live or dead has a body.
    pub fn finish(mut self) -> Audit {
        for (id, places) in self.messages {
            let named = places.names();
            if places.bodies > 0 && named.is_empty() {
                self.audit.findings.push(Finding::Lost(id));
            }
            if places.bodies == 0 && !named.is_empty() {
                self.audit.findings.push(Finding::MissingBody(id));
            }
            if named.len() > 1 {
                self.audit.findings.push(Finding::Doubled { id, places: named });
            }
        }
        self.audit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(set: &[u32]) -> Bits {
        Bits::from_indices(2, set.iter().copied())
    }

    fn ok(set: &[u32], proves_from: Option<u32>) -> AuditedSettlement {
        AuditedSettlement { recorded: Some(Recorded::Ok), mask: bits(set), proves_from }
    }

    fn audit(fill: impl FnOnce(&mut Auditor)) -> Vec<Finding> {
        let mut auditor = Auditor::default();
        fill(&mut auditor);
        auditor.finish().findings
    }

    #[test]
    fn a_success_stands_for_its_body_until_it_was_used() {
        let (token, ids) = (Token::new(), [MessageId::new(), MessageId::new()]);
        let found = |from| {
            audit(|auditor| {
                ids.iter().for_each(|id| auditor.body(*id));
                auditor.claim(token, &ids, None, &[ok(&[0, 1], from)]);
            })
        };
        assert_eq!(found(Some(0)), []);
        assert_eq!(found(Some(1)), [Finding::Lost(ids[0])]);
        assert_eq!(found(None), [Finding::Lost(ids[0]), Finding::Lost(ids[1])]);
    }

    #[test]
    fn every_contradiction_has_a_name() {
        let (token, ids) = (Token::new(), [MessageId::new(), MessageId::new()]);
        let id = ids[0];
        assert_eq!(audit(|auditor| auditor.body(id)), [Finding::Lost(id)]);
        assert_eq!(audit(|auditor| auditor.row(id, Place::Dead)), [Finding::MissingBody(id)]);
        let doubled = audit(|auditor| {
            auditor.body(id);
            auditor.row(id, Place::Ready);
            auditor.row(id, Place::Scheduled);
        });
        assert_eq!(doubled, [Finding::Doubled { id, places: vec!["ready", "scheduled"] }]);
        assert_eq!(audit(|auditor| auditor.orphan(token)), [Finding::Mismatch(token)]);
        assert_eq!(audit(|auditor| auditor.claim(token, &ids, None, &[ok(&[0], None)])), [Finding::Mismatch(token)]);
        let overlap = audit(|auditor| auditor.claim(token, &ids, None, &[ok(&[0, 1], None), ok(&[1], None)]));
        assert_eq!(overlap, [Finding::Overlap(token)]);
        let mut fence = OpenClaim::new(token, 2);
        let disagreeing = audit(|auditor| {
            ids.iter().for_each(|id| auditor.body(*id));
            auditor.claim(token, &ids, Some(&fence), &[ok(&[0], None)]);
        });
        assert_eq!(disagreeing, [Finding::Mismatch(token)]);
        fence.settled = Bits::new(1);
        let of_other_lengths = audit(|auditor| auditor.claim(token, &ids, Some(&fence), &[]));
        assert_eq!(of_other_lengths, [Finding::Mismatch(token)]);
    }
}
