//! Operations of the storage that fail in a row.
//!
//! Each kind has a count of its own: claims may be refused for ever while heartbeats succeed, and then the worker is not ready.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Result;

/// The kinds that a worker cannot do its work without.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Claim,
    Settle,
    Lease,
    Promote,
    Reclaim,
}

impl Kind {
    fn of(operation: &str) -> Option<Self> {
        match operation {
            "claim" => Some(Self::Claim),
            "settle" => Some(Self::Settle),
            "heartbeat" | "register" => Some(Self::Lease),
            "promote" => Some(Self::Promote),
            "reclaim" => Some(Self::Reclaim),
            _ => None,
        }
    }
}

/// How many of each kind have failed in a row.
#[derive(Debug, Default)]
pub(super) struct Failures([AtomicU32; 5]);

impl Failures {
    /// Notes how an operation ended. A settle that is refused for its outcomes does not count: the outbox counts those.
    pub(super) fn note<T>(&self, operation: &str, result: &Result<T>) {
        let Some(kind) = Kind::of(operation) else { return };
        let count = &self.0[kind as usize];
        match result {
            Ok(_) => count.store(0, Ordering::Relaxed),
            Err(error) if matches!(kind, Kind::Settle) && !error.is_transient() => {}
            Err(_) => drop(count.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// The most of one kind. Settles count while there is something to settle: else none follows that could succeed.
    pub(super) fn most(&self, unsettled: u32) -> u32 {
        let count = |kind: Kind| self.0[kind as usize].load(Ordering::Relaxed);
        let others = [Kind::Claim, Kind::Lease, Kind::Promote, Kind::Reclaim].map(count).into_iter().max();
        let settles = if unsettled > 0 { count(Kind::Settle) } else { 0 };
        others.unwrap_or(0).max(settles)
    }
}
