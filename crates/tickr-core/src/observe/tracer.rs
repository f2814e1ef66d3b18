//! Traces of the engine.

use std::fmt::Debug;

use crate::headers::Headers;
use crate::message::InboundMessage;

/// Starts spans. Every method does nothing unless implemented.
#[expect(unused_variables, reason = "the names say what an implementer gets")]
pub trait Tracer: Debug + Send + Sync + 'static {
    /// A span around the enqueue of `count` messages of these types (each named once).
    fn start_enqueue_span(&self, event_types: &[&str], count: usize) -> Box<dyn Span> {
        Box::new(())
    }

    /// A span around a claim.
    fn start_claim_span(&self, worker: &str) -> Box<dyn Span> {
        Box::new(())
    }

    /// A span around the settling of so many outcomes.
    fn start_settle_span(&self, worker: &str, outcomes: usize) -> Box<dyn Span> {
        Box::new(())
    }

    /// A span around one attempt of a handler: one message, or the members of a batch. The producers' contexts are in
    /// the messages' headers.
    fn start_handler_span(&self, messages: &[&InboundMessage]) -> Box<dyn Span> {
        Box::new(())
    }

    /// Writes the context of `span` into the headers of a message that is being enqueued, never over what the user wrote.
    fn inject_headers(&self, span: &dyn Span, headers: &mut Headers) {}
}

impl Tracer for () {}

/// A started span. Dropping it without [`end`](Self::end) ends it without a verdict.
#[expect(unused_variables, reason = "the names say what an implementer gets")]
pub trait Span: Debug + Send + Sync {
    /// Runs `poll` with the span as the current one. The engine calls this for every poll of a handler's future, so
    /// that spans and events of the user's own code belong to it.
    fn scope(&self, poll: &mut dyn FnMut()) {
        poll();
    }

    /// The span as a concrete type, for the tracer that made it.
    fn as_any(&self) -> &dyn std::any::Any;

    /// Ends the span; `error` says why it failed.
    fn end(self: Box<Self>, error: Option<&dyn std::error::Error>) {}
}

impl Span for () {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
