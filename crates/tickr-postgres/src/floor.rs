//! Where scans of ready messages begin.
//!
//! While some transaction holds an old snapshot, vacuum cannot remove what was claimed, and index entries of dead rows pile up
//! exactly where the next claim scans. So ordinary scans begin behind what was taken a moment ago. What commits late, with a place
//! before that, is found by catch-up scans, which begin further back.
//!
//! A scan start is a memory of the database, and the database may become an older or another one: by a failover, a restore, a sequence
//! that was set back, a clock that was. Five things lead back:
//!
//! - Rows that are found before a mark lower it, so that the next scans go on from there ([`Track::answered`]).
//! - A lane that was found empty is scanned from its beginning once a second ([`Rungs::due`]).
//! - Messages that are newer than the mark's and have lower places prove that the counter went back; a clock that is behind the mark
//!   proves the same of promotions. All marks are dropped then, and an event reports it.
//! - Heartbeats read the last place that the sequence gave out. One below what was taken proves that the sequence went back, also where a
//!   lane is never empty and scans go on behind all new messages ([`Ladder::heard`]).
//! - A connection to another server than before drops all marks.
//!
//! Catch-up scans that are slow, because dead entries are in the way, become rarer: see [`crate::catch_up`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tickr_core::{ClockOffset, EventType, Timestamp};

use crate::catch_up::{RECENT, RUNGS, Rungs, Timer};

/// How many places back an ordinary scan begins at most, so that fewer dead entries than that are in the way of each.
const RECENT_PLACES: i64 = 10_000;
/// The same for scans that begin before a mark because rows were found there, and find nothing more: one tenth of the time.
const LOWERED_SHARE: u32 = 10;
/// How finely it is remembered what was taken when.
const GRAIN: Duration = Duration::from_millis(100);
/// Statements that run at the same time read the clock and the counter in different orders. Messages whose order differs by more
/// than this prove that the counter went back.
const INVERSION_MAX: Duration = Duration::from_millis(50);
/// What was taken from one lane, and when.
#[derive(Debug, Default)]
struct Track {
    rungs: Rungs,
    /// Oldest first, with rising places; the oldest one is older than every rung.
    marks: VecDeque<Mark>,
    /// The last scan of the lane found nothing.
    is_empty: bool,
    lowered: Option<Lowered>,
    /// The newest message that was taken at its first attempt.
    newest: Option<Fresh>,
}

/// The highest place that was taken up to a time.
#[derive(Clone, Copy, Debug)]
struct Mark {
    since: Duration,
    until: Duration,
    seq: i64,
}

/// The mark that was given up because rows were found before it: either they committed late, and the mark was right, or the counter
/// went back. Scans begin at the lower place either way. If dead entries make that slow and nothing is found, only some scans do.
#[derive(Clone, Copy, Debug)]
struct Lowered {
    from: i64,
    due: Duration,
}

/// A message at its first attempt that was due when it was enqueued: its place was given out when it was created.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fresh {
    pub(crate) seq: i64,
    pub(crate) created_at: Timestamp,
}

/// How a scan begins in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// A moment back.
    Ordinary,
    /// A moment back from a mark that was lowered.
    Lowered,
    CatchUp(usize),
}

impl Start {
    const fn rung(self) -> Option<usize> {
        match self {
            Self::CatchUp(rung) => Some(rung),
            Self::Ordinary | Self::Lowered => None,
        }
    }
}

/// What a scan found in a lane that it came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    /// The last place that was taken.
    pub(crate) last: Option<i64>,
    /// The newest message of those that were taken at their first attempt.
    pub(crate) newest: Option<Fresh>,
}

impl Track {
    fn highest(&self) -> i64 {
        self.marks.back().map_or(0, |mark| mark.seq)
    }

    /// The highest place that was taken so long ago.
    fn before(&self, moment: Duration) -> i64 {
        self.marks.iter().rev().find(|mark| mark.until <= moment).map_or(0, |mark| mark.seq)
    }

    /// How the next scan begins, and behind which place.
    fn start(&mut self, now: Duration) -> (Start, i64) {
        let ordinary = self.before(now.saturating_sub(RECENT)).max(self.highest() - RECENT_PLACES);
        match (self.rungs.due(now, self.is_empty), self.lowered) {
            (Some(rung), _) => {
                let place = RUNGS[rung].1.and_then(|back| now.checked_sub(back)).map_or(0, |moment| self.before(moment));
                (Start::CatchUp(rung), place)
            }
            (None, Some(lowered)) if lowered.due <= now => (Start::Lowered, ordinary),
            (None, Some(lowered)) => (Start::Ordinary, lowered.from),
            (None, None) => (Start::Ordinary, ordinary),
        }
    }

