//! Histories: what the storage tells an operator, against its journal.

use tickr_core::Status;

use super::leases::Leases;
use super::{Evidence, Findings};

/// Every claim is in the history with its attempt and is followed by its end, and the last step is the status.
pub(super) fn check(evidence: &Evidence, leases: &Leases, findings: &mut Findings) {
    for (id, steps) in &evidence.histories {
        let status = evidence.statuses.get(id);
        let last = steps.last().map(|step| step.to);
        findings.check(last.as_ref() == status, || format!("the history of message {id} ends in {last:?}, its status is {status:?}"));
        let told: Vec<(u16, Option<&str>)> =
            steps.iter().filter(|step| step.to == Status::Handling).map(|step| (step.attempt, step.worker.as_deref())).collect();
        let claimed: Vec<(u16, Option<&str>)> =
            leases.get(id).into_iter().flatten().map(|lease| (lease.attempt, Some(lease.worker_name.as_str()))).collect();
        findings.check(told == claimed, || format!("the history of message {id} tells of the claims {told:?}; they were {claimed:?}"));
        let unended = steps.windows(2).find(|pair| pair[0].to == Status::Handling && pair[1].to == Status::Handling);
        findings.check(unended.is_none(), || format!("the history of message {id} has a claim that did not end: {unended:?}"));
    }
}
