//! The engine's numbers as series.

use std::time::Duration;

use prometheus::{Error, Registry};
use tickr_core::{HandlerOutcome, LeaseLossPhase, Metrics, Stats};

use crate::builder::PrometheusMetricsBuilder;
use crate::families::Families;
use crate::queue::Queue;
use crate::types::Types;

/// Metrics of one worker, or of clients, in a registry of Prometheus.
///
/// All values are in memory: neither counting nor a scrape waits for anything, nor asks the database.
#[derive(Debug)]
pub struct PrometheusMetrics {
    families: Families,
    types: Types,
    queue: Queue,
}

impl PrometheusMetrics {
    /// Makes metrics with the defaults and registers them.
    ///
    /// # Errors
    /// [`AlreadyReg`](Error::AlreadyReg) when the registry has them already.
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        Self::builder().register(registry)
    }

    /// Starts to build metrics.
    pub fn builder() -> PrometheusMetricsBuilder {
        PrometheusMetricsBuilder::default()
    }

    pub(crate) fn new(families: Families, event_types: &[String], event_types_max: usize) -> Self {
        let types = Types::new(&families, event_types_max);
        for event_type in event_types {
            types.with(event_type, |series| {
                series.handling();
            });
        }
        Self { types, queue: Queue::new(&families), families }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Metrics for PrometheusMetrics {
    fn message_enqueued(&self, event_type: &str) {
        self.types.with(event_type, |series| series.enqueued().inc());
    }

    fn handler_started(&self, event_type: &str, _attempt: u16) {
        self.types.with(event_type, |series| series.handling().started.inc());
    }

    fn handler_completed(&self, event_type: &str, _attempt: u16, ran: Option<Duration>, outcome: HandlerOutcome) {
        self.types.with(event_type, |series| {
            let handling = series.handling();
            handling.attempts(outcome).inc();
            if let Some(ran) = ran {
                handling.duration.observe(ran.as_secs_f64());
            }
        });
    }

    fn message_dead(&self, event_type: &str) {
        self.types.with(event_type, |series| series.dead().inc());
    }

    fn queue_sampled(&self, stats: &Stats) {
        self.queue.show(stats, &self.types);
    }

    fn claim_batch(&self, claimed: u32, requested: u32, duration: Duration) {
        self.families.claim_size.observe(f64::from(claimed));
        self.families.claim_duration.observe(duration.as_secs_f64());
        self.families.claimed.inc_by(claimed.into());
        self.families.claim_requested.inc_by(requested.into());
    }

    fn settle_batch(&self, outcomes: u32, duration: Duration) {
        self.families.settle_size.observe(f64::from(outcomes));
        self.families.settle_duration.observe(duration.as_secs_f64());
    }

    fn settle_refused(&self, outcomes: u32) {
        self.families.settle_refused.inc_by(outcomes.into());
    }

    fn lease_reclaimed(&self, event_type: &str, n: u32) {
        self.types.with(event_type, |series| series.reclaimed().inc_by(n.into()));
    }

    fn lease_lost(&self, event_type: &str, phase: LeaseLossPhase) {
        self.types.with(event_type, |series| series.handling().lost(phase).inc());
    }

    fn in_flight(&self, n: u32) {
        self.families.in_flight.set(n.into());
    }
}
