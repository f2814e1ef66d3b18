//! Spans as the engine holds them.

use std::any::Any;
use std::error::Error;
use std::sync::OnceLock;
use std::time::SystemTime;

use opentelemetry::trace::{Span as OtelApiSpan, SpanRef, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use tickr_core::{AttemptError, ErrorKind, Span};

use crate::carrier::Outgoing;
use crate::keys;

/// How much of an error's text a span gets, in bytes: collectors cut or refuse what is too long.
const ERROR_BYTES_MAX: usize = 4 << 10;

/// A started span.
#[derive(Debug)]
pub(crate) struct Started {
    /// The span, and the producer's baggage.
    context: Context,
    recording: bool,
    /// What goes into the headers of the messages enqueued under it.
    pub(crate) outgoing: OnceLock<Outgoing>,
}

impl Started {
    /// Makes `span` the span of `context`.
    pub(crate) fn new<S: OtelApiSpan + Send + Sync + 'static>(span: S, context: &Context) -> Self {
        let recording = span.is_recording();
        let context = if recording {
            context.with_span(span)
        } else {
            // Only its identity matters: this saves the lock and the box around a span that does nothing.
            context.with_remote_span_context(span.span_context().clone())
        };
        Self { context, recording, outgoing: OnceLock::new() }
    }

    pub(crate) const fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn span(&self) -> SpanRef<'_> {
        self.context.span()
    }
}

impl Span for Started {
    fn scope(&self, poll: &mut dyn FnMut()) {
        let _current = self.context.clone().attach();
        poll();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn end(self: Box<Self>, error: Option<&(dyn Error + 'static)>) {
        if self.recording
            && let Some(error) = error
        {
            fail(&self.span(), error);
        }
        // Dropping it ends it.
    }
}

impl Drop for Started {
    /// Not left to the context: a task that the handler spawned may keep that for long.
    fn drop(&mut self) {
        if self.recording {
            self.span().end();
        }
    }
}

/// A span of which only failures are told: started when it has failed, at the time when it began.
pub(crate) struct Late<F> {
    /// Starts the span in its own trace.
    pub(crate) start: F,
    pub(crate) began: SystemTime,
}

impl<F> std::fmt::Debug for Late<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Late").field("began", &self.began).finish_non_exhaustive()
    }
}

impl<F: Fn(SystemTime) -> Started + Send + Sync + 'static> Span for Late<F> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn end(self: Box<Self>, error: Option<&(dyn Error + 'static)>) {
        if let Some(error) = error {
            Box::new((self.start)(self.began)).end(Some(error));
        }
    }
}

/// Says on the span that its operation failed, and how.
fn fail(span: &SpanRef<'_>, error: &(dyn Error + 'static)) {
    let kind = kind(error);
    // Its causes are left out: drivers quote values there.
    let text = cut(error.to_string());
    span.set_attribute(KeyValue::new(keys::ERROR_TYPE, kind));
    let exception = vec![KeyValue::new(keys::EXCEPTION_TYPE, kind), KeyValue::new(keys::EXCEPTION_MESSAGE, text.clone())];
    span.add_event(keys::EXCEPTION, exception);
    span.set_status(Status::error(text));
}

/// A class of few values, as `error.type` must be.
fn kind(error: &(dyn Error + 'static)) -> &'static str {
    if let Some(attempt) = error.downcast_ref::<AttemptError>() {
        return attempt.kind();
    }
    let Some(error) = error.downcast_ref::<tickr_core::Error>() else { return OTHER };
    match error.kind() {
        ErrorKind::Config => "config",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Conflict => "conflict",
        ErrorKind::LeaseLost => "lease_lost",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Indeterminate => "indeterminate",
        ErrorKind::Codec => "codec",
        ErrorKind::Migration => "migration",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Closed => "closed",
        ErrorKind::Internal => "internal",
        _ => OTHER,
    }
}

/// What the conventions say of an error without a class.
const OTHER: &str = "_OTHER";

fn cut(mut text: String) -> String {
    if text.len() > ERROR_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
        text.push_str(" ... (cut)");
    }
    text
}
