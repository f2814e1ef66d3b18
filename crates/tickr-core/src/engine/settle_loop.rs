//! Recording outcomes: grouped without timers. While one settle is in flight, results collect; what has collected is the
//! next batch. Idle, a result is recorded at once; busy, batches grow by themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::liveness::Loop;
use super::outbox::{Finished, by_claim};
use super::refusal::may_be_of_a_member;
use super::{DeadCall, OPERATION_MAX, Run};
use crate::door::clock;
use crate::error::{Error, Result};
use crate::id::Token;
use crate::observe::{ErrorEventKind, HandlerOutcome, LeaseLossPhase};
use crate::storage::{SettleOutcome, Settled, Settlement, Storage};
use crate::time::Timestamp;

/// How many outcomes one settle records at most.
pub(super) const BATCH_MAX: usize = 5_000;
/// How long the loop sleeps at most: it shows that it is there.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Where a settle is sent from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The settle loop.
    Loop,
    /// The heartbeat's thread, because the runtime is blocked: without the tracer, and not for long.
    Apart,
}

impl Run {
    /// Records outcomes until the run is over and nothing is left.
    pub(super) async fn settle_loop(self: Arc<Self>) {
        let mut errors = 0_u16;
        while !self.over.is_cancelled() {
            self.expect_back(Loop::Settle, SLEEP_MAX);
            let (batch, next_try) = {
                let mut state = self.state();
                (state.take_outbox(BATCH_MAX, self.now()), state.next_try())
            };
            if batch.is_empty() {
                tokio::select! {
                    biased;
                    () = self.over.cancelled() => return,
                    () = self.results.notified() => continue,
                    () = clock::sleep(next_try.map_or(SLEEP_MAX, |at| at.since(self.now()).min(SLEEP_MAX))) => continue,
                }
            }
            let settled = tokio::select! {
                biased;
                settled = self.settle(batch, Way::Loop) => settled,
                () = self.over.cancelled() => return,
            };
            match settled {
                Ok(()) => errors = 0,
                Err(()) => {
                    errors = errors.saturating_add(1);
                    tokio::select! {
                        biased;
                        () = clock::sleep(self.error_pause(errors)) => {}
                        () = self.over.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Records a batch. What could not be recorded is put back, never dropped.
    pub(super) async fn settle(&self, mut batch: Vec<Finished>, way: Way) -> Result<(), ()> {
        // What belongs to an incarnation that gave everything back must not be recorded any more.
        let gone: Vec<Finished> = batch.extract_if(.., |finished| finished.claim.incarnation.is_retired()).collect();
        self.conclude_lost(&gone);
        if batch.is_empty() {
            self.after_settle();
            return Ok(());
        }
        // What was refused alone does not go with others again.
        let alone: Vec<Finished> = batch.extract_if(.., |finished| finished.refused_alone).collect();
        if !alone.is_empty() && way == Way::Apart {
            self.state().put_back(alone);
            if batch.is_empty() {
                return Err(());
            }
        } else if !alone.is_empty() {
            let done = self.settle_alone(alone).await;
            if batch.is_empty() || done.is_err() {
                self.state().put_back(batch);
                return done;
            }
        }
        let tracer = self.plan.observers.tracer.as_ref().filter(|_| way == Way::Loop);
        let span = tracer.map(|tracer| tracer.start_settle_span(&self.plan.config.name, batch.len()));
        self.expect_back(Loop::Settle, OPERATION_MAX);
        let sent = self.now();
        let settlements = self.settlements(&batch);
        let limit = if way == Way::Loop { OPERATION_MAX } else { (self.plan.config.lease / 3).max(Duration::from_secs(1)) };
        let result = self.within(limit, "settle", self.plan.storage.settle(&settlements)).await;
        if let Some(span) = span {
            span.end(result.as_ref().err().map(|error| error as _));
        }
        match result {
            Ok(settled) => {
                if let Some(metrics) = &self.metrics {
                    metrics.settle_batch(u32::try_from(batch.len()).unwrap_or(u32::MAX), self.now().since(sent));
                }
                self.recorded(batch, &settlements, &settled);
                Ok(())
            }
            Err(error) if error.is_transient() => {
                self.could_not_settle(&error);
                self.state().put_back(batch);
                Err(())
            }
            // The loop finds out whose fault it is, if the runtime ever goes on.
            Err(error) if way == Way::Apart => {
                self.could_not_settle(&error);
                self.state().put_back(batch);
                Err(())
            }
            Err(error) if !may_be_of_a_member(&error) => {
                for batch in each_claim(batch) {
                    self.refused(batch, error.copy());
                }
                Ok(())
            }
            Err(error) => {
                self.could_not_settle(&error);
                self.settle_in_parts(batch, error).await
            }
        }
    }

    /// The storage does not want these outcomes of one claim: they are tried again in a while, others go on.
    pub(super) fn refused(&self, batch: Vec<Finished>, error: Error) {
        self.could_not_settle(&error);
        if let Some(metrics) = &self.metrics {
            metrics.settle_refused(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        }
        let until = self.now().after(self.error_pause(u16::MAX));
        self.state().put_aside(batch, error, until);
        self.after_settle();
    }

    pub(super) fn could_not_settle(&self, error: &Error) {
        self.expect_back(Loop::Settle, OPERATION_MAX);
        tracing::warn!(%error, "outcomes could not be recorded and are kept");
        self.alerts.core(ErrorEventKind::Storage, error.to_string());
    }

    /// One settlement per claim.
    pub(super) fn settlements(&self, batch: &[Finished]) -> Vec<Settlement> {
        let mut settlements: Vec<Settlement> = Vec::new();
        let mut places: HashMap<Token, usize> = HashMap::new();
        for (claim, run) in by_claim(batch) {
            let place = *places.entry(claim.token).or_insert_with(|| {
                settlements.push(Settlement::new(claim.token, claim.members));
                settlements.len() - 1
            });
            let settlement = &mut settlements[place];
            for finished in run {
                match &finished.other {
                    None => {
                        settlement.succeeded.insert(finished.facts.index);
                    }
                    Some(outcome) => {
                        let event_type = &self.plan.entries[finished.type_index].event_type;
                        settlement.others.push(finished.facts.settled(event_type, outcome.clone()));
                    }
                }
            }
        }
        settlements
    }

    /// Everything that is told of an outcome is told now, after it is recorded.
    pub(super) fn recorded(&self, mut batch: Vec<Finished>, settlements: &[Settlement], settled: &[Settled]) {
        self.expect_back(Loop::Settle, OPERATION_MAX);
        let lost: HashMap<Token, &Settled> = settlements
            .iter()
            .zip(settled)
            .filter(|(_, settled)| !settled.lost.is_empty())
            .map(|(settlement, settled)| (settlement.token, settled))
            .collect();
        let is_lost =
            |finished: &mut Finished| lost.get(&finished.claim.token).is_some_and(|settled| settled.lost.contains(finished.facts.index));
        let gone: Vec<Finished> = batch.extract_if(.., is_lost).collect();
        self.conclude_lost(&gone);
        let delays: Vec<Duration> = {
            let mut state = self.state();
            state.recorded(&batch);
            for finished in &batch {
                let report = &mut state.report;
                match finished.outcome {
                    HandlerOutcome::Success => report.succeeded += 1,
                    HandlerOutcome::Skip => report.skipped += 1,
                    HandlerOutcome::Retry | HandlerOutcome::Snooze => report.retried += 1,
                    HandlerOutcome::Dead => report.dead += 1,
                    HandlerOutcome::Released => report.released += 1,
                    HandlerOutcome::Lost => report.lost += 1,
                }
            }
            batch.iter().filter_map(comes_back_after).collect()
        };
        self.after_settle();
        if delays.contains(&Duration::ZERO) {
            self.urgent.notify_one();
        }
        if let Some(soonest) = delays.into_iter().filter(|delay| !delay.is_zero()).min() {
            self.due_in(soonest);
        }
        if let Some(metrics) = &self.metrics {
            metrics.handlers_completed(&batch);
            for dead in batch.iter().filter(|finished| finished.outcome == HandlerOutcome::Dead) {
                metrics.message_dead(&self.plan.entries[dead.type_index].event_type);
            }
        }
        for finished in &batch {
            self.tell(finished);
        }
    }

    fn conclude_lost(&self, gone: &[Finished]) {
        if gone.is_empty() {
            return;
        }
        let mut state = self.state();
        state.recorded(gone);
        state.report.lost += gone.len() as u64;
        drop(state);
        let Some(metrics) = &self.metrics else { return };
        for finished in gone.iter().filter(|finished| !finished.loss_told) {
            metrics.lease_lost(finished.type_index, LeaseLossPhase::Settling);
        }
        metrics.handlers_lost(gone);
    }

    fn after_settle(&self) {
        self.room.notify_one();
        self.progress.notify_waiters();
    }

    /// Logs, alerts and the `on_dead` callback for one recorded outcome.
    fn tell(&self, finished: &Finished) {
        let entry = &self.plan.entries[finished.type_index];
        let (attempt, message_id) = (finished.facts.attempt, finished.facts.id);
        let error = finished.other.as_ref().and_then(SettleOutcome::text).unwrap_or_default();
        let (worker, token) = (&self.plan.config.name, finished.claim.token);
        match finished.outcome {
            HandlerOutcome::Dead => {
                if self.dead_letters.is_first(finished.type_index, self.now()) {
                    tracing::error!(event_type = %entry.event_type, %message_id, attempt, %worker, %token, error, "message is dead");
                } else {
                    tracing::debug!(event_type = %entry.event_type, %message_id, attempt, %worker, %token, error, "message is dead");
                }
                self.alerts.message(ErrorEventKind::DeadLetter, &entry.event_type, message_id, attempt, error);
                if let (Some(on_dead), Some(context)) = (&entry.options.on_dead, &finished.context) {
                    let (on_dead, context, error) = (Arc::clone(on_dead), context.clone(), error.to_owned());
                    self.dead_calls.send(DeadCall { on_dead, context, error });
                }
            }
            HandlerOutcome::Retry => {
                let next_attempt_at = Timestamp::now().after(finished.other.as_ref().map(SettleOutcome::delay).unwrap_or_default());
                let max_attempts = finished.facts.max_attempts;
                tracing::warn!(
                    event_type = %entry.event_type, %message_id, attempt, max_attempts, %next_attempt_at, %worker, %token, error,
                    "attempt failed"
                );
                self.alerts.message(ErrorEventKind::Handler, &entry.event_type, message_id, attempt, error);
            }
            outcome => tracing::debug!(event_type = %entry.event_type, %message_id, attempt, %worker, %token, %outcome, "outcome recorded"),
        }
    }
}

/// Outcomes by their claim.
fn each_claim(batch: Vec<Finished>) -> impl Iterator<Item = Vec<Finished>> {
    let mut claims: HashMap<Token, Vec<Finished>> = HashMap::new();
    for finished in batch {
        claims.entry(finished.claim.token).or_default().push(finished);
    }
    claims.into_values()
}

/// After which delay the message of an outcome is due again.
fn comes_back_after(finished: &Finished) -> Option<Duration> {
    match finished.other.as_ref()? {
        outcome @ (SettleOutcome::Failed { .. } | SettleOutcome::Snoozed { .. } | SettleOutcome::Released { .. }) => Some(outcome.delay()),
        _ => None,
    }
}
