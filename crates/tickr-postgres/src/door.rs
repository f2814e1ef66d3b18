//! The door: the only place of this crate that reads a clock, waits, or starts tasks.
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

/// Starts a task, unless the runtime has ended.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(work);
    }
}
