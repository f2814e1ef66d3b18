//! Exclusive claims: an incarnation holds nothing else until they end, or until it has ended their exclusivity in the journal.

use std::collections::{HashMap, HashSet};

use tickr_core::protocol::Recorded;
use tickr_core::{MessageId, Timestamp, Token, Uuid};

use super::leases::{Lease, Leases};
use super::{Counts, Evidence, Findings};
use crate::ledger::Event;

pub(super) fn check(evidence: &Evidence, leases: &Leases, findings: &mut Findings, counts: &mut Counts) {
    for claim in evidence.journal.claims.iter().filter(|claim| claim.solo) {
        findings.check(claim.members.len() == 1, || format!("claim {} is solo and has {} members", claim.token, claim.members.len()));
    }
    let known = known(evidence, leases);
    let is_unknown = |lease: &Lease| evidence.loses_answers && !known.contains(&lease.token);
    let mut held: HashMap<Uuid, Vec<&Lease>> = HashMap::new();
    for lease in leases.values().flatten() {
        held.entry(lease.worker).or_default().push(lease);
    }
    for leases in held.values_mut() {
        leases.sort_by_key(|lease| lease.from);
        for solo in leases.iter().filter(|lease| lease.solo) {
            let until = |lease: &Lease| lease.ended.map_or(i64::MAX, |(_, at)| at.as_micros());
            let beside =
                |other: &&&Lease| other.token != solo.token && other.from.as_micros() < until(solo) && until(other) > solo.from.as_micros();
            for other in leases.iter().filter(beside) {
                // Nobody can avoid the company of what he does not know of.
                if is_unknown(solo) || is_unknown(other) {
                    counts.unknown_beside_suspects += 1;
                    continue;
                }
                findings.add(format!("suspect claim {} was not alone in its worker: claim {} was there too", solo.token, other.token));
            }
        }
    }
}

/// The claims of which their worker knew: it began to handle them, or recorded an outcome. The others were given back or
/// reclaimed as a whole, as if their answer was lost.
fn known(evidence: &Evidence, leases: &Leases) -> HashSet<Token> {
    let mut begun: HashMap<(MessageId, u16, &str), Vec<Timestamp>> = HashMap::new();
    for page in &evidence.pages {
        for record in &page.records {
            if let Event::Started { id, attempt } = record.event {
                begun.entry((id, attempt, page.name.as_str())).or_default().push(record.at);
            }
        }
    }
    let mut known = HashSet::new();
    for (id, leases) in leases {
        for lease in leases {
            let came_back = match lease.ended {
                Some((Recorded::Released | Recorded::Reclaimed | Recorded::Crashed, at)) => Some(at),
                _ => None,
            };
            // What was given back has the same attempt again, perhaps in the same worker.
            let starts = begun.get(&(*id, lease.attempt, lease.worker_name.as_str()));
            let began = |at: Timestamp| starts.is_some_and(|starts| starts.iter().any(|start| (lease.from..=at).contains(start)));
            if came_back.is_none_or(began) {
                known.insert(lease.token);
            }
        }
    }
    known
}
