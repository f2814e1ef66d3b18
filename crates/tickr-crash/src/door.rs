//! The door: the only place of this crate that reads a clock or waits.
#![expect(clippy::disallowed_methods, reason = "this is the door")]

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A reading of the monotonic clock of this process.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Microseconds of a clock that all processes of the machine share and nobody sets.
pub(crate) fn monotonic_us() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000)
}

/// Runs work beside what else this process does; it ends with the runtime.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(work));
}

/// Holds up this thread.
pub(crate) fn sit(duration: Duration) {
    std::thread::sleep(duration);
}

/// Waits.
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
