//! The metrics.

mod event_types;
mod sample;

use std::fmt;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};
use tickr_core::{HandlerOutcome, LeaseLossPhase, Metrics, Stats};

use event_types::EventTypes;
use sample::Sampled;

const OUTCOME: &str = "outcome";
const PHASE: &str = "phase";

/// Of handlers: from what does nothing to what runs for minutes.
const HANDLER_SECONDS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];
/// Of statements, which end within the engine's patience.
const STATEMENT_SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
/// Of batches, which are at most some thousands.
const SIZES: [f64; 12] = [0.0, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 5_000.0];

/// Counts what the engine does on an OpenTelemetry meter.
///
/// One value may serve all clients and workers of a process. `tickr.inflight.handlers` and the gauges of the queue then
/// tell what the last of them said, so that workers that are to be told apart get each their own, on meters whose scopes
/// differ.
pub struct OtelMetrics {
    event_types: EventTypes,
    sampled: Sampled,
    enqueued: Counter<u64>,
    attempts: Counter<u64>,
    handler_seconds: Histogram<f64>,
    dead: Counter<u64>,
    claim_sizes: Histogram<u64>,
    claim_requested: Counter<u64>,
    claim_seconds: Histogram<f64>,
    settle_sizes: Histogram<u64>,
    settle_seconds: Histogram<f64>,
    settle_refused: Counter<u64>,
    reclaimed: Counter<u64>,
    lost: Counter<u64>,
    in_flight: Gauge<u64>,
}

/// Builds [`OtelMetrics`].
#[must_use]
pub struct OtelMetricsBuilder<'a> {
    meter: &'a Meter,
    event_types_max: usize,
    handler_seconds: Vec<f64>,
}

impl fmt::Debug for OtelMetricsBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtelMetricsBuilder")
            .field("event_types_max", &self.event_types_max)
            .field("handler_seconds", &self.handler_seconds)
            .finish_non_exhaustive()
    }
}

impl OtelMetricsBuilder<'_> {
    /// How many event types are told apart (default 100); those that come later are together `other`. Every one of them
    /// is up to twenty time series.
    ///
    /// The SDK has a bound of its own, 2000 sets of attributes per instrument, and attempts have seven per type.
    pub const fn event_types_max(mut self, types: usize) -> Self {
        self.event_types_max = types;
        self
    }

    /// The upper bounds of the buckets of `tickr.handler.duration`, in seconds, ascending (default 1 ms to 5 min).
    pub fn handler_seconds(mut self, bounds: impl Into<Vec<f64>>) -> Self {
        self.handler_seconds = bounds.into();
        self
    }

    /// Makes the instruments.
    pub fn build(self) -> OtelMetrics {
        let meter = self.meter;
        let counter = |name, unit, description| meter.u64_counter(name).with_unit(unit).with_description(description).build();
        let sizes = |name, unit, description| {
            meter.u64_histogram(name).with_unit(unit).with_description(description).with_boundaries(SIZES.to_vec()).build()
        };
        let seconds = |name, description, bounds| {
            meter.f64_histogram(name).with_unit("s").with_description(description).with_boundaries(bounds).build()
        };
        OtelMetrics {
            event_types: EventTypes::new(self.event_types_max),
            sampled: Sampled::new(meter),
            enqueued: counter("tickr.messages.enqueued", "{message}", "Messages stored by clients of this process."),
            attempts: counter("tickr.handler.attempts", "{attempt}", "Attempts of handlers whose outcome is recorded."),
            handler_seconds: seconds("tickr.handler.duration", "How long attempts of handlers took.", self.handler_seconds),
            dead: counter("tickr.messages.dead", "{message}", "Messages that were given up."),
            claim_sizes: sizes("tickr.claim.batch.size", "{message}", "Messages that a claim brought."),
            claim_requested: counter("tickr.claim.requested", "{message}", "Messages that claims had room for."),
            claim_seconds: seconds("tickr.claim.duration", "How long claims took.", STATEMENT_SECONDS.to_vec()),
            settle_sizes: sizes("tickr.settle.batch.size", "{outcome}", "Outcomes recorded together."),
            settle_seconds: seconds("tickr.settle.duration", "How long it took to record outcomes.", STATEMENT_SECONDS.to_vec()),
            settle_refused: counter("tickr.settle.refused", "{outcome}", "Outcomes that the storage refused; they are kept."),
            reclaimed: counter("tickr.leases.reclaimed", "{lease}", "Messages taken back from dead workers."),
            lost: counter("tickr.leases.lost", "{lease}", "Messages whose lease was gone before their outcome was recorded."),
            in_flight: meter.u64_gauge("tickr.inflight.handlers").with_unit("{handler}").with_description("Handlers that run now.").build(),
        }
    }
}

impl OtelMetrics {
    /// Metrics on `meter` with default options.
    pub fn new(meter: &Meter) -> Self {
        Self::builder(meter).build()
    }

    /// Starts to build metrics on `meter`.
    pub fn builder(meter: &Meter) -> OtelMetricsBuilder<'_> {
        OtelMetricsBuilder { meter, event_types_max: 100, handler_seconds: HANDLER_SECONDS.to_vec() }
    }
}

impl fmt::Debug for OtelMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtelMetrics").field("event_types", &self.event_types).finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Metrics for OtelMetrics {
    fn message_enqueued(&self, event_type: &str) {
        self.enqueued.add(1, &[self.event_types.attribute(event_type)]);
    }

    /// Attempts are counted when they end.
    fn handler_started(&self, _event_type: &str, _attempt: u16) {}

    fn handler_completed(&self, event_type: &str, _attempt: u16, ran: Option<Duration>, outcome: HandlerOutcome) {
        let event_type = self.event_types.attribute(event_type);
        self.attempts.add(1, &[event_type.clone(), KeyValue::new(OUTCOME, outcome.as_str())]);
        if let Some(ran) = ran {
            self.handler_seconds.record(ran.as_secs_f64(), &[event_type]);
        }
    }

    fn message_dead(&self, event_type: &str) {
        self.dead.add(1, &[self.event_types.attribute(event_type)]);
    }

    fn queue_sampled(&self, stats: &Stats) {
        self.sampled.set(stats, &self.event_types);
    }

    fn claim_batch(&self, claimed: u32, requested: u32, duration: Duration) {
        self.claim_sizes.record(claimed.into(), &[]);
        self.claim_requested.add(requested.into(), &[]);
        self.claim_seconds.record(duration.as_secs_f64(), &[]);
    }

    fn settle_batch(&self, outcomes: u32, duration: Duration) {
        self.settle_sizes.record(outcomes.into(), &[]);
        self.settle_seconds.record(duration.as_secs_f64(), &[]);
    }

    fn settle_refused(&self, outcomes: u32) {
        self.settle_refused.add(outcomes.into(), &[]);
    }

    fn lease_reclaimed(&self, event_type: &str, n: u32) {
        self.reclaimed.add(n.into(), &[self.event_types.attribute(event_type)]);
    }

    fn lease_lost(&self, event_type: &str, phase: LeaseLossPhase) {
        self.lost.add(1, &[self.event_types.attribute(event_type), KeyValue::new(PHASE, phase.as_str())]);
    }

    fn in_flight(&self, n: u32) {
        self.in_flight.record(n.into(), &[]);
    }
}
