//! When the next attempt follows.

use std::fmt::Debug;
use std::time::Duration;

use crate::door::Random;
use crate::error::{Error, Result};

/// Decides how long a failed message waits for its next attempt.
pub trait RetryPolicy: Debug + Send + Sync + 'static {
    /// The delay after attempt number `attempt` (from 1) failed with `error`.
    fn next_delay(&self, attempt: u16, error: &(dyn std::error::Error + 'static)) -> Duration;
}

/// `min(max, base * 2^(attempt-1))`, times a random factor in `[1 - jitter, 1 + jitter]`, at most `max`. The default policy.
#[derive(Debug)]
pub struct ExponentialBackoff {
    base: Duration,
    max: Duration,
    jitter: f64,
    random: Random,
}

impl Default for ExponentialBackoff {
    /// Base 1 s, maximum 1 h, jitter 0.2.
    fn default() -> Self {
        Self { base: Duration::from_secs(1), max: Duration::from_secs(3_600), jitter: 0.2, random: Random::from_entropy() }
    }
}

impl ExponentialBackoff {
    /// A back-off from `base` to `max`.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) when `base` is zero or longer than `max`.
    pub fn new(base: Duration, max: Duration) -> Result<Self> {
        if base.is_zero() || base > max {
            return Err(Error::config(format!("back-off base {base:?} must be above zero and at most its maximum {max:?}")));
        }
        Ok(Self { base, max, ..Self::default() })
    }

    /// Sets the jitter; values outside `[0, 1]` are clamped, not-a-number is 0.
    #[must_use]
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.jitter = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        self
    }

    /// Sets where the random numbers come from.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// The delay after attempt number `attempt`, from 1.
    pub fn delay(&self, attempt: u16) -> Duration {
        let doublings = u32::from(attempt.saturating_sub(1)).min(63);
        let factor = 1_u32.checked_shl(doublings.min(31)).unwrap_or(u32::MAX);
        let mut exact = self.base.saturating_mul(factor).min(self.max);
        if doublings > 31 {
            exact = self.max;
        }
        let spread = (2.0 * self.random.unit() - 1.0).mul_add(self.jitter, 1.0);
        Duration::try_from_secs_f64(exact.as_secs_f64() * spread).unwrap_or(self.max).min(self.max)
    }
}

impl RetryPolicy for ExponentialBackoff {
    fn next_delay(&self, attempt: u16, _error: &(dyn std::error::Error + 'static)) -> Duration {
        self.delay(attempt)
    }
}

/// A fixed delay.
impl RetryPolicy for Duration {
    fn next_delay(&self, _attempt: u16, _error: &(dyn std::error::Error + 'static)) -> Duration {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_maximum_without_overflow() {
        let exact = ExponentialBackoff::default().jitter(0.0);
        let seconds: Vec<_> = [1, 2, 3, 12, 13, 40, u16::MAX].map(|attempt| exact.delay(attempt).as_secs()).into();
        assert_eq!(seconds, [1, 2, 4, 2_048, 3_600, 3_600, 3_600]);
    }

    #[test]
    fn jitter_spreads_within_its_fraction_and_never_exceeds_the_maximum() {
        let policy = ExponentialBackoff::default().random(Random::seeded(7));
        let delays: Vec<_> = (0..1_000).map(|_| policy.delay(3).as_secs_f64()).collect();
        assert!(delays.iter().all(|delay| (3.2..=4.8).contains(delay)));
        assert!(delays.iter().any(|delay| *delay < 3.5) && delays.iter().any(|delay| *delay > 4.5));
        assert!((0..100).all(|_| policy.delay(30) <= Duration::from_secs(3_600)));
    }

    #[test]
    fn jitter_is_clamped() {
        assert_eq!(ExponentialBackoff::default().jitter(f64::NAN).delay(1), Duration::from_secs(1));
        assert!(ExponentialBackoff::default().jitter(9.0).delay(1) <= Duration::from_secs(2));
    }
}
