//! Where promotions begin to scan, and claims that ask when the next scheduled message is due.

use std::time::Duration;

use tickr_core::Timestamp;

use crate::catch_up::{RECENT, RUNGS, Rungs};

/// How far the database's clock may be behind a mark of promotions before it counts as set back: answers may overtake each other.
const CLOCK_BACK: Duration = Duration::from_secs(1);

/// The scan start of promotions: everything that was due before it was moved, except for what commits late.
#[derive(Debug, Default)]
pub(crate) struct PromoteFloor {
    rungs: Rungs,
    /// Of claims that found nothing, and ask when the next message is due.
    questions: Rungs,
    moved_until: Option<Timestamp>,
    found_nothing: bool,
    generation: u64,
}

impl PromoteFloor {
    fn behind(&self, rung: Option<usize>) -> Timestamp {
        let back = rung.map_or(Some(RECENT), |rung| RUNGS[rung].1);
        match (self.moved_until, back) {
            (Some(until), Some(back)) => until.before(back),
            _ => Timestamp::from_micros(i64::MIN),
        }
    }

    fn follow(&mut self, generation: u64) {
        if std::mem::replace(&mut self.generation, generation) != generation {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.moved_until = None;
        self.rungs.forget();
        self.questions.forget();
    }

    /// The moment to scan behind, and the catch-up that this is. Another generation is another server.
    pub(crate) fn floor(&mut self, now: Duration, generation: u64) -> (Option<usize>, Timestamp) {
        self.follow(generation);
        let rung = self.rungs.due(now, self.found_nothing);
        (rung, self.behind(rung))
    }

    /// The same for a claim that asks when the next message is due.
    pub(crate) fn question(&mut self, now: Duration, generation: u64) -> (Option<usize>, Timestamp) {
        self.follow(generation);
        let rung = self.questions.due(now, true);
        (rung, self.behind(rung))
    }

    /// A claim has asked. A message that is due, and was found only by a catch-up, is moved by a promotion that begins as far back.
    pub(crate) fn asked(&mut self, now: Duration, spent: Duration, rung: Option<usize>, is_due: bool) {
        self.questions.answered(rung, now, spent, false);
        if is_due && rung.is_some() {
            self.rungs.not_reached(rung, now);
        }
    }

    /// A claim did not ask, because it took something.
    pub(crate) fn not_asked(&mut self, now: Duration, rung: Option<usize>) {
        self.questions.not_reached(rung, now);
    }

    /// A promotion was answered at `server_now`; everything due until `until` was moved.
    pub(crate) fn moved(&mut self, now: Duration, spent: Duration, rung: Option<usize>, moved: Moved) {
        self.rungs.answered(rung, now, spent, moved.count > 0);
        self.found_nothing = moved.count == 0;
        if self.moved_until.is_some_and(|until| until.since(moved.server_now) > CLOCK_BACK) {
            tracing::warn!("the database's clock was set back; promotions scan everything again");
            self.forget();
        }
        if let Some(until) = moved.until {
            self.moved_until = Some(until);
        }
    }

    /// A promotion took so long that it was given up.
    pub(crate) fn gave_up(&mut self, now: Duration, spent: Duration, rung: Option<usize>) {
        if let Some(rung) = rung {
            self.rungs.gave_up(rung, now, spent);
        }
    }
}

/// What a promotion did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub(crate) count: u64,
    /// The database's clock.
    pub(crate) server_now: Timestamp,
    /// Everything due until then was moved.
    pub(crate) until: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catch_up::WHOLE;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    const fn moved(server_now: Timestamp) -> Moved {
        Moved { count: 1, server_now, until: Some(server_now) }
    }

    #[test]
    fn promotions_begin_behind_what_they_moved() {
        let mut floor = PromoteFloor::default();
        let start = Timestamp::from_micros(i64::MIN);
        assert_eq!(floor.floor(ms(60_000), 0), (Some(WHOLE), start));
        floor.moved(ms(60_000), ms(1), Some(WHOLE), moved(at(10)));
        assert_eq!(floor.floor(ms(60_001), 0), (None, at(10).before(RECENT)));
        assert_eq!(floor.floor(ms(60_300), 0), (Some(0), at(8)));
        floor.moved(ms(60_300), ms(1), Some(0), Moved { count: 0, ..moved(at(11)) });
        assert_eq!(floor.floor(ms(61_100), 0), (Some(WHOLE), start), "nothing was found");
        assert_eq!(floor.floor(ms(61_101), 1), (Some(WHOLE), start), "another server");
    }

    #[test]
    fn promotions_forget_what_a_clock_that_was_set_back_contradicts() {
        let mut floor = PromoteFloor::default();
        floor.floor(ms(60_000), 0);
        floor.moved(ms(60_000), ms(1), Some(WHOLE), moved(at(5_000)));
        floor.moved(ms(60_001), ms(1), None, moved(at(1_000)));
        assert_eq!(floor.moved_until, Some(at(1_000)));
        assert_eq!(floor.floor(ms(60_002), 0), (Some(WHOLE), Timestamp::from_micros(i64::MIN)));
    }

    #[test]
    fn a_promotion_begins_where_a_claim_saw_something_due() {
        let mut floor = PromoteFloor::default();
        floor.floor(ms(60_000), 0);
        floor.moved(ms(60_000), ms(1), Some(WHOLE), moved(at(10)));
        let (rung, _) = floor.question(ms(60_010), 0);
        assert_eq!(rung, Some(WHOLE));
        floor.asked(ms(60_011), ms(1), rung, true);
        assert_eq!(floor.floor(ms(60_012), 0), (Some(WHOLE), Timestamp::from_micros(i64::MIN)));
    }
}
