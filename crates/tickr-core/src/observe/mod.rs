//! Where the engine tells what it does: metrics, traces, alerts. All optional; `()` does nothing.

mod alerter;
mod guarded;
mod metrics;
mod tracer;

pub use alerter::{Alerter, ErrorEvent, ErrorEventKind};
pub(crate) use guarded::{Guarded, GuardedTracer};
pub use metrics::{HandlerOutcome, LeaseLossPhase, Metrics};
pub use tracer::{AttemptError, Span, Tracer};
