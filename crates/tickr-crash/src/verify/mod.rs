//! The verdict: the ledger against the database.
//!
//! Everything here works on plain data, so that a test can break any part of it and see that it is noticed.

mod alone;
mod fates;
mod handlers;
mod history;
mod leases;
mod places;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use tickr_core::{MessageId, Status, Transition};

use crate::database::Receipt;
use crate::journal::Journal;
use crate::ledger::Page;
use crate::plan::Plan;

/// All that is known at the end of a run.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    /// What should have happened.
    pub(crate) plan: Plan,
    /// Whether the answer of a claim can have been lost, so that its worker did not know of it.
    pub(crate) loses_answers: bool,
    /// What producers and handlers say.
    pub(crate) pages: Vec<Page>,
    /// What the application really committed.
    pub(crate) receipts: Vec<Receipt>,
    /// tickr's tables.
    pub(crate) journal: Journal,
    /// What the storage answers about every message.
    pub(crate) statuses: HashMap<MessageId, Status>,
    /// What the storage answers about the steps of some messages.
    pub(crate) histories: HashMap<MessageId, Vec<Transition>>,
    /// What the storage's own audit says.
    pub(crate) audit: Vec<String>,
}

/// What was found wrong, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings(pub(crate) Vec<String>);

impl Findings {
    fn add(&mut self, finding: impl Into<String>) {
        self.0.push(finding.into());
    }

    fn check(&mut self, holds: bool, finding: impl FnOnce() -> String) {
        if !holds {
            self.0.push(finding());
        }
    }
}

/// What is counted on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) committed: usize,
    pub(crate) duplicates: usize,
    pub(crate) rolled_back: usize,
    /// How often a whole transaction was repeated because another one was in its way.
    pub(crate) conflicts: usize,
    /// Messages whose commit was not answered, and had happened.
    pub(crate) unknown_committed: usize,
    /// Messages whose commit was not answered, and had not happened.
    pub(crate) unknown_undone: usize,
    pub(crate) succeeded: usize,
    pub(crate) dead_exhausted: usize,
    pub(crate) dead_crashed: usize,
    pub(crate) claims: usize,
    pub(crate) solo_claims: usize,
    /// Members of claims.
    pub(crate) leases: usize,
    pub(crate) reclaimed: usize,
    pub(crate) released: usize,
    pub(crate) killer_solo: usize,
    /// Claims that were open beside a suspect without their worker's knowledge.
    pub(crate) unknown_beside_suspects: usize,
    pub(crate) starts: usize,
    /// Starts of which no outcome was recorded, because the process or its lease was gone.
    pub(crate) starts_unrecorded: usize,
    /// Handlers that succeeded and were not recorded: the message was handled again.
    pub(crate) successes_repeated: usize,
    /// Handlers that began after their lease had been given to somebody else.
    pub(crate) starts_late: usize,
    pub(crate) attempt_max: u16,
}

/// The end of a run.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) findings: Findings,
    pub(crate) counts: Counts,
}

/// Compares everything with everything.
pub(crate) fn verify(evidence: &Evidence) -> Verdict {
    let mut findings = Findings(evidence.audit.iter().map(|finding| format!("the audit says: {finding}")).collect());
    let mut counts = Counts::default();
    let leases = leases::read(&evidence.journal, &mut findings, &mut counts);
    leases::check_sequences(&leases, &mut findings);
    alone::check(evidence, &leases, &mut findings, &mut counts);
    places::check(evidence, &leases, &mut findings);
    fates::check(evidence, &leases, &mut findings, &mut counts);
    handlers::check(evidence, &leases, &mut findings, &mut counts);
    history::check(evidence, &leases, &mut findings);
    Verdict { findings, counts }
}
