//! How far ahead messages are claimed.

use std::time::Duration;

use crate::door::clock::Tick;
use crate::worker::Prefetch;

/// How many messages of a type its handlers finish in a second, smoothed.
#[derive(Debug, Default)]
pub(super) struct Rate {
    finished: u32,
    since: Tick,
    per_second: f64,
}

/// A rate is measured over at least this long, so that one burst does not decide.
const WINDOW: Duration = Duration::from_millis(20);

impl Rate {
    pub(super) const fn count(&mut self, finished: u32) {
        self.finished = self.finished.saturating_add(finished);
    }

    /// Takes a measurement if the window is over.
    pub(super) fn measure(&mut self, now: Tick) {
        let elapsed = now.since(self.since);
        if elapsed < WINDOW {
            return;
        }
        let measured = f64::from(self.finished) / elapsed.as_secs_f64();
        // A quick start matters more than a smooth one: half of what was just seen.
        self.per_second = self.per_second.midpoint(measured);
        self.finished = 0;
        self.since = now;
    }

    /// How many messages to hold beyond what can start at once.
    pub(super) fn prefetch(&self, prefetch: Prefetch) -> u32 {
        match prefetch {
            Prefetch::Fixed(messages) => messages,
            Prefetch::Adaptive { window, max } => {
                let ahead = self.per_second * window.as_secs_f64();
                // Saturating by definition of `as`; a rate is never negative nor not-a-number.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by max")]
                let ahead = ahead.min(f64::from(max)) as u32;
                ahead
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADAPTIVE: Prefetch = Prefetch::Adaptive { window: Duration::from_millis(100), max: 2_000 };

    #[test]
    fn follows_the_measured_rate_and_forgets_it_when_idle() {
        let mut rate = Rate::default();
        assert_eq!(rate.prefetch(ADAPTIVE), 0);
        let mut now = Tick::default();
        for _ in 0..10 {
            now = now.after(Duration::from_millis(20));
            rate.count(20);
            rate.measure(now);
        }
        assert!((95..=100).contains(&rate.prefetch(ADAPTIVE)), "{}", rate.prefetch(ADAPTIVE));
        for _ in 0..10 {
            now = now.after(Duration::from_secs(1));
            rate.measure(now);
        }
        assert_eq!(rate.prefetch(ADAPTIVE), 0);
    }

    #[test]
    fn never_exceeds_its_maximum() {
        let mut rate = Rate::default();
        rate.count(u32::MAX);
        rate.measure(Tick::default().after(Duration::from_millis(20)));
        assert_eq!(rate.prefetch(ADAPTIVE), 2_000);
    }
}