    /// A scan came to the lane. `took`: whether it took anything from any lane.
    fn answered(&mut self, start: Start, now: Duration, spent: Duration, took: bool, found: Found) {
        let cost = self.rungs.more_than_ordinary(spent);
        match start {
            Start::Lowered => {}
            Start::Ordinary | Start::CatchUp(_) => self.rungs.answered(start.rung(), now, spent, took),
        }
        self.is_empty = found.last.is_none();
        match (found.last, &mut self.lowered) {
            (Some(last), _) => self.taken(now, last),
            (None, Some(lowered)) if start == Start::Lowered => lowered.due = now + cost * LOWERED_SHARE,
            (None, _) => {}
        }
    }

    fn taken(&mut self, now: Duration, last: i64) {
        let highest = self.highest();
        if last < highest {
            let from = self.lowered.map_or(highest, |lowered| lowered.from.max(highest));
            self.lowered = Some(Lowered { from, due: now });
            while self.highest() > last {
                self.marks.pop_back();
            }
        }
        self.lowered = self.lowered.filter(|lowered| last < lowered.from);
        match self.marks.back_mut() {
            // The newer time counts for all of it: a start is never younger than what it stands for.
            Some(mark) if now.saturating_sub(mark.since) < GRAIN => (mark.until, mark.seq) = (now, last),
            _ => self.marks.push_back(Mark { since: now, until: now, seq: last }),
        }
        let oldest = now.saturating_sub(Duration::from_secs(61));
        while self.marks.len() > 1 && self.marks[1].until < oldest {
            self.marks.pop_front();
        }
    }

    /// Whether a message proves that the counter of places went back: it is newer than one that has its place or a higher one.
    fn is_contradicted(&self, found: Fresh) -> bool {
        self.newest.is_some_and(|newest| found.seq <= newest.seq && found.created_at.since(newest.created_at) > INVERSION_MAX)
    }

    fn forget(&mut self) {
        self.marks.clear();
        self.rungs.forget();
        (self.is_empty, self.lowered, self.newest) = (false, None, None);
    }
}

/// A poisoned lock is taken all the same: what it guards is only where scans begin.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The scan starts of all lanes that one handle claims from.
#[derive(Debug, Default)]
struct Floors {
    tracks: HashMap<(EventType, i16), Track>,
    /// The server that they are of.
    generation: u64,
    /// The last place that the sequence had given out at the last heartbeat.
    given_out: Option<i64>,
}

impl Floors {
    fn forget(&mut self) {
        self.tracks.values_mut().for_each(Track::forget);
    }
}

/// Where the claims of a handle begin.
#[derive(Debug)]
pub(crate) struct Ladder {
    pub(crate) timer: Timer,
    floors: Mutex<Floors>,
}

impl Ladder {
    pub(crate) fn new(offset: ClockOffset) -> Self {
        Self { timer: Timer::new(offset), floors: Mutex::default() }
    }

    fn floors(&self) -> MutexGuard<'_, Floors> {
        lock(&self.floors)
    }

    /// The highest place that was taken from any lane, as far as scans go by it.
    pub(crate) fn highest(&self) -> i64 {
        self.floors().tracks.values().map(Track::highest).max().unwrap_or(0)
    }

    /// A heartbeat read that the sequence has given out places up to `last`, after places up to `highest` had been taken.
    ///
    /// A lower `last` means that new messages come behind the scans. The first time all marks are dropped. From then on the lanes are
    /// scanned as a whole after each heartbeat, until the sequence has passed what was taken: messages with high places may be left,
    /// and taking them leads the scans away again. Scans that are slow keep their pause.
    pub(crate) fn heard(&self, highest: i64, last: i64) {
        let mut floors = self.floors();
        let before = floors.given_out.replace(last);
        if last >= highest {
            return;
        }
        if before.is_some_and(|before| before <= last) {
            floors.tracks.values_mut().for_each(|track| track.rungs.hurry());
            return;
        }
        floors.forget();
        tracing::warn!(
            last,
            highest,
            "the sequence of places went back: it was set or restarted, or the database is an older copy or another one (failover, \
             restore); claims scan everything again"
        );
    }

    /// Begins a scan of lanes; gives the place in each behind which it begins. Another generation is another server.
    pub(crate) fn scan<'r>(&self, generation: u64, lanes: impl Iterator<Item = (&'r EventType, i16)>) -> (Scan<'_>, Vec<i64>) {
        let now = self.timer.now();
        let mut floors = self.floors();
        if std::mem::replace(&mut floors.generation, generation) != generation {
            floors.forget();
        }
        let start = |(event_type, lane): (&'r EventType, i16)| {
            let track = floors.tracks.entry((event_type.clone(), lane)).or_default();
            let (start, place) = track.start(now);
            ((event_type.clone(), lane, start), place)
        };
        let (lanes, places) = lanes.map(start).unzip();
        (Scan { ladder: self, began: now, lanes, is_over: false }, places)
    }
}

