//! Where the engine tells what it does: metrics, traces, alerts. All optional; `()` does nothing.

mod alerter;
mod metrics;
mod tracer;

pub use alerter::{Alerter, ErrorEvent, ErrorEventKind};
pub use metrics::{HandlerOutcome, LeaseLossPhase, Metrics};
pub use tracer::{AttemptError, Span, Tracer};
