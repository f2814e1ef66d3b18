//! When scans begin further back than they usually do.
//!
//! A catch-up finds what committed late, or what a process does not expect because its memory of the database is wrong. It is no scan of
//! its own: it replaces the start of one that is due anyway. [`Rungs`] keeps which one is due, and how much longer than an ordinary scan it
//! takes: while somebody holds an old snapshot, dead entries are in its way. Lanes of claims ([`crate::floor`]) and promotions
//! ([`crate::promotion`]) have rungs of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tickr_core::ClockOffset;

use crate::door;

/// How far back an ordinary scan begins.
pub(crate) const RECENT: Duration = Duration::from_millis(100);
/// How often a catch-up begins how far back; the last one at the beginning.
pub(crate) const RUNGS: [(Duration, Option<Duration>); 3] = [
    (Duration::from_millis(250), Some(Duration::from_secs(2))),
    (Duration::from_secs(5), Some(Duration::from_secs(60))),
    (Duration::from_secs(60), None),
];
/// The catch-up that begins at the beginning.
pub(crate) const WHOLE: usize = RUNGS.len() - 1;
/// How often the whole of a lane is scanned while scans of it find nothing.
const EMPTY_EVERY: Duration = Duration::from_secs(1);
/// A catch-up that takes longer than an ordinary scan is repeated less often: at most one hundredth of the time is spent on it.
const SHARE: u32 = 100;
/// The longest pause that the cost of a catch-up leads to. One that hit a deadline took long for a reason that may have gone.
const COST_MAX: Duration = Duration::from_secs(600);
/// How long no other scan repeats a catch-up that is not answered yet.
const IN_FLIGHT: Duration = Duration::from_secs(5);
/// Over how many ordinary scans their time is averaged.
const AVERAGE: u32 = 8;
/// The time of scans: monotonic, moved forward with the clock of tests.
#[derive(Debug)]
pub(crate) struct Timer {
    origin: Instant,
    offset: ClockOffset,
    /// The largest offset there was: a clock of tests that is set back does not turn this one back.
    furthest: AtomicU64,
}

impl Timer {
    pub(crate) fn new(offset: ClockOffset) -> Self {
        Self { origin: door::now(), offset, furthest: AtomicU64::new(0) }
    }

    pub(crate) fn now(&self) -> Duration {
        let moved = self.offset.as_micros().max(0).unsigned_abs();
        let moved = self.furthest.fetch_max(moved, Ordering::Relaxed).max(moved);
        door::now().duration_since(self.origin) + Duration::from_micros(moved)
    }
}

/// Which catch-up is due when.
#[derive(Debug, Default)]
pub(crate) struct Rungs {
    pub(crate) due: [Duration; RUNGS.len()],
    /// When the whole may be scanned because nothing is found.
    pub(crate) whole_if_empty: Duration,
    /// How long ordinary scans take: those that took nothing, those that took something.
    ordinary: [Option<Duration>; 2],
    /// How much longer the last catch-up of each rung took.
    excess: [Duration; RUNGS.len()],
}

impl Rungs {
    /// The deepest catch-up that is due, `None` for an ordinary scan. It counts as done only when it was [`answered`](Self::answered).
    pub(crate) fn due(&mut self, now: Duration, found_nothing: bool) -> Option<usize> {
        let whole = found_nothing && self.whole_if_empty <= now;
        let rung = if whole { WHOLE } else { (0..RUNGS.len()).rev().find(|rung| self.due[*rung] <= now)? };
        self.put_off(rung, |every| now + every.min(IN_FLIGHT));
        if rung == WHOLE {
            self.whole_if_empty = now + IN_FLIGHT;
        }
        Some(rung)
    }

    /// A deeper scan does what the others would do.
    fn put_off(&mut self, rung: usize, until: impl Fn(Duration) -> Duration) {
        for (due, (every, _)) in self.due.iter_mut().zip(RUNGS).take(rung + 1) {
            *due = until(every);
        }
    }

