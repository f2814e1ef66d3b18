//! Metrics that may panic: the engine's own tasks call them, and must outlive it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::observe::{HandlerOutcome, LeaseLossPhase, Metrics};
use crate::storage::Stats;

/// Catches the panics of what it holds.
#[derive(Debug)]
pub(crate) struct Guarded(pub(crate) Arc<dyn Metrics>);

impl Guarded {
    fn call(&self, call: impl FnOnce(&dyn Metrics)) {
        if catch_unwind(AssertUnwindSafe(|| call(&*self.0))).is_err() {
            tracing::error!("the metrics panicked");
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Metrics for Guarded {
    fn message_enqueued(&self, event_type: &str) {
        self.call(|metrics| metrics.message_enqueued(event_type));
    }

    fn handler_started(&self, event_type: &str, attempt: u16) {
        self.call(|metrics| metrics.handler_started(event_type, attempt));
    }

    fn handler_completed(&self, event_type: &str, attempt: u16, ran: Option<Duration>, outcome: HandlerOutcome) {
        self.call(|metrics| metrics.handler_completed(event_type, attempt, ran, outcome));
    }

    fn message_dead(&self, event_type: &str) {
        self.call(|metrics| metrics.message_dead(event_type));
    }

    fn queue_sampled(&self, stats: &Stats) {
        self.call(|metrics| metrics.queue_sampled(stats));
    }

    fn claim_batch(&self, claimed: u32, requested: u32, duration: Duration) {
        self.call(|metrics| metrics.claim_batch(claimed, requested, duration));
    }

    fn settle_batch(&self, outcomes: u32, duration: Duration) {
        self.call(|metrics| metrics.settle_batch(outcomes, duration));
    }

    fn settle_refused(&self, outcomes: u32) {
        self.call(|metrics| metrics.settle_refused(outcomes));
    }

    fn lease_reclaimed(&self, event_type: &str, n: u32) {
        self.call(|metrics| metrics.lease_reclaimed(event_type, n));
    }

    fn lease_lost(&self, event_type: &str, phase: LeaseLossPhase) {
        self.call(|metrics| metrics.lease_lost(event_type, phase));
    }

    fn in_flight(&self, n: u32) {
        self.call(|metrics| metrics.in_flight(n));
    }
}
