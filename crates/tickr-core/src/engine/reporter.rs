//! Numbers for the application's metrics, on their way there.
//!
//! The engine's loops only put them into a queue: metrics that block their thread delay no claim, no outcome and no heartbeat.
//! Observers are called within milliseconds, in the order in which the engine reported, and for all reports before the run ends.

use std::sync::Arc;
use std::time::Duration;

use super::courier::{Courier, Terms};
use super::outbox::Finished;
use crate::door::Clock;
use crate::event_type::EventType;
use crate::observe::{HandlerOutcome, LeaseLossPhase, Metrics};
use crate::storage::Stats;

/// How metrics are delivered: a busy worker wakes the thread once a millisecond, not once per message.
const TERMS: Terms = Terms { name: "tickr-metrics", queue_max: 65_536, at_once: usize::MAX, linger: Duration::from_millis(1) };

/// One call of [`Metrics`]. Those that come once per message name their type by its index in the worker: a clone of the name would
/// be counted up by runners and down by the thread of metrics, on the same line of memory.
enum Report {
    Started { type_index: usize, attempt: u16 },
    Completed { type_index: usize, attempt: u16, ran: Option<Duration>, outcome: HandlerOutcome },
    Dead(EventType),
    Sampled(Box<Stats>),
    Claimed { claimed: u32, requested: u32, duration: Duration },
    Settled { outcomes: u32, duration: Duration },
    Refused(u32),
    Reclaimed(EventType, u32),
    LeaseLost { type_index: usize, phase: LeaseLossPhase },
    InFlight(u32),
}

impl Report {
    fn completed(finished: &Finished, outcome: HandlerOutcome) -> Self {
        Self::Completed { type_index: finished.type_index, attempt: finished.facts.attempt, ran: finished.ran, outcome }
    }
}

/// Reports to metrics; its methods are those of [`Metrics`].
#[derive(Debug)]
pub(super) struct Reporter(Courier<Report>);

impl Reporter {
    /// `types` are those of the worker, in the order of their indices.
    pub(super) fn new(metrics: Arc<dyn Metrics>, types: Vec<EventType>, clock: Clock) -> Self {
        Self(Courier::new(TERMS, clock, move |report| match report {
            Report::Started { type_index, attempt } => metrics.handler_started(&types[type_index], attempt),
            Report::Completed { type_index, attempt, ran, outcome } => {
                metrics.handler_completed(&types[type_index], attempt, ran, outcome);
            }
            Report::Dead(event_type) => metrics.message_dead(&event_type),
            Report::Sampled(stats) => metrics.queue_sampled(&stats),
            Report::Claimed { claimed, requested, duration } => metrics.claim_batch(claimed, requested, duration),
            Report::Settled { outcomes, duration } => metrics.settle_batch(outcomes, duration),
            Report::Refused(outcomes) => metrics.settle_refused(outcomes),
            Report::Reclaimed(event_type, n) => metrics.lease_reclaimed(&event_type, n),
            Report::LeaseLost { type_index, phase } => metrics.lease_lost(&types[type_index], phase),
            Report::InFlight(n) => metrics.in_flight(n),
        }))
    }

    /// Waits until everything is reported.
    pub(super) async fn delivered(&self) {
        self.0.delivered().await;
    }

    /// Drops what is not reported; gives how much that is.
    pub(super) fn abandon(&self) -> usize {
        self.0.abandon()
    }

    pub(super) fn handlers_started(&self, type_index: usize, attempts: impl Iterator<Item = u16>) {
        self.0.send_all(attempts.map(|attempt| Report::Started { type_index, attempt }));
    }

    /// Reports attempts whose outcome is recorded.
    pub(super) fn handlers_completed(&self, recorded: &[Finished]) {
        self.0.send_all(recorded.iter().map(|finished| Report::completed(finished, finished.outcome)));
    }

    /// Reports attempts whose lease was gone before their outcome could be recorded.
    pub(super) fn handlers_lost(&self, lost: &[Finished]) {
        self.0.send_all(lost.iter().map(|finished| Report::completed(finished, HandlerOutcome::Lost)));
    }

    /// Reports a message that was lost before its handler was called.
    pub(super) fn lost_unrun(&self, type_index: usize) {
        self.0.send(Report::Completed { type_index, attempt: 0, ran: None, outcome: HandlerOutcome::Lost });
    }

    pub(super) fn message_dead(&self, event_type: &EventType) {
        self.0.send(Report::Dead(event_type.clone()));
    }

    pub(super) fn queue_sampled(&self, stats: Stats) {
        self.0.send(Report::Sampled(Box::new(stats)));
    }

    pub(super) fn claim_batch(&self, claimed: u32, requested: u32, duration: Duration) {
        self.0.send(Report::Claimed { claimed, requested, duration });
    }

    pub(super) fn settle_batch(&self, outcomes: u32, duration: Duration) {
        self.0.send(Report::Settled { outcomes, duration });
    }

    pub(super) fn settle_refused(&self, outcomes: u32) {
        self.0.send(Report::Refused(outcomes));
    }

    pub(super) fn lease_reclaimed(&self, event_type: &EventType, n: u32) {
        self.0.send(Report::Reclaimed(event_type.clone(), n));
    }

    pub(super) fn lease_lost(&self, type_index: usize, phase: LeaseLossPhase) {
        self.0.send(Report::LeaseLost { type_index, phase });
    }

    pub(super) fn in_flight(&self, n: u32) {
        self.0.send(Report::InFlight(n));
    }
}
