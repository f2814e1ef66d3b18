//! Traces of the engine.

use std::error::Error;
use std::fmt::{self, Debug};

use crate::headers::Headers;
use crate::message::InboundMessage;

/// Starts spans. Every method does nothing unless implemented.
///
/// Calls come from the engine's own tasks and from the enqueue, and must return at once. Panics are caught and logged, and change
/// nothing else. A tracer that blocks the loop that records leaves the worker not [`live`](crate::WorkerHealth::live) a lease and a
/// second later; outcomes are recorded without it from then on.
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

    /// Ends the span; `error` says why it failed: an [`AttemptError`] for an attempt of a handler, what the storage said
    /// ([`Error`](crate::Error)) for everything else.
    fn end(self: Box<Self>, error: Option<&(dyn Error + 'static)>) {}
}

impl Span for () {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// How an attempt of a handler failed, as [`Span::end`] is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptError {
    /// The handler gave this error, here with its causes.
    Failed(String),
    /// The handler panicked with this text.
    Panicked(String),
    /// It did not end in time.
    TimedOut,
    /// It was cancelled, and did not end by itself.
    Cancelled,
}

impl AttemptError {
    /// The kind, as traces label it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Panicked(_) => "panicked",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) | Self::Panicked(text) => f.write_str(text),
            Self::TimedOut => f.write_str("timed out"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl Error for AttemptError {}
