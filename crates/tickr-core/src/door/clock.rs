//! The door to time.
#![expect(clippy::disallowed_methods, reason = "this is the door")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// A monotonic reading: the time since some fixed moment of this boot (or of this test).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Tick(Duration);

impl Tick {
    pub(crate) const ZERO: Self = Self(Duration::ZERO);

    pub(crate) fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn as_micros(self) -> i64 {
        i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX)
    }

    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(Duration::from_nanos(nanos))
    }

    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Which monotonic clock leases are trusted by.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Clock {
    /// The machine's clock that goes on counting while it sleeps (Linux `CLOCK_BOOTTIME`, see clock_gettime(2)), so
    /// that a laptop or a virtual machine that was suspended knows that its lease has run out.
    Boot,
    /// The clock of the tokio runtime, which a test may pause and advance.
    Runtime {
        /// The zero of this clock.
        origin: Instant,
    },
}

impl Clock {
    /// The runtime's clock, for tests under `tokio::time::pause`.
    pub fn runtime() -> Self {
        Self::Runtime { origin: Instant::now() }
    }

    pub(crate) fn now(self) -> Tick {
        match self {
            Self::Boot => Tick(boot_time()),
            Self::Runtime { origin } => Tick(origin.elapsed()),
        }
    }

    pub(crate) const fn is_runtime(self) -> bool {
        matches!(self, Self::Runtime { .. })
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
/// Elsewhere CLOCK_MONOTONIC; on macOS it counts suspend too.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

fn boot_time() -> Duration {
    let now = clock_gettime(CLOCK);
    Duration::new(now.tv_sec.max(0).unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Microseconds since 1970 by this machine's clock.
pub(crate) fn wall_us() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

/// Waits for `duration` of the runtime's time.
pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Blocks this thread, which is no runtime's.
pub(crate) fn block(duration: Duration) {
    std::thread::sleep(duration);
}

/// The runtime's clock, for deadlines of tasks.
pub(crate) fn runtime_now() -> Instant {
    Instant::now()
}

/// Waits until a moment of the runtime's clock.
pub(crate) async fn sleep_until(at: Instant) {
    tokio::time::sleep_until(at).await;
}
