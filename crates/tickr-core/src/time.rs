//! Moments in the database's time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::door::clock;

/// A moment, in microseconds since 1970-01-01T00:00:00Z: the precision that every supported database keeps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// This machine's clock, now. Times that decide (due, expired) come from the database instead.
    pub fn now() -> Self {
        Self(clock::wall_us())
    }

    /// Takes microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The moment `duration` later, saturating.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// The moment `duration` earlier, saturating.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }

    /// The time that passed since `earlier`; zero when it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(micros(after)),
            Err(error) => Self(-micros(error.duration())),
        }
    }
}

impl From<Timestamp> for SystemTime {
    /// Moments outside what the platform can express become the epoch.
    fn from(timestamp: Timestamp) -> Self {
        let distance = Duration::from_micros(timestamp.0.unsigned_abs());
        let time = if timestamp.0 < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
        time.unwrap_or(UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339, UTC, microseconds; outside the years 1970 to 9999 the bare number of microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const YEAR_10000_US: i64 = 253_402_300_800_000_000;
        if (0..YEAR_10000_US).contains(&self.0) {
            fmt::Display::fmt(&humantime::format_rfc3339_micros((*self).into()), f)
        } else {
            write!(f, "{} us", self.0)
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An offset that an adapter adds to its database's clock, so that tests move time instead of waiting for it.
///
/// All clones move together; the conformance suite drives it.
#[derive(Clone, Debug, Default)]
pub struct ClockOffset(Arc<AtomicI64>);

impl ClockOffset {
    /// Moves the clock forward.
    pub fn advance(&self, duration: Duration) {
        self.0.fetch_add(micros(duration), Ordering::SeqCst);
    }

    /// Sets the clock back.
    pub fn set_back(&self, duration: Duration) {
        self.0.fetch_sub(micros(duration), Ordering::SeqCst);
    }

    /// The offset in microseconds.
    pub fn as_micros(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    /// `timestamp` moved by the offset.
    pub fn apply(&self, timestamp: Timestamp) -> Timestamp {
        Timestamp(timestamp.0.saturating_add(self.as_micros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_rfc_3339_with_microseconds() {
        assert_eq!(Timestamp::from_micros(1_700_000_000_123_456).to_string(), "2023-11-14T22:13:20.123456Z");
        assert_eq!(Timestamp::from_micros(-1).to_string(), "-1 us");
        assert!(Timestamp::from_micros(i64::MAX).to_string().ends_with(" us"));
    }

    #[test]
    fn converts_both_ways_and_saturates() {
        for micros in [0, 1, -1, 1_700_000_000_123_456] {
            let timestamp = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::from(SystemTime::from(timestamp)), timestamp);
        }
        assert_eq!(Timestamp::from_micros(i64::MAX).after(Duration::MAX).as_micros(), i64::MAX);
    }
}
