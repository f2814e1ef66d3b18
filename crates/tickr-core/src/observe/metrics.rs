//! Numbers about the engine.

use std::fmt;
use std::time::Duration;

use crate::storage::Stats;

/// How a handler's attempt ended, as metrics label it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandlerOutcome {
    /// It succeeded.
    Success,
    /// It said that there was nothing to do.
    Skip,
    /// It failed and is retried.
    Retry,
    /// It asked to be called later.
    Snooze,
    /// It failed for good.
    Dead,
    /// It was given back unfinished.
    Released,
    /// Its lease was gone before its outcome could be recorded.
    Lost,
}

impl HandlerOutcome {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Skip => "skip",
            Self::Retry => "retry",
            Self::Snooze => "snooze",
            Self::Dead => "dead",
            Self::Released => "released",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for HandlerOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// When a worker noticed that a lease was gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaseLossPhase {
    /// Before the handler started.
    Queued,
    /// While the handler ran.
    Running,
    /// When the outcome was recorded.
    Settling,
}

impl LeaseLossPhase {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Settling => "settling",
        }
    }
}

/// Receives numbers about the engine. Every method does nothing unless implemented.
///
/// A worker calls from a thread of its own, within milliseconds, in order, and within the application's runtime; panics are caught and
/// logged. Metrics that block their thread delay nothing else: up to 65,536 calls wait, further ones are dropped, and the end of a run
/// waits up to 10 s. A client calls [`message_enqueued`](Self::message_enqueued) within the enqueue, where it must return at once.
/// Numbers about results are given after the write that they report succeeded.
#[expect(unused_variables, reason = "the names say what an implementer gets")]
pub trait Metrics: fmt::Debug + Send + Sync + 'static {
    /// A message was stored by this client (inside a transaction: will be, if it commits).
    fn message_enqueued(&self, event_type: &str) {}

    /// A handler was started.
    fn handler_started(&self, event_type: &str, attempt: u16) {}

    /// An attempt ended and its outcome is recorded, after its handler `ran` for so long. `None`: it was not called, because its
    /// lease was gone (`attempt` is 0 then), all attempts were used up, or the worker gave it back.
    fn handler_completed(&self, event_type: &str, attempt: u16, ran: Option<Duration>, outcome: HandlerOutcome) {}

    /// A message became DEAD.
    fn message_dead(&self, event_type: &str) {}

    /// The queue was sampled (every [`stats interval`](crate::WorkerConfig::stats_interval)): depth by type and status, oldest age, unserved types.
    fn queue_sampled(&self, stats: &Stats) {}

    /// A claim was answered.
    fn claim_batch(&self, claimed: u32, requested: u32, duration: Duration) {}

    /// A settle was answered, with so many outcomes.
    fn settle_batch(&self, outcomes: u32, duration: Duration) {}

    /// The storage refused so many outcomes with an error that does not pass by itself. They are kept and tried again.
    fn settle_refused(&self, outcomes: u32) {}

    /// Messages were taken back from dead workers.
    fn lease_reclaimed(&self, event_type: &str, n: u32) {}

    /// This worker lost the lease of a message. Told once, when it was first noticed.
    fn lease_lost(&self, event_type: &str, phase: LeaseLossPhase) {}

    /// So many handlers run now.
    fn in_flight(&self, n: u32) {}
}

impl Metrics for () {}
