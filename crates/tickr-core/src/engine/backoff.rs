//! How long an idle worker waits between polls.

use std::time::Duration;

use crate::door::Random;
use crate::door::clock::Tick;

/// Polls after a transaction was seen to enqueue, whose commit cannot be seen.
const BURST_MS: [u64; 6] = [1, 2, 5, 10, 25, 50];

/// 1 ms, doubling to the poll interval; after a second without work, doubling to the idle maximum. Jittered.
#[derive(Debug)]
pub(super) struct PollBackoff {
    poll: Duration,
    idle: Duration,
    next: Duration,
    burst: &'static [u64],
    last_work: Tick,
}

impl PollBackoff {
    const FIRST: Duration = Duration::from_millis(1);
    const PATIENCE: Duration = Duration::from_secs(1);

    pub(super) const fn new(poll: Duration, idle: Duration, now: Tick) -> Self {
        Self { poll, idle, next: Self::FIRST, burst: &[], last_work: now }
    }

    /// There was work: poll eagerly again.
    pub(super) const fn reset(&mut self, now: Tick) {
        self.next = Self::FIRST;
        self.last_work = now;
    }

    /// Something will be there soon.
    pub(super) const fn start_burst(&mut self) {
        self.burst = &BURST_MS;
    }

    /// Whether the worker counts as asleep.
    pub(super) fn is_idle(&self) -> bool {
        self.burst.is_empty() && self.next >= self.poll
    }

    /// The next pause.
    pub(super) fn pause(&mut self, now: Tick, random: &Random) -> Duration {
        if let Some((first, rest)) = self.burst.split_first() {
            self.burst = rest;
            return Duration::from_millis(*first);
        }
        let patient = now.since(self.last_work) < Self::PATIENCE;
        let limit = if patient { self.poll.min(self.idle) } else { self.idle };
        let pause = self.next.min(limit);
        self.next = self.next.saturating_mul(2).min(limit.max(Self::FIRST));
        // Ten idle workers that were deployed together must not poll together.
        pause.mul_f64(0.2f64.mul_add(-random.unit(), 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_poll_interval_and_after_a_second_to_the_idle_maximum() {
        let random = Random::seeded(1);
        let mut now = Tick::default();
        let mut backoff = PollBackoff::new(Duration::from_millis(100), Duration::from_secs(2), now);
        let mut pauses = Vec::new();
        for _ in 0..30 {
            let pause = backoff.pause(now, &random);
            now = now.after(pause);
            pauses.push(pause);
        }
        assert!(pauses[0] <= Duration::from_millis(1));
        assert!(pauses[8] > Duration::from_millis(79) && pauses[8] <= Duration::from_millis(100), "{pauses:?}");
        assert!(pauses[29] > Duration::from_millis(1_599) && pauses[29] <= Duration::from_secs(2), "{pauses:?}");
        assert!(backoff.is_idle());
        backoff.reset(now);
        assert!(backoff.pause(now, &random) <= Duration::from_millis(1));
    }

    #[test]
    fn a_burst_polls_at_once_and_then_goes_on_where_it_was() {
        let random = Random::seeded(1);
        let mut backoff = PollBackoff::new(Duration::from_millis(100), Duration::from_secs(2), Tick::default());
        for _ in 0..20 {
            backoff.pause(Tick::default(), &random);
        }
        backoff.start_burst();
        let burst: Vec<_> = (0..6).map(|_| backoff.pause(Tick::default(), &random).as_millis()).collect();
        assert_eq!(burst, [1, 2, 5, 10, 25, 50]);
        assert!(backoff.pause(Tick::default(), &random) > Duration::from_millis(79));
    }
}
