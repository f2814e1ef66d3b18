//! Handlers: what the ledger says that ran, against what was claimed and recorded.

use std::collections::HashMap;

use tickr_core::protocol::Recorded;
use tickr_core::{MessageId, Timestamp};

use super::leases::{Lease, Leases};
use super::{Counts, Evidence, Findings};
use crate::ledger::Event;

/// One attempt in one process. A process may have it more than once: given back, and claimed again.
type Key<'e> = (MessageId, u16, &'e str);

/// What one process wrote about one attempt.
#[derive(Debug, Default)]
struct Ran {
    started: Vec<Timestamp>,
    succeeded: usize,
    failed: usize,
}

/// How many handlers may begin after their lease was given away: a process may be stopped, or wait for a processor, after
/// it has looked at its lease and before the handler has written its first record.
const LATE_MAX: usize = 2;

/// Every start was claimed, no start was early, and every recorded outcome is in the ledger.
pub(super) fn check(evidence: &Evidence, leases: &Leases, findings: &mut Findings, counts: &mut Counts) {
    let mut ran: HashMap<Key<'_>, Ran> = HashMap::new();
    for page in &evidence.pages {
        for record in &page.records {
            let key = |id, attempt| (id, attempt, page.name.as_str());
            match record.event {
                Event::Started { id, attempt } => ran.entry(key(id, attempt)).or_default().started.push(record.at),
                Event::Succeeded { id, attempt } => ran.entry(key(id, attempt)).or_default().succeeded += 1,
                Event::Failed { id, attempt } => ran.entry(key(id, attempt)).or_default().failed += 1,
                _ => {}
            }
        }
    }
    let mut claimed: HashMap<Key<'_>, Vec<&Lease>> = HashMap::new();
    for (id, leases) in leases {
        for lease in leases {
            claimed.entry((*id, lease.attempt, lease.worker_name.as_str())).or_default().push(lease);
        }
    }
    for ((id, attempt, worker), ran) in &ran {
        let leases = claimed.get(&(*id, *attempt, *worker)).map_or(&[][..], Vec::as_slice);
        let (starts, ends) = (ran.started.len(), ran.succeeded + ran.failed);
        findings.check(starts <= leases.len(), || {
            format!("attempt {attempt} of message {id} began {starts} times in {worker}, which claimed it {} times", leases.len())
        });
        findings.check(ends <= starts, || format!("attempt {attempt} of message {id} ended more often in {worker} than it began"));
        check_times(*id, ran, leases, findings, counts);
    }
    findings.check(counts.starts_late <= LATE_MAX, || format!("{} handlers began after their lease was given away", counts.starts_late));
    check_outcomes(&claimed, &ran, findings, counts);
    check_due(evidence, leases, &ran, findings);
}

fn check_times(id: MessageId, ran: &Ran, leases: &[&Lease], findings: &mut Findings, counts: &mut Counts) {
    for (started, lease) in ran.started.iter().zip(leases) {
        findings.check(*started >= lease.from, || format!("message {id} began at {started}, before claim {}", lease.token));
    }
    // With several leases it is not known which start belongs to which.
    let ([started], [lease]) = (&ran.started[..], leases) else { return };
    if let Some((recorded, at)) = lease.ended.filter(|(_, at)| started > at) {
        counts.starts_late += 1;
        let (late, worker) = (started.since(at), &lease.worker_name);
        tracing::warn!(%id, claimed = %lease.from, %started, worker, "a handler began {late:?} after its lease ended as {recorded:?}");
    }
}

/// A recorded outcome was the handler's.
fn check_outcomes(claimed: &HashMap<Key<'_>, Vec<&Lease>>, ran: &HashMap<Key<'_>, Ran>, findings: &mut Findings, counts: &mut Counts) {
    let mut recorded = 0;
    let mut successes = 0;
    for ((id, attempt, worker), leases) in claimed {
        let none = Ran::default();
        let ran = ran.get(&(*id, *attempt, *worker)).unwrap_or(&none);
        let ended = |wanted: fn(Recorded) -> bool| leases.iter().filter(|lease| lease.ended.is_some_and(|(r, _)| wanted(r))).count();
        let succeeded = ended(Recorded::is_success);
        let failed = ended(|recorded| matches!(recorded, Recorded::Failed | Recorded::Exhausted | Recorded::Dead));
        findings.check(succeeded <= ran.succeeded, || format!("{worker} recorded a success of message {id} that no handler had"));
        findings.check(failed <= ran.failed, || format!("{worker} recorded a failure of message {id} that no handler had"));
        recorded += succeeded + failed;
        successes += succeeded;
    }
    counts.starts = ran.values().map(|ran| ran.started.len()).sum();
    counts.starts_unrecorded = counts.starts.saturating_sub(recorded);
    counts.successes_repeated = ran.values().map(|ran| ran.succeeded).sum::<usize>().saturating_sub(successes);
}

/// Nothing was claimed or begun before it was due.
fn check_due(evidence: &Evidence, leases: &Leases, ran: &HashMap<Key<'_>, Ran>, findings: &mut Findings) {
    let due: HashMap<MessageId, Timestamp> =
        evidence.journal.bodies.iter().filter_map(|body| Some((body.id, body.scheduled_at?))).collect();
    for (id, leases) in leases {
        if let (Some(due), Some(first)) = (due.get(id), leases.first()) {
            findings.check(first.from >= *due, || format!("message {id} is due at {due}, and was claimed at {}", first.from));
        }
    }
    for ((id, ..), ran) in ran {
        if let (Some(due), Some(first)) = (due.get(id), ran.started.iter().min()) {
            findings.check(first >= due, || format!("message {id} is due at {due}, and began at {first}"));
        }
    }
}
