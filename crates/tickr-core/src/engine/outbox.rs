//! Outcomes that are not recorded yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::incarnation::{ClaimInfo, Incarnation};
use super::ledger::Ledger;
use super::state::count;
use super::verdict::Facts;
use crate::door::clock::Tick;
use crate::error::{Error, ErrorKind};
use crate::handler::Context;
use crate::id::{MessageId, Token};
use crate::observe::HandlerOutcome;
use crate::storage::SettleOutcome;

/// An outcome that is not recorded yet.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) claim: Arc<ClaimInfo>,
    pub(super) type_index: usize,
    pub(super) facts: Facts,
    pub(super) outcome: HandlerOutcome,
    /// Anything but a plain success.
    pub(super) other: Option<SettleOutcome>,
    /// How long the handler ran; absent when it was not called.
    pub(super) ran: Option<Duration>,
    /// Kept for the `on_dead` callback.
    pub(super) context: Option<Context>,
    /// The loss of its lease was told while it ran.
    pub(super) loss_told: bool,
    /// The storage refused it when it was sent alone.
    pub(super) refused_alone: bool,
}

impl Finished {
    /// The outcome of a message whose handler was not called.
    pub(super) fn new(
        claim: Arc<ClaimInfo>,
        type_index: usize,
        facts: Facts,
        (outcome, other): (HandlerOutcome, Option<SettleOutcome>),
    ) -> Self {
        Self { claim, type_index, facts, outcome, other, ran: None, context: None, loss_told: false, refused_alone: false }
    }
}

/// Neighbours of the same claim together: a batch is a few long runs.
pub(super) fn by_claim(batch: &[Finished]) -> impl Iterator<Item = (&ClaimInfo, &[Finished])> {
    batch.chunk_by(|a, b| a.claim.token == b.claim.token).map(|run| (&*run[0].claim, run))
}

/// After how many refusals in a row the outcomes of a claim count as refused for good. They are tried again all the same.
const REFUSALS_MAX: u32 = 3;
/// How many messages an error names.
const NAMED_MAX: usize = 3;

/// What the storage said of the outcomes of one claim.
#[derive(Debug)]
struct Refusal {
    times: u32,
    error: Error,
}

/// What waits to be settled, what is being settled, and what was refused. Ledger and incarnation know what is being settled too.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Vec<Finished>,
    /// Outcomes that the storage refuses, and when to try again.
    set_aside: Vec<(Tick, Finished)>,
    settling: u32,
    /// Claims whose outcomes were refused since one was last recorded.
    refusals: HashMap<Token, Refusal>,
}

impl Outbox {
    pub(super) fn unsettled(&self) -> u32 {
        count(self.waiting.len() + self.set_aside.len()) + self.settling
    }

    pub(super) fn extend(&mut self, finished: impl IntoIterator<Item = Finished>) {
        self.waiting.extend(finished);
    }

    pub(super) const fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes what is to be recorded next, at most `limit`.
    pub(super) fn take(&mut self, limit: usize, now: Tick, ledger: &mut Ledger) -> Vec<Finished> {
        self.waiting.extend(self.set_aside.extract_if(.., |(at, _)| *at <= now).map(|(_, finished)| finished));
        let batch = if self.waiting.len() <= limit { std::mem::take(&mut self.waiting) } else { self.waiting.drain(..limit).collect() };
        for (claim, run) in by_claim(&batch) {
            self.begin(claim, count(run.len()), ledger);
        }
        batch
    }

    /// So many outcomes of `claim` count as being settled from now on.
    pub(super) fn begin(&mut self, claim: &ClaimInfo, outcomes: u32, ledger: &mut Ledger) {
        self.settling += outcomes;
        claim.incarnation.settle_begins(outcomes);
        ledger.settling(claim.token, outcomes);
    }