    /// A scan was answered. What it took longer than an ordinary one, which it was too, is what the catch-up costs.
    pub(crate) fn answered(&mut self, rung: Option<usize>, now: Duration, spent: Duration, took: bool) {
        let ordinary = self.ordinary[usize::from(took)].get_or_insert(spent);
        let excess = spent.saturating_sub(*ordinary);
        // An idle worker may make catch-ups only: a quick one counts as ordinary.
        if rung.is_none() || excess.is_zero() {
            *ordinary = (*ordinary * (AVERAGE - 1) + spent) / AVERAGE;
        }
        let Some(rung) = rung else { return };
        // On a busy machine any scan is slow now and then. Dead entries make every one slow: the quicker of the last two counts.
        let before = std::mem::replace(&mut self.excess[rung], excess);
        self.done(rung, now, excess.min(before));
    }

    /// A scan took so long that it was given up.
    pub(crate) fn gave_up(&mut self, rung: usize, now: Duration, spent: Duration) {
        self.excess[rung] = spent;
        self.done(rung, now, spent);
    }

    fn done(&mut self, rung: usize, now: Duration, cost: Duration) {
        let pause = (cost * SHARE).min(RUNGS[rung].0 * SHARE).min(COST_MAX);
        self.put_off(rung, |every| now + every);
        self.due[rung] = self.due[rung].max(now + pause);
        if rung == WHOLE {
            self.whole_if_empty = now + pause.max(EMPTY_EVERY);
        }
    }

    /// The scan ended before it came so far: the catch-up is due as it was.
    pub(crate) fn not_reached(&mut self, rung: Option<usize>, now: Duration) {
        let Some(rung) = rung else { return };
        self.put_off(rung, |_| now);
        if rung == WHOLE {
            self.whole_if_empty = now;
        }
    }

    /// Every catch-up is due.
    pub(crate) fn forget(&mut self) {
        (self.due, self.whole_if_empty) = Default::default();
    }

    /// The whole is due as if the last scan had found nothing: at once, unless it took long.
    pub(crate) fn hurry(&mut self) {
        self.due[WHOLE] = self.due[WHOLE].min(self.whole_if_empty);
    }

    /// How much longer a scan took than one that takes nothing.
    pub(crate) fn more_than_ordinary(&self, spent: Duration) -> Duration {
        spent.saturating_sub(self.ordinary[0].unwrap_or(spent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_catch_up_that_did_not_come_to_the_lane_is_still_due() {
        let mut rungs = Rungs::default();
        assert_eq!(rungs.due(ms(60_000), false), Some(WHOLE));
        assert_eq!(rungs.due(ms(60_001), false), None, "another claim at the same time does not repeat it");
        rungs.not_reached(Some(WHOLE), ms(60_002));
        assert_eq!(rungs.due(ms(60_003), false), Some(WHOLE));
    }

    #[test]
    fn catch_ups_that_are_long_are_rare() {
        let mut rungs = Rungs::default();
        rungs.answered(None, ms(60_000), ms(1), false);
        rungs.answered(Some(WHOLE), ms(60_000), ms(1_001), false);
        assert_eq!(rungs.due[WHOLE], ms(120_000), "once is no rule");
        rungs.answered(Some(WHOLE), ms(62_000), ms(2_001), false);
        assert_eq!((rungs.due[WHOLE], rungs.whole_if_empty), (ms(162_000), ms(162_000)));
        assert_eq!(rungs.due(ms(63_000), true), Some(0), "nor is the whole scanned because nothing is found");
        // A scan is not called long for what an ordinary one takes too.
        for _ in 0..50 {
            rungs.answered(None, ms(64_000), ms(20), true);
        }
        for _ in 0..2 {
            rungs.answered(Some(0), ms(64_000), ms(21), true);
        }
        assert_eq!(rungs.due[0], ms(64_250));
    }

    #[test]
    fn a_catch_up_that_never_ends_is_rare() {
        let mut rungs = Rungs::default();
        assert_eq!(rungs.due(ms(60_000), true), Some(WHOLE));
        rungs.gave_up(WHOLE, ms(78_000), ms(18_000));
        assert_eq!((rungs.due[WHOLE], rungs.whole_if_empty), (ms(78_000) + COST_MAX, ms(78_000) + COST_MAX));
    }
}
