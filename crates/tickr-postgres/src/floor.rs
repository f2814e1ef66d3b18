//! Where claims and promotions begin to look.
//!
//! While some transaction holds an old snapshot, vacuum cannot remove what was claimed, and index entries of dead rows pile up
//! exactly where the next claim looks. So ordinary looks begin behind what was taken a moment ago. What commits late, with a place
//! before that, is found by looks that begin further back: the ladder. It sets the beginning of looks that are due anyway.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use tickr_core::protocol::Lane;
use tickr_core::{ClockOffset, EventType, Timestamp};

use crate::door;

/// How far back an ordinary look begins.
const RECENT: Duration = Duration::from_millis(100);
/// How many places back an ordinary look begins at most, so that fewer dead entries than that are in the way of each.
const RECENT_PLACES: i64 = 10_000;
/// How often a look begins how far back; at last at the beginning.
const RUNGS: [(Duration, Option<Duration>); 3] = [
    (Duration::from_millis(250), Some(Duration::from_secs(2))),
    (Duration::from_secs(5), Some(Duration::from_secs(60))),
    (Duration::from_secs(60), None),
];
/// A look that takes longer than ordinary ones is repeated more rarely: at most one hundredth of the time is spent on it.
const SHARE: u32 = 100;
/// Over how many ordinary looks their time is averaged.
const AVERAGE: u32 = 8;
/// How finely it is remembered what was taken when.
const GRAIN: Duration = Duration::from_millis(100);

/// The time of the ladder: monotonic, moved with the clock of tests.
#[derive(Debug)]
pub(crate) struct Timer {
    origin: Instant,
    offset: ClockOffset,
}

impl Timer {
    pub(crate) fn new(offset: ClockOffset) -> Self {
        Self { origin: door::now(), offset }
    }

    pub(crate) fn now(&self) -> Duration {
        let moved = Duration::from_micros(self.offset.as_micros().max(0).unsigned_abs());
        door::now().duration_since(self.origin) + moved
    }
}

/// Which rung is due when.
#[derive(Debug, Default)]
struct Rungs {
    due: [Duration; RUNGS.len()],
    /// How long an ordinary look takes.
    ordinary: Duration,
}

impl Rungs {
    /// The deepest rung that is due; `None` for an ordinary look.
    fn take(&mut self, now: Duration) -> Option<usize> {
        let rung = (0..RUNGS.len()).rev().find(|rung| self.due[*rung] <= now)?;
        // A deeper look does what the others would do.
        for (due, (every, _)) in self.due.iter_mut().zip(RUNGS).take(rung + 1) {
            *due = now + every;
        }
        Some(rung)
    }

    /// A look is over. What it took longer than an ordinary one, which it was too, is what the rung costs.
    fn took(&mut self, rung: Option<usize>, now: Duration, spent: Duration) {
        match rung {
            Some(rung) => self.due[rung] = self.due[rung].max(now + spent.saturating_sub(self.ordinary) * SHARE),
            None => self.ordinary = (self.ordinary * (AVERAGE - 1) + spent) / AVERAGE,
        }
    }
}

/// What was taken from one lane, and when.
#[derive(Debug, Default)]
struct Track {
    rungs: Rungs,
    /// Oldest first; the oldest one is older than every rung.
    marks: VecDeque<Mark>,
}

/// The highest place that was taken up to a time.
#[derive(Clone, Copy, Debug)]
struct Mark {
    since: Duration,
    until: Duration,
    seq: i64,
}

impl Track {
    fn highest(&self) -> i64 {
        self.marks.back().map_or(0, |mark| mark.seq)
    }

    /// The highest place that was taken so long ago.
    fn before(&self, moment: Duration) -> i64 {
        self.marks.iter().rev().find(|mark| mark.until <= moment).map_or(0, |mark| mark.seq)
    }

    fn floor(&mut self, now: Duration) -> (Option<usize>, i64) {
        let rung = self.rungs.take(now);
        let floor = match rung.map(|rung| RUNGS[rung].1) {
            None => self.before(now.saturating_sub(RECENT)).max(self.highest() - RECENT_PLACES),
            Some(Some(back)) => now.checked_sub(back).map_or(0, |moment| self.before(moment)),
            Some(None) => 0,
        };
        (rung, floor)
    }

    fn taken(&mut self, now: Duration, seq: i64) {
        let seq = seq.max(self.highest());
        match self.marks.back_mut() {
            // The newer time counts for all of it: a floor is never younger than what it stands for.
            Some(mark) if now.saturating_sub(mark.since) < GRAIN => (mark.until, mark.seq) = (now, seq),
            _ => self.marks.push_back(Mark { since: now, until: now, seq }),
        }
        let oldest = now.saturating_sub(Duration::from_secs(61));
        while self.marks.len() > 1 && self.marks[1].until < oldest {
            self.marks.pop_front();
        }
    }
}

/// The floors of all lanes that one handle claims from.
#[derive(Debug, Default)]
pub(crate) struct Floors(HashMap<(EventType, i16), Track>);

/// The floors of one claim, and which rungs they are.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    rungs: Vec<(EventType, i16, Option<usize>)>,
}

impl Floors {
    /// Where to begin in a lane.
    pub(crate) fn floor(&mut self, now: Duration, event_type: &EventType, lane: Lane, looked: &mut Looked) -> i64 {
        let lane = lane.as_i16();
        let track = self.0.entry((event_type.clone(), lane)).or_default();
        let (rung, floor) = track.floor(now);
        looked.rungs.push((event_type.clone(), lane, rung));
        floor
    }