    fn end(&mut self, batch: &[Finished], ledger: &mut Ledger) {
        self.settling -= count(batch.len());
        for (claim, run) in by_claim(batch) {
            claim.incarnation.settle_ends(count(run.len()));
            ledger.settled(claim.token, count(run.len()));
        }
    }

    /// Puts outcomes back that could not be recorded, or that were not known before.
    pub(super) fn put_back(&mut self, batch: Vec<Finished>, ledger: &mut Ledger) {
        self.end(&batch, ledger);
        self.waiting.extend(batch);
    }

    /// Keeps outcomes of one claim that the storage refuses until later, so that they do not hold up others.
    pub(super) fn put_aside(&mut self, batch: Vec<Finished>, error: Error, until: Tick, ledger: &mut Ledger) {
        self.end(&batch, ledger);
        if let Some(first) = batch.first() {
            let times = self.refusals.get(&first.claim.token).map_or(0, |refusal| refusal.times);
            self.refusals.insert(first.claim.token, Refusal { times: times.saturating_add(1), error });
        }
        self.set_aside.extend(batch.into_iter().map(|finished| (until, finished)));
    }

    /// Keeps outcomes that were put aside before for longer.
    pub(super) fn postpone(&mut self, batch: Vec<Finished>, until: Tick, ledger: &mut Ledger) {
        self.end(&batch, ledger);
        self.set_aside.extend(batch.into_iter().map(|finished| (until, finished)));
    }

    /// When the first of the outcomes that were put aside is due.
    pub(super) fn next_try(&self) -> Option<Tick> {
        self.set_aside.iter().map(|(at, _)| *at).min()
    }

    /// Outcomes are recorded, or known to be lost.
    pub(super) fn recorded(&mut self, batch: &[Finished], ledger: &mut Ledger) {
        self.end(batch, ledger);
        for (claim, run) in by_claim(batch) {
            self.refusals.remove(&claim.token);
            ledger.done(claim.token, run.iter().map(|finished| finished.facts.index));
        }
    }

    /// How many outcomes the storage has refused and not taken yet.
    pub(super) fn refused(&self) -> u32 {
        count(self.set_aside.len())
    }

    /// Whether there are outcomes, and all of them are refused for good.
    pub(super) fn is_stuck(&self) -> bool {
        let for_good = |token: &Token| self.refusals.get(token).is_some_and(|refusal| refusal.times >= REFUSALS_MAX);
        let unsettled = self.unsettled();
        unsettled > 0 && unsettled == self.refused() && self.set_aside.iter().all(|(_, finished)| for_good(&finished.claim.token))
    }

    /// Says what could not be recorded, and why; of several reasons one.
    pub(super) fn unrecorded(&mut self) -> Error {
        let messages: BTreeMap<MessageId, Token> = self.all().map(|finished| (finished.facts.id, finished.claim.token)).collect();
        let mut names: Vec<String> = messages.keys().take(NAMED_MAX).map(ToString::to_string).collect();
        if messages.len() > NAMED_MAX {
            names.push("...".to_owned());
        }
        // What was on its way when the run ended has no name any more.
        let names = if names.is_empty() { String::new() } else { format!(" [{}]", names.join(", ")) };
        let refusal = messages.values().find_map(|token| self.refusals.remove(token));
        let error = refusal.map_or_else(|| Error::new(ErrorKind::Indeterminate, "no answer in time"), |refusal| refusal.error);
        error.during(&format!("outcomes: {} not recorded{names}", self.unsettled()))
    }

    fn all(&self) -> impl Iterator<Item = &Finished> {
        self.waiting.iter().chain(self.set_aside.iter().map(|(_, finished)| finished))
    }

    /// Whether outcomes of `incarnation` wait to be recorded.
    pub(super) fn owes(&self, incarnation: &Arc<Incarnation>) -> bool {
        incarnation.is_settling() || self.all().any(|finished| Arc::ptr_eq(&finished.claim.incarnation, incarnation))
    }
}
