//! The door: the only place of this crate that reads a clock or waits.
#![expect(clippy::disallowed_methods, reason = "this is the door")]

use std::future::Future;
use std::time::{Duration, Instant};

/// A reading of the monotonic clock, for the ladder of floors.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits for `work`, at most for so long. `None`: it was dropped.
pub(crate) async fn within<F: Future>(limit: Duration, work: F) -> Option<F::Output> {
    tokio::time::timeout(limit, work).await.ok()
}