    /// A look is over: how far it took each lane, and how long it was.
    pub(crate) fn taken<'a>(
        &mut self,
        now: Duration,
        spent: Duration,
        looked: Looked,
        reached: impl Iterator<Item = (&'a EventType, i16, i64)>,
    ) {
        for (event_type, lane, rung) in looked.rungs {
            if let Some(track) = self.0.get_mut(&(event_type, lane)) {
                track.rungs.took(rung, now, spent);
            }
        }
        for (event_type, lane, seq) in reached {
            self.0.entry((event_type.clone(), lane)).or_default().taken(now, seq);
        }
    }
}

/// The floor of promotions: everything that was due before it was moved, but for what commits late.
#[derive(Debug, Default)]
pub(crate) struct PromoteFloor {
    rungs: Rungs,
    moved_until: Option<Timestamp>,
}

impl PromoteFloor {
    /// The moment to look behind, and the rung.
    pub(crate) fn floor(&mut self, now: Duration) -> (Option<usize>, Timestamp) {
        let rung = self.rungs.take(now);
        let back = rung.map_or(Some(RECENT), |rung| RUNGS[rung].1);
        let floor = match (self.moved_until, back) {
            (Some(until), Some(back)) => until.before(back),
            _ => Timestamp::from_micros(i64::MIN),
        };
        (rung, floor)
    }

    /// The moment behind which what is not moved yet is most likely to be: good for a look that promises nothing.
    pub(crate) fn recent(&self) -> Timestamp {
        self.moved_until.map_or(Timestamp::from_micros(i64::MIN), |until| until.before(RECENT))
    }

    pub(crate) fn moved(&mut self, now: Duration, spent: Duration, rung: Option<usize>, until: Timestamp) {
        self.rungs.took(rung, now, spent);
        // A look from further back that met its limit early does not undo what is known.
        self.moved_until = self.moved_until.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_ordinary_look_begins_behind_what_was_taken_a_moment_ago() {
        let mut track = Track::default();
        assert_eq!(track.floor(ms(60_000)), (Some(2), 0), "the first look begins at the beginning");
        track.taken(ms(60_000), 500);
        assert_eq!(track.floor(ms(60_050)), (None, 0));
        track.taken(ms(60_050), 900);
        assert_eq!(track.floor(ms(60_110)), (None, 0), "what was taken together counts from its end");
        track.taken(ms(60_120), 1_000);
        assert_eq!(track.floor(ms(60_160)), (None, 900));
        assert_eq!(track.floor(ms(60_230)), (None, 1_000));
    }

    #[test]
    fn never_more_than_so_many_places_back() {
        let mut track = Track::default();
        track.floor(ms(60_000));
        track.taken(ms(60_000), 50_000);
        assert_eq!(track.floor(ms(60_010)), (None, 40_000));
    }

    #[test]
    fn the_ladder_reaches_further_and_further_back() {
        let mut track = Track::default();
        track.floor(ms(100_000));
        for second in 0..70 {
            track.taken(ms(100_000 + second * 1_000), i64::try_from(second).unwrap() * 10_000 + 1);
        }
        let now = ms(100_000 + 69_000);
        track.rungs.due = [now, now + ms(1), now + ms(1)];
        assert_eq!(track.floor(now), (Some(0), 670_001));
        track.rungs.due = [now, now, now + ms(1)];
        assert_eq!(track.floor(now), (Some(1), 90_001));
        track.rungs = Rungs::default();
        assert_eq!(track.floor(now), (Some(2), 0));
        assert_eq!(track.rungs.due, [now + ms(250), now + ms(5_000), now + ms(60_000)], "the deepest look does what all would do");
    }

    #[test]
    fn constant_claims_age() {
        let mut track = Track::default();
        track.floor(ms(60_000));
        for step in 0..100 {
            track.taken(ms(60_000 + step * 10), 1 + i64::try_from(step).unwrap());
        }
        track.rungs.due = [ms(90_000); 3];
        let (_, floor) = track.floor(ms(60_200));
        assert!((5..=100).contains(&floor), "{floor}");
        let (_, floor) = track.floor(ms(60_995));
        assert!((70..=91).contains(&floor), "{floor}");
        assert!(track.marks.len() < 40, "{}", track.marks.len());
    }

    #[test]
    fn marks_do_not_pile_up() {
        let mut track = Track::default();
        for step in 0..30_000 {
            track.taken(ms(step * 10), i64::try_from(step).unwrap());
        }
        assert!(track.marks.len() < 1_500, "{}", track.marks.len());
    }

    #[test]
    fn a_long_look_is_rare() {
        let mut rungs = Rungs::default();
        assert_eq!(rungs.take(ms(60_000)), Some(2));
        rungs.took(Some(2), ms(62_000), ms(2_000));
        assert_eq!(rungs.due[2], ms(262_000));
        rungs.took(Some(0), ms(62_000), ms(20));
        assert_eq!(rungs.due[0], ms(64_000));
        // It is not called long for what an ordinary look takes too.
        for _ in 0..50 {
            rungs.took(None, ms(64_000), ms(20));
        }
        assert_eq!(rungs.take(ms(64_000)), Some(0));
        rungs.took(Some(0), ms(64_000), ms(21));
        assert_eq!(rungs.due[0], ms(64_250));
    }

    #[test]
    fn promotions_look_behind_what_they_moved() {
        let mut floor = PromoteFloor::default();
        assert_eq!(floor.floor(ms(60_000)), (Some(2), Timestamp::from_micros(i64::MIN)));
        floor.moved(ms(60_000), ms(1), Some(2), Timestamp::from_micros(10_000_000));
        assert_eq!(floor.floor(ms(60_001)), (None, Timestamp::from_micros(9_900_000)));
        assert_eq!(floor.floor(ms(60_300)), (Some(0), Timestamp::from_micros(8_000_000)));
    }
}
