//! The only place that reads a clock or waits on it.

use std::thread;
use std::time::{Duration, Instant};

/// How long it takes at most to notice that something has happened of which nothing tells.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Looks until there is something to see, and gives up after `patience`.
#[expect(clippy::disallowed_methods, reason = "servers are outside of the engine, and so is the clock that waits for them")]
pub(crate) fn wait_for<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(LOOK_AGAIN);
    }
}
