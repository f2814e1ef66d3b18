//! Metrics and tracers of the application, whose panics are caught.
//!
//! The client and the engine call an application's observers only through the two types here: an enqueue succeeds or fails,
//! and an attempt ends, as if nobody observed it. A panic is logged and otherwise ignored. What these types cannot do is end
//! a call that blocks its thread.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::headers::Headers;
use crate::message::InboundMessage;
use crate::observe::{HandlerOutcome, LeaseLossPhase, Metrics, Span, Tracer};
use crate::panic;
use crate::storage::Stats;

/// Metrics whose panics are caught and logged.
#[derive(Debug)]
pub(crate) struct Guarded(pub(crate) Arc<dyn Metrics>);

impl Guarded {
    fn call(&self, call: impl FnOnce(&dyn Metrics)) {
        if let Err(panic) = panic::caught(|| call(&*self.0)) {
            tracing::error!(panic, "the metrics panicked");
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

/// A tracer whose panics, and those of its spans, are caught and logged.
#[derive(Debug)]
pub(crate) struct GuardedTracer(pub(crate) Arc<dyn Tracer>);

impl GuardedTracer {
    fn start(&self, start: impl FnOnce(&dyn Tracer) -> Box<dyn Span>) -> Box<dyn Span> {
        let started = caught(|| start(&*self.0));
        started.map_or_else(|| Box::new(()) as Box<dyn Span>, |span| Box::new(GuardedSpan(Some(span))))
    }
}

#[deny(clippy::missing_trait_methods)]
impl Tracer for GuardedTracer {
    fn start_enqueue_span(&self, event_types: &[&str], count: usize) -> Box<dyn Span> {
        self.start(|tracer| tracer.start_enqueue_span(event_types, count))
    }

    fn start_claim_span(&self, worker: &str) -> Box<dyn Span> {
        self.start(|tracer| tracer.start_claim_span(worker))
    }

    fn start_settle_span(&self, worker: &str, outcomes: usize) -> Box<dyn Span> {
        self.start(|tracer| tracer.start_settle_span(worker, outcomes))
    }

    fn start_handler_span(&self, messages: &[&InboundMessage]) -> Box<dyn Span> {
        self.start(|tracer| tracer.start_handler_span(messages))
    }

    fn inject_headers(&self, span: &dyn Span, headers: &mut Headers) {
        caught(|| self.0.inject_headers(span, headers));
    }
}

/// A span of the application's tracer; absent once it has ended.
#[derive(Debug)]
struct GuardedSpan(Option<Box<dyn Span>>);

#[deny(clippy::missing_trait_methods)]
impl Span for GuardedSpan {
    /// Runs `poll` exactly once, whatever the application's span does.
    fn scope(&self, poll: &mut dyn FnMut()) {
        let (mut begun, mut ended) = (false, false);
        if let Some(span) = &self.0 {
            let scoped = catch_unwind(AssertUnwindSafe(|| {
                span.scope(&mut || {
                    if !begun {
                        begun = true;
                        poll();
                        ended = true;
                    }
                });
            }));
            match scoped {
                // A panic of `poll` itself is the caller's.
                Err(panic) if begun && !ended => resume_unwind(panic),
                Err(panic) => {
                    // Before the event, whose values are made only if somebody wants it.
                    let panic = panic::text(panic);
                    tracing::error!(panic, "the tracer panicked");
                }
                Ok(()) => {}
            }
        }
        if !begun {
            poll();
        }
    }

    /// The application's own span, for the tracer that made it.
    fn as_any(&self) -> &dyn Any {
        self.0.as_ref().and_then(|span| caught(|| span.as_any())).unwrap_or(&())
    }

    fn end(mut self: Box<Self>, error: Option<&(dyn Error + 'static)>) {
        if let Some(span) = self.0.take() {
            caught(|| span.end(error));
        }
    }
}

impl Drop for GuardedSpan {
    fn drop(&mut self) {
        if let Some(span) = self.0.take() {
            caught(|| drop(span));
        }
    }
}

/// The result of a tracer's method; `None` when it panicked.
fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    panic::caught(call).inspect_err(|panic| tracing::error!(panic, "the tracer panicked")).ok()
}
