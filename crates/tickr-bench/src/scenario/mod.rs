//! What is measured.

mod flow;
mod full;
mod idle;
mod steady;

use anyhow::Result;
use clap::ValueEnum;

use crate::run::Bench;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One a transaction, batches, with keys, in the caller's transaction; against bare INSERTs of the same rows.
    Enqueue,
    /// Preloaded messages with no-op handlers, in 1, 2 and 4 processes; against the same statements in a bare loop.
    Drain,
    /// Messages offered at a rate: latency to the start and to the recorded success.
    Steady,
    /// An old snapshot is held while messages pass.
    Snapshot,
    /// Millions of finished and delayed messages, 50 types, one at its cap.
    Full,
    /// Workers without work: statements, CPU, latency of the first message.
    Idle,
    /// 30 % retries, 5 % dead.
    Failures,
    /// 500 handlers at a time that take two seconds.
    Long,
    /// Bodies of 64 B, 4 KiB and 256 KiB.
    Payload,
    /// The drain with metrics, and with traces of which one in a hundred is sampled, or all.
    Observed,
    /// 60 % of what is drained while it is enqueued, with retention on, for long.
    Soak,
}

impl Scenario {
    /// All but the one that takes half an hour.
    pub(crate) fn usual() -> Vec<Self> {
        Self::value_variants().iter().copied().filter(|scenario| *scenario != Self::Soak).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Drain => "drain",
            Self::Steady => "steady",
            Self::Snapshot => "snapshot",
            Self::Full => "full",
            Self::Idle => "idle",
            Self::Failures => "failures",
            Self::Long => "long",
            Self::Payload => "payload",
            Self::Observed => "observed",
            Self::Soak => "soak",
        }
    }

    pub(crate) async fn run(self, bench: &mut Bench) -> Result<()> {
        match self {
            Self::Enqueue => flow::enqueue(bench).await,
            Self::Drain => flow::drain(bench).await,
            Self::Steady => steady::steady(bench).await,
            Self::Snapshot => steady::snapshot(bench).await,
            Self::Full => full::full(bench).await,
            Self::Idle => idle::idle(bench).await,
            Self::Failures => flow::failures(bench).await,
            Self::Long => idle::long(bench).await,
            Self::Payload => flow::payload(bench).await,
            Self::Observed => flow::observed(bench).await,
            Self::Soak => steady::soak(bench).await,
        }
    }
}
