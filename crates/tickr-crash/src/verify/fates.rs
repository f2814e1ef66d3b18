//! Fates: what became of every message of the plan.

use std::collections::{HashMap, HashSet};

use tickr_core::MessageId;
use tickr_core::protocol::Recorded;

use super::leases::{Lease, Leases};
use super::places::is_dead_by_lease;
use super::{Counts, Evidence, Findings};
use crate::database::Receipt;
use crate::journal::Body;
use crate::ledger::Event;
use crate::plan::{Kind, Planned};

/// What the ledgers of producers say about one number.
#[derive(Debug, Default)]
struct Said {
    planned: Vec<MessageId>,
    ended: Vec<Event>,
    /// Whether the answer of a commit was lost and the transaction repeated.
    repeated: bool,
    /// Whether a transaction found that it had been committed before.
    found: bool,
}

/// What is known of all messages.
struct Known<'e> {
    bodies: HashMap<MessageId, &'e Body>,
    receipts: HashMap<u32, Receipt>,
    leases: &'e Leases,
    dead: HashSet<MessageId>,
    started: HashSet<MessageId>,
}

/// Checks every message of the plan, and that there are no others.
pub(super) fn check(evidence: &Evidence, leases: &Leases, findings: &mut Findings, counts: &mut Counts) {
    let mut said: HashMap<u32, Said> = HashMap::new();
    let mut started = HashSet::new();
    for record in evidence.pages.iter().flat_map(|page| &page.records) {
        match record.event {
            Event::Planned { n, id } => said.entry(n).or_default().planned.push(id),
            Event::Committed { n, .. } | Event::Duplicate { n, .. } | Event::RolledBack { n, .. } | Event::Unknown { n, .. } => {
                said.entry(n).or_default().ended.push(record.event);
            }
            Event::Repeats { n, .. } => said.entry(n).or_default().repeated = true,
            Event::Found { n, .. } => said.entry(n).or_default().found = true,
            Event::Again { .. } => counts.conflicts += 1,
            Event::Started { id, .. } => drop(started.insert(id)),
            Event::Holds { .. } | Event::Succeeded { .. } | Event::Failed { .. } => {}
        }
    }
    let known = Known {
        bodies: evidence.journal.bodies.iter().map(|body| (body.id, body)).collect(),
        receipts: evidence.receipts.iter().map(|receipt| (receipt.n, *receipt)).collect(),
        leases,
        dead: evidence.journal.dead.iter().copied().collect(),
        started,
    };
    for n in 0..evidence.plan.messages {
        let planned = evidence.plan.message(n);
        match said.remove(&n) {
            Some(said) if said.planned.len() == 1 && said.ended.len() == 1 => {
                if said.repeated {
                    count_unknown(said.found, counts);
                }
                check_one(&known, &planned, said.planned[0], said.ended[0], findings, counts);
            }
            said => findings.add(format!("the ledger does not say once how message number {n} ended: {said:?}")),
        }
    }
    let stored: HashSet<MessageId> =
        evidence.receipts.iter().filter(|receipt| receipt.duplicate_of.is_none()).map(|receipt| receipt.id).collect();
    for id in known.bodies.keys().chain(leases.keys()).chain(&known.started).collect::<HashSet<_>>() {
        findings.check(stored.contains(id), || format!("message {id} exists or ran, but no committed transaction stored it"));
    }
}

/// A commit without an answer, of which it is known by now whether it happened.
fn count_unknown(committed: bool, counts: &mut Counts) {
    let count = if committed { &mut counts.unknown_committed } else { &mut counts.unknown_undone };
    *count += 1;
}

