//! Places: every body is in exactly one, and nothing is anywhere without a body (I1, I6).

use std::collections::{HashMap, HashSet};

use tickr_core::{MessageId, Status};

use super::leases::{Lease, Leases, is_terminal};
use super::{Evidence, Findings};

/// Checks I1 past the storage's own audit, keys, and what the storage answers about each message.
pub(super) fn check(evidence: &Evidence, leases: &Leases, findings: &mut Findings) {
    let journal = &evidence.journal;
    let bodies: HashSet<MessageId> = journal.bodies.iter().map(|body| body.id).collect();
    findings.check(bodies.len() == journal.bodies.len(), || "two bodies have the same id".to_owned());
    let mut places: HashMap<MessageId, Vec<Status>> = bodies.iter().map(|id| (*id, Vec::new())).collect();
    let rows = [(&journal.ready, Status::Created), (&journal.scheduled, Status::Retrying), (&journal.dead, Status::Dead)];
    for (ids, status) in rows {
        for id in ids {
            places.entry(*id).or_default().push(status);
        }
    }
    for (id, leases) in leases {
        places.entry(*id).or_default().extend(leases.iter().filter_map(place));
    }
    for (id, places) in &places {
        if !bodies.contains(id) {
            findings.add(format!("message {id} has no body, but is {places:?} (I6)"));
        }
        match places[..] {
            [] => findings.add(format!("message {id} is nowhere: lost (I1)")),
            [Status::Success | Status::Dead] => {}
            [_] => findings.add(format!("message {id} is not finished: {places:?}")),
            _ => findings.add(format!("message {id} is in more than one place: {places:?} (I1)")),
        }
        let told = evidence.statuses.get(id);
        findings.check(told == places.first(), || format!("the storage says that message {id} is {told:?}, but it is {places:?}"));
    }
    for id in evidence.statuses.keys().filter(|id| !bodies.contains(id)) {
        findings.add(format!("the storage lists message {id}, which has no body"));
    }
    check_keys(evidence, &bodies, findings);
}

/// Whether a lease is a place: not ended, or ended in a success. What died has a row of its own.
fn place(lease: &Lease) -> Option<Status> {
    match lease.ended {
        None => Some(Status::Handling),
        Some((recorded, _)) if recorded.is_success() => Some(Status::Success),
        Some(_) => None,
    }
}

/// A key belongs to one message, and that exists.
fn check_keys(evidence: &Evidence, bodies: &HashSet<MessageId>, findings: &mut Findings) {
    let owners: HashMap<(&str, &str), MessageId> =
        evidence.journal.keys.iter().map(|key| ((key.event_type.as_str(), key.key.as_str()), key.id)).collect();
    for ((_, key), id) in &owners {
        findings.check(bodies.contains(id), || format!("key {key} belongs to message {id}, which does not exist"));
    }
    for body in &evidence.journal.bodies {
        if let Some(key) = &body.key {
            let owner = owners.get(&(body.event_type.as_str(), key.as_str()));
            findings.check(owner == Some(&body.id), || format!("message {} has the key {key}, which belongs to {owner:?}", body.id));
        }
    }
}

/// The dead row and the last lease say the same.
pub(super) fn is_dead_by_lease(leases: &[Lease]) -> bool {
    leases.last().and_then(|lease| lease.ended).is_some_and(|(recorded, _)| is_terminal(recorded) && !recorded.is_success())
}