/// A scan under way. Dropped without an answer it was given up, because it took too long.
#[derive(Debug)]
pub(crate) struct Scan<'l> {
    ladder: &'l Ladder,
    began: Duration,
    lanes: Vec<(EventType, i16, Start)>,
    is_over: bool,
}

impl Scan<'_> {
    /// The statement is sent now: what came before costs nothing.
    pub(crate) fn begin(&mut self) {
        self.began = self.ladder.timer.now();
    }

    /// The scan is over: what it found in each lane, `None` where it did not come to.
    pub(crate) fn answered(mut self, found: &[Option<Found>]) {
        self.is_over = true;
        let now = self.ladder.timer.now();
        let (spent, took) = (now.saturating_sub(self.began), found.iter().flatten().any(|found| found.last.is_some()));
        let mut floors = self.ladder.floors();
        let mut contradicted = false;
        for ((event_type, lane, start), found) in std::mem::take(&mut self.lanes).into_iter().zip(found) {
            let Some(track) = floors.tracks.get_mut(&(event_type, lane)) else { continue };
            let Some(found) = *found else {
                track.rungs.not_reached(start.rung(), now);
                continue;
            };
            track.answered(start, now, spent, took, found);
            if let Some(newest) = found.newest {
                contradicted |= track.is_contradicted(newest);
                if track.newest.is_none_or(|known| known.created_at < newest.created_at) {
                    track.newest = Some(newest);
                }
            }
        }
        if contradicted {
            floors.forget();
            tracing::warn!(
                "new messages have lower places than older ones: the database is an older copy or another one (failover, restore), or its \
                 sequence was set back; claims scan everything again"
            );
        }
    }

    /// The server refused the statement, or could not be reached: nothing was scanned.
    pub(crate) fn refused(mut self) {
        self.is_over = true;
        let now = self.ladder.timer.now();
        let mut floors = self.ladder.floors();
        for (event_type, lane, start) in std::mem::take(&mut self.lanes) {
            if let Some(track) = floors.tracks.get_mut(&(event_type, lane)) {
                track.rungs.not_reached(start.rung(), now);
            }
        }
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let now = self.ladder.timer.now();
        let mut floors = self.ladder.floors();
        for (event_type, lane, start) in std::mem::take(&mut self.lanes) {
            if let (Some(track), Some(rung)) = (floors.tracks.get_mut(&(event_type, lane)), start.rung()) {
                track.rungs.gave_up(rung, now, now.saturating_sub(self.began));
            }
        }
    }
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

    const fn catch_up(rung: usize, place: i64) -> (Start, i64) {
        (Start::CatchUp(rung), place)
    }

    /// A scan that found nothing and took a millisecond.
    fn in_vain(track: &mut Track, now: Duration) -> i64 {
        let (start, place) = track.start(now);
        track.answered(start, now, ms(1), false, Found::default());
        place
    }

    #[test]
    fn an_ordinary_scan_begins_behind_what_was_taken_a_moment_ago() {
        let mut track = Track::default();
        assert_eq!(track.start(ms(60_000)), catch_up(WHOLE, 0), "the first scan begins at the beginning");
        track.rungs.answered(Some(WHOLE), ms(60_000), ms(1), true);
        track.taken(ms(60_000), 500);
        assert_eq!(track.start(ms(60_050)), (Start::Ordinary, 0));
        track.taken(ms(60_050), 900);
        assert_eq!(track.start(ms(60_110)), (Start::Ordinary, 0), "what was taken together counts from its end");
        track.taken(ms(60_120), 1_000);
        assert_eq!(track.start(ms(60_160)), (Start::Ordinary, 900));
        assert_eq!(track.start(ms(60_230)), (Start::Ordinary, 1_000));
    }

    #[test]
    fn never_more_than_so_many_places_back() {
        let mut track = Track::default();
        track.rungs.due = [ms(90_000); 3];
        track.taken(ms(60_000), 50_000);
        assert_eq!(track.start(ms(60_010)), (Start::Ordinary, 40_000));
    }

    #[test]
    fn catch_ups_begin_further_and_further_back() {
        let mut track = Track::default();
        for second in 0..70 {
            track.taken(ms(100_000 + second * 1_000), i64::try_from(second).unwrap() * 10_000 + 1);
        }
        let now = ms(100_000 + 69_000);
        track.rungs.due = [now, now + ms(1), now + ms(1)];
        assert_eq!(track.start(now), catch_up(0, 670_001));
        track.rungs.due = [now, now, now + ms(1)];
        assert_eq!(track.start(now), catch_up(1, 90_001));
        track.rungs = Rungs::default();
        assert_eq!(track.start(now), catch_up(WHOLE, 0));
        track.rungs.answered(Some(WHOLE), now, ms(1), true);
        assert_eq!(track.rungs.due, [now + ms(250), now + ms(5_000), now + ms(60_000)], "the deepest scan does what all would do");
    }

    #[test]
    fn constant_claims_age() {
        let mut track = Track::default();
        track.rungs.due = [ms(90_000); 3];
        for step in 0..100 {
            track.taken(ms(60_000 + step * 10), 1 + i64::try_from(step).unwrap());
        }
        let (_, floor) = track.start(ms(60_200));
        assert!((5..=100).contains(&floor), "{floor}");
        let (_, floor) = track.start(ms(60_995));
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
    fn an_empty_lane_is_scanned_as_a_whole_every_second() {
        let mut track = Track::default();
        track.taken(ms(50_000), 20_000);
        in_vain(&mut track, ms(60_000));
        assert_eq!(in_vain(&mut track, ms(60_500)), 20_000);
        assert_eq!(in_vain(&mut track, ms(61_001)), 0);
        assert_eq!(in_vain(&mut track, ms(61_600)), 20_000);
        assert_eq!(in_vain(&mut track, ms(62_002)), 0);
    }

    /// The counter went back: what follows the first find is found at once.
    #[test]
    fn scans_go_on_from_what_was_found_before_the_mark() {
        let mut track = Track::default();
        track.taken(ms(50_000), 20_000);
        track.rungs.due = [ms(90_000); 3];
        track.answered(Start::CatchUp(WHOLE), ms(60_000), ms(5), true, Found { last: Some(5_032), newest: None });
        track.rungs.due = [ms(90_000); 3];
        assert_eq!(track.start(ms(60_001)), (Start::Lowered, 0));
        track.answered(Start::Lowered, ms(60_002), ms(5), true, Found { last: Some(5_064), newest: None });
        assert_eq!(track.start(ms(60_300)), (Start::Lowered, 5_064));
        track.answered(Start::Lowered, ms(60_300), ms(1), false, Found::default());
        assert_eq!(track.start(ms(60_301)), (Start::Lowered, 5_064));
    }

    /// The mark was right, and dead entries are before it: it is gone by again, but for a tenth of the time.
    #[test]
    fn a_lowered_mark_that_is_slow_and_finds_nothing_is_used_less_often() {
        let mut track = Track::default();
        track.rungs.answered(None, ms(50_000), ms(1), false);
        track.taken(ms(50_000), 20_000);
        track.taken(ms(60_000), 5_000);
        (track.rungs.due, track.rungs.whole_if_empty) = ([ms(90_000); 3], ms(90_000));
        assert_eq!(track.start(ms(60_200)), (Start::Lowered, 5_000));
        track.answered(Start::Lowered, ms(60_200), ms(101), false, Found::default());
        assert_eq!(track.start(ms(60_201)), (Start::Ordinary, 20_000));
        assert_eq!(track.start(ms(61_200)), (Start::Lowered, 5_000));
        track.taken(ms(61_300), 20_001);
        assert_eq!(track.start(ms(61_500)), (Start::Ordinary, 20_001));
    }

    #[test]
    fn a_newer_message_with_a_lower_place_proves_that_the_counter_went_back() {
        let mut track = Track { newest: Some(Fresh { seq: 20_000, created_at: at(100) }), ..Track::default() };
        assert!(track.is_contradicted(Fresh { seq: 5_000, created_at: at(101) }));
        assert!(track.is_contradicted(Fresh { seq: 20_000, created_at: at(101) }), "a place is given out once");
        assert!(!track.is_contradicted(Fresh { seq: 5_000, created_at: at(99) }), "it committed late");
        assert!(!track.is_contradicted(Fresh { seq: 20_001, created_at: at(101) }));
        assert!(!track.is_contradicted(Fresh { seq: 19_999, created_at: at(100).after(ms(10)) }), "they ran at the same time");
        track.forget();
        assert!(!track.is_contradicted(Fresh { seq: 5_000, created_at: at(101) }));
    }

    /// Where the next scan of the lane begins; it takes everything up to a place.
    fn takes_up_to(ladder: &Ladder, last: i64) -> i64 {
        let (scan, places) = ladder.scan(0, std::iter::once((&EventType::new("order").unwrap(), 2)));
        scan.answered(&[Some(Found { last: Some(last), newest: None })]);
        places[0]
    }

    #[test]
    fn a_sequence_that_gave_out_less_than_was_taken_has_all_scanned() {
        let ladder = Ladder::new(ClockOffset::default());
        takes_up_to(&ladder, 50_000);
        ladder.heard(ladder.highest(), 50_000);
        assert_eq!(takes_up_to(&ladder, 50_032), 40_000);
        ladder.heard(ladder.highest(), 70);
        assert_eq!((ladder.highest(), takes_up_to(&ladder, 60)), (0, 0));
    }

    #[test]
    fn places_that_are_taken_while_the_sequence_is_read_prove_nothing() {
        let ladder = Ladder::new(ClockOffset::default());
        takes_up_to(&ladder, 50_000);
        let highest = ladder.highest();
        takes_up_to(&ladder, 50_032);
        ladder.heard(highest, 50_000);
        assert_eq!(takes_up_to(&ladder, 50_064), 40_032);
    }

    /// Old messages with high places are left: what is enqueued meanwhile comes behind every scan that took some of them.
    #[test]
    fn until_the_sequence_has_passed_what_was_taken_every_heartbeat_has_all_scanned() {
        let (ladder, moment) = (Ladder::new(ClockOffset::default()), ms(3_600_000));
        takes_up_to(&ladder, 50_000);
        ladder.heard(50_000, 70);
        takes_up_to(&ladder, 50_032);
        assert_eq!(takes_up_to(&ladder, 50_064), 40_032);
        ladder.floors().tracks.values_mut().for_each(|track| track.rungs.whole_if_empty = Duration::ZERO);
        ladder.heard(50_064, 80);
        assert_eq!(takes_up_to(&ladder, 50_096), 0);
        ladder.floors().tracks.values_mut().for_each(|track| track.rungs.whole_if_empty = moment);
        ladder.heard(50_096, 90);
        assert_eq!(takes_up_to(&ladder, 50_128), 40_096, "not while a scan of everything takes long");
        ladder.heard(50_128, 50_128);
        assert_eq!(takes_up_to(&ladder, 50_160), 40_128);
    }

    /// Its marks are gone, and so are the pauses between catch-ups: what commits late at the other server is found as soon as here.
    #[test]
    fn catch_ups_are_due_at_another_server() {
        let mut track = Track::default();
        track.rungs.gave_up(WHOLE, ms(60_000), ms(10_000));
        track.forget();
        assert_eq!(track.start(ms(60_001)), catch_up(WHOLE, 0));
    }

    /// Nobody waits for its answer any more: dead entries are in its way, and it is not repeated soon.
    #[test]
    fn a_catch_up_that_was_given_up_is_put_off() {
        let ladder = Ladder::new(ClockOffset::default());
        let lane = (EventType::new("order").unwrap(), 2);
        let (mut scan, _) = ladder.scan(0, std::iter::once((&lane.0, lane.1)));
        scan.begin();
        drop(scan);
        let floors = ladder.floors();
        let due = floors.tracks[&lane].rungs.due[WHOLE];
        assert!(due >= RUNGS[WHOLE].0, "{due:?}");
    }

    #[test]
    fn another_server_is_scanned_from_the_beginning() {
        let ladder = Ladder::new(ClockOffset::default());
        let event_type = EventType::new("order").unwrap();
        let places = |generation| {
            let (scan, places) = ladder.scan(generation, std::iter::once((&event_type, 2)));
            scan.answered(&[Some(Found { last: Some(50_000), newest: None })]);
            places[0]
        };
        assert_eq!((places(0), places(0), places(1), places(1)), (0, 40_000, 0, 40_000));
    }
}