fn check_one(known: &Known<'_>, planned: &Planned, id: MessageId, ended: Event, findings: &mut Findings, counts: &mut Counts) {
    let n = planned.n;
    let receipt = known.receipts.get(&n);
    let expected = match (planned.rolls_back, receipt.map(|receipt| receipt.duplicate_of)) {
        (true, None) => Event::RolledBack { n, id },
        (false, Some(None)) => Event::Committed { n, id },
        (false, Some(Some(existing))) => Event::Duplicate { n, id, existing },
        (true, Some(_)) => return findings.add(format!("message number {n} was rolled back, but its receipt is there")),
        // Nobody knows but the database, and it says no.
        (false, None) if ended == (Event::Unknown { n, id }) => {
            count_unknown(false, counts);
            return check_absent(known, id, "not committed", findings);
        }
        (false, None) => return findings.add(format!("message number {n} was committed, but its receipt is gone")),
    };
    if ended == (Event::Unknown { n, id }) {
        findings.check(!planned.rolls_back, || format!("message number {n} was rolled back, and no commit can be unknown"));
        count_unknown(true, counts);
    } else {
        findings.check(ended == expected, || format!("the ledger says {ended:?}, the application {expected:?}"));
    }
    findings.check(receipt.is_none_or(|receipt| receipt.id == id), || format!("message number {n} is not {id}: {receipt:?}"));
    match expected {
        Event::Committed { .. } => {
            counts.committed += 1;
            check_stored(known, planned, id, findings, counts);
        }
        Event::Duplicate { existing, .. } => {
            counts.duplicates += 1;
            check_absent(known, id, "a duplicate", findings);
            let same = known.bodies.get(&existing).is_some_and(|body| body.key == planned.key && body.event_type == planned.event_type);
            findings.check(same && planned.key.is_some(), || format!("message number {n} is no duplicate of {existing}"));
        }
        _ => {
            counts.rolled_back += 1;
            check_absent(known, id, "rolled back", findings);
        }
    }
}

fn check_absent(known: &Known<'_>, id: MessageId, why: &str, findings: &mut Findings) {
    findings.check(!known.bodies.contains_key(&id), || format!("message {id} is {why}, and stored"));
    findings.check(!known.leases.contains_key(&id), || format!("message {id} is {why}, and was claimed"));
    findings.check(!known.started.contains(&id), || format!("message {id} is {why}, and ran"));
}

fn check_stored(known: &Known<'_>, planned: &Planned, id: MessageId, findings: &mut Findings, counts: &mut Counts) {
    let n = planned.n;
    let Some(body) = known.bodies.get(&id) else { return findings.add(format!("message {id} (number {n}) was committed and has no body")) };
    let meant = planned.message(id);
    let same = body.event_type == meant.event_type && body.key == meant.idempotency_key && body.payload == meant.payload;
    findings.check(same, || format!("message {id} (number {n}) was not stored as it was enqueued"));
    findings.check(body.scheduled_at.is_some() == planned.delay.is_some(), || format!("message {id} (number {n}) has a wrong delay"));
    let Some(leases) = known.leases.get(&id) else { return findings.add(format!("message {id} (number {n}) was never claimed")) };
    let successes = leases.iter().filter(|lease| lease.ended.is_some_and(|(recorded, _)| recorded.is_success())).count();
    findings.check(successes <= 1, || format!("message {id} (number {n}) succeeded {successes} times"));
    findings.check(known.dead.contains(&id) == is_dead_by_lease(leases), || {
        format!("message {id} (number {n}) is dead by its row or by its last lease, but not by both")
    });
    let Some(last) = leases.last() else { return };
    let Some((recorded, _)) = last.ended else { return findings.add(format!("message {id} (number {n}) is still leased")) };
    findings.check(is_meant(planned.kind, recorded, last), || {
        let (attempt, max, solo) = (last.attempt, last.max_attempts, last.solo);
        format!("message {id} (number {n}, {:?}) ended as {recorded:?} at attempt {attempt} of {max}, solo: {solo}", planned.kind)
    });
    match recorded {
        Recorded::Exhausted => counts.dead_exhausted += 1,
        Recorded::Crashed => counts.dead_crashed += 1,
        _ => counts.succeeded += usize::from(recorded.is_success()),
    }
    if planned.kind == Kind::Kills {
        counts.killer_solo = leases.iter().filter(|lease| lease.solo).count();
        findings.check(known.started.contains(&id), || format!("message {id}, which kills its process, never began"));
    }
}

/// Whether a message of this kind may end so. One that always fails may also die by crashes: it was alone when its
/// process was killed at random, at its last attempt.
fn is_meant(kind: Kind, recorded: Recorded, last: &Lease) -> bool {
    let used_up = last.attempt == last.max_attempts;
    let by_own_crash = recorded == Recorded::Crashed && last.solo && used_up;
    match kind {
        Kind::Skips => recorded == Recorded::Skipped,
        Kind::Works | Kind::Fails1 | Kind::Panics1 => recorded == Recorded::Ok,
        Kind::Fails => by_own_crash || (recorded == Recorded::Exhausted && used_up),
        Kind::Kills => by_own_crash,
    }
}
