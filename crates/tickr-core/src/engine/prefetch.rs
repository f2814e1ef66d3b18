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
    /// How large a body is, in bytes: a mean that follows larger bodies faster than smaller ones. 0 before the first.
    body: f64,
}

/// The size that bodies are taken for before one was seen: 1 MiB, a little more than the 900 KiB that a client accepts by default.
const BODY_UNSEEN: f64 = 1_048_576.0;
/// What a message costs beside its body.
const BESIDE_BODY: f64 = 512.0;

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

    /// Takes the size of a body into account.
    pub(super) fn weigh(&mut self, bytes: usize) {
        // Exact up to 2^53.
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let bytes = bytes as f64;
        let share: f64 = match self.body {
            0.0 => 1.0,
            body if bytes > body => 0.25,
            _ => 1.0 / 32.0,
        };
        self.body = share.mul_add(bytes - self.body, self.body).max(1.0);
    }

    /// How many messages have room in `bytes`.
    pub(super) fn room(&self, bytes: usize) -> u32 {
        let each = BESIDE_BODY + if self.body > 0.0 { self.body } else { BODY_UNSEEN };
        // Saturating by definition of `as`; neither is negative nor not-a-number.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an estimate")]
        let room = (bytes as f64 / each) as u32;
        room
    }

    /// How many messages to hold beyond what can start at once, of which the bodies fit into `bytes`.
    pub(super) fn prefetch(&self, prefetch: Prefetch, bytes: usize) -> u32 {
        let messages = match prefetch {
            Prefetch::Fixed(messages) => messages,
            Prefetch::Adaptive { window, max } => {
                let ahead = self.per_second * window.as_secs_f64();
                // Saturating by definition of `as`; a rate is never negative nor not-a-number.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by max")]
                let ahead = ahead.min(f64::from(max)) as u32;
                ahead
            }
        };
        messages.min(self.room(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 64 << 20;
    const ADAPTIVE: Prefetch = Prefetch::Adaptive { window: Duration::from_millis(100), max: 2_000 };

    #[test]
    fn follows_the_measured_rate_and_forgets_it_when_idle() {
        let mut rate = Rate::default();
        rate.weigh(100);
        assert_eq!(rate.prefetch(ADAPTIVE, BYTES), 0);
        let mut now = Tick::default();
        for _ in 0..10 {
            now = now.after(Duration::from_millis(20));
            rate.count(20);
            rate.measure(now);
        }
        assert!((95..=100).contains(&rate.prefetch(ADAPTIVE, BYTES)), "{}", rate.prefetch(ADAPTIVE, BYTES));
        for _ in 0..10 {
            now = now.after(Duration::from_secs(1));
            rate.measure(now);
        }
        assert_eq!(rate.prefetch(ADAPTIVE, BYTES), 0);
    }

    #[test]
    fn never_exceeds_its_maximum() {
        let mut rate = Rate::default();
        rate.weigh(100);
        rate.count(u32::MAX);
        rate.measure(Tick::default().after(Duration::from_millis(20)));
        assert_eq!(rate.prefetch(ADAPTIVE, BYTES), 2_000);
    }

    #[test]
    fn bodies_that_are_prefetched_fit_into_the_bytes_for_them() {
        let mut rate = Rate::default();
        let fixed = Prefetch::Fixed(10_000);
        assert_eq!(rate.prefetch(fixed, BYTES), 63, "nothing is known of the bodies");
        rate.weigh(0);
        assert_eq!(rate.prefetch(fixed, BYTES), 10_000);
        (0..20).for_each(|_| rate.weigh(1 << 20));
        assert!((62..=66).contains(&rate.prefetch(fixed, BYTES)), "{}", rate.prefetch(fixed, BYTES));
        (0..1_000).for_each(|_| rate.weigh(100));
        assert_eq!(rate.prefetch(fixed, BYTES), 10_000);
        assert_eq!(rate.prefetch(fixed, 0), 0);
    }
}
