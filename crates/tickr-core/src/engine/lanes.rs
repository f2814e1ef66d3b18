//! Which lanes a claim looks into, in which order, how far.

use super::state::{State, TypeState};
use crate::handler::Entry;
use crate::protocol::Lane;
use crate::storage::LaneRequest;
use crate::worker::WorkerConfig;

/// One claim in this many does not start with high priority, so that no priority is starved: it starts with low or normal, alternately.
/// With the low end alone, a normal message would never be claimed while the lanes of high and low priority are full.
const ELSEWHERE_EVERY: u64 = 10;
const FROM_THE_LOW_END: [Lane; 4] = [Lane::Returned, Lane::Low, Lane::Normal, Lane::High];
/// Low comes second: where there is nothing of normal priority, these turns are its own as well.
const FROM_THE_MIDDLE: [Lane; 4] = [Lane::Returned, Lane::Normal, Lane::Low, Lane::High];

/// How many types one claim scans. A worker with more of them sends several claims, one after the other, before it knows that there
/// is nothing: what a claim costs a database grows with the lanes that it names, and most of the time a few types have work.
const TYPES_MAX: usize = 100;

/// The types of one claim.
#[derive(Debug)]
pub(super) struct Choice {
    types: Vec<usize>,
    /// How many could have been chosen.
    pub(super) of: usize,
    /// Where the next choice begins.
    pub(super) next: usize,
}

impl Choice {
    pub(super) fn len(&self) -> usize {
        self.types.len()
    }
}

/// What may be claimed now.
#[derive(Debug)]
pub(super) struct Capacity {
    /// Per type: how many messages.
    limits: Vec<u32>,
    /// Over all types.
    pub(super) total: u32,
    /// Messages that wait here already; a claim is due when they fall to this.
    pub(super) low_water: u32,
}

/// How many outcomes may wait to be recorded before nothing more is claimed.
fn unsettled_max(prefetch_all: u32, config: &WorkerConfig) -> u32 {
    (config.pool + prefetch_all).max(config.batch).saturating_mul(4)
}

impl Capacity {
    /// Compares what waits and runs with the pool, the caps and the prefetch.
    pub(super) fn of(state: &State, config: &WorkerConfig) -> Self {
        let queued = state.queued();
        let free = config.pool.saturating_sub(state.runners() + queued);
        let prefetch: Vec<u32> = state.types.iter().map(|kind| ahead(kind, config)).collect();
        let prefetch_all = prefetch.iter().copied().max().unwrap_or(0);
        // Only where a fast type fills the queue; else what cannot start now is left to other workers.
        let types = u32::try_from(state.types.len()).unwrap_or(u32::MAX).max(1);
        let share = if prefetch_all > 0 { (config.pool / types).max(1) } else { 0 };
        let limits: Vec<u32> =
            state.types.iter().zip(&prefetch).map(|(kind, ahead)| limit(kind, free, share, *ahead, config.prefetch_bytes)).collect();
        let room = (free + prefetch_all).saturating_sub(waiting_ahead(state, config.pool));
        let batches = state.types.iter().zip(&limits).filter(|(kind, _)| kind.chunk.is_some()).map(|(_, limit)| *limit).max().unwrap_or(0);
        let room = if state.unsettled() >= unsettled_max(prefetch_all, config) { 0 } else { room.max(batches) };
        Self { limits, total: room.min(config.batch.max(prefetch_all)), low_water: prefetch_all / 2 }
    }

    /// Whether so much is not recorded that nothing more is claimed.
    pub(super) fn is_behind(state: &State, config: &WorkerConfig) -> bool {
        let prefetch_all = state.types.iter().map(|kind| ahead(kind, config)).max().unwrap_or(0);
        state.unsettled() >= unsettled_max(prefetch_all, config)
    }

    /// Whether a claim is worth its round trip.
    pub(super) fn is_due(&self, state: &State) -> bool {
        self.total > 0 && state.queued() <= self.low_water && self.limits.iter().any(|limit| *limit > 0)
    }

    /// Whether a message of this type may be claimed now.
    pub(super) fn has_room_for(&self, index: usize) -> bool {
        self.limits[index] > 0
    }

    /// Whether some type may not be claimed at all now.
    pub(super) fn leaves_out(&self) -> bool {
        self.limits.contains(&0)
    }

    /// The types that the next claim scans: all that may be claimed, or, of very many, as many as fit from `from` on, so that each
    /// has its turn.
    pub(super) fn choose(&self, from: usize) -> Choice {
        let wanted: Vec<usize> = (0..self.limits.len()).filter(|index| self.limits[*index] > 0).collect();
        let of = wanted.len();
        if of <= TYPES_MAX {
            return Choice { types: wanted, of, next: 0 };
        }
        let first = wanted.partition_point(|index| *index < from);
        let types: Vec<usize> = (first..first + TYPES_MAX).map(|at| wanted[at % of]).collect();
        let next = types.last().map_or(0, |last| last + 1);
        Choice { types, of, next }
    }

    /// The groups of an ordinary claim. Capped types have one group over all lanes, the others one per lane; types take
    /// turns at being first, and so do those with and without a cap.
    pub(super) fn groups(&self, choice: &Choice, entries: &[Entry], state: &State, config: &WorkerConfig, round: u64) -> Vec<LaneRequest> {
        // Of very many types a claim names a part, and the same part every second claim, or every third: its turns are shuffled, or
        // it might never have some of them.
        let (lanes, turn) = order(if choice.len() < choice.of { shuffled(round) } else { round });
        let request = |index: usize, lanes: &[Lane]| {
            LaneRequest::new(
                entries[index].event_type.clone(),
                lanes.to_vec(),
                self.limits[index],
                entries[index].options.max_attempts.unwrap_or(config.max_attempts),
            )
        };
        let (capped, free): (Vec<usize>, Vec<usize>) = choice.types.iter().partition(|index| state.types[**index].cap.is_some());
        // Each kind takes turns within itself, once both have been first.
        let mixed = !capped.is_empty() && !free.is_empty();
        let (capped_first, turn) = (turn.is_multiple_of(2), if mixed { turn / 2 } else { turn });
        let capped = rotated(capped.len(), turn).map(|at| request(capped[at], &lanes));
        let free = lanes.iter().flat_map(|lane| rotated(free.len(), turn).map(|at| request(free[at], &[*lane])));
        if capped_first { capped.chain(free).collect() } else { free.chain(capped).collect() }
    }
}

/// The order of the lanes in a claim, and how many claims before it had that order. Each order counts its own claims: otherwise a type
/// whose turn always falls on one order would never get another.
const fn order(round: u64) -> ([Lane; 4], u64) {
    let elsewhere = round / ELSEWHERE_EVERY;
    if round % ELSEWHERE_EVERY < ELSEWHERE_EVERY - 1 {
        return (Lane::ORDINARY, round - elsewhere);
    }
    (if elsewhere.is_multiple_of(2) { FROM_THE_LOW_END } else { FROM_THE_MIDDLE }, elsewhere / 2)
}

/// A number for each round, without a period: the finaliser of `SplitMix64`.
const fn shuffled(round: u64) -> u64 {
    let mixed = round.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The groups of a claim for one suspect, of the types that `may_claim` names.
pub(super) fn suspect_groups(entries: &[Entry], config: &WorkerConfig, round: u64, may_claim: impl Fn(usize) -> bool) -> Vec<LaneRequest> {
    rotated(entries.len(), round)
        .filter(|index| may_claim(*index))
        .map(|index| {
            LaneRequest::new(
                entries[index].event_type.clone(),
                vec![Lane::Suspect],
                1,
                entries[index].options.max_attempts.unwrap_or(config.max_attempts),
            )
        })
        .collect()
}

fn rotated(count: usize, round: u64) -> impl Iterator<Item = usize> {
    let start = usize::try_from(round % count.max(1) as u64).unwrap_or(0);
    (0..count).map(move |at| (start + at) % count)
}

fn ahead(kind: &TypeState, config: &WorkerConfig) -> u32 {
    if kind.cap.is_some() { 0 } else { kind.rate.prefetch(config.prefetch, config.prefetch_bytes) }
}

/// Messages queued beyond what the pool can start: what the prefetch has brought already.
fn waiting_ahead(state: &State, pool: u32) -> u32 {
    (state.runners() + state.queued()).saturating_sub(pool)
}

fn limit(kind: &TypeState, free: u32, share: u32, ahead: u32, bytes: usize) -> u32 {
    if kind.pausing > 0 {
        return 0;
    }
    match (kind.cap, kind.chunk) {
        (Some(cap), _) => cap.saturating_sub(kind.queued + kind.running),
        // A batch type keeps one chunk running and one waiting, or what of that has room.
        (None, Some(chunk)) => {
            let chunk = chunk.max(100);
            (chunk + chunk.min(kind.rate.room(bytes))).max(ahead).saturating_sub(kind.queued + kind.running)
        }
        // A slow type keeps its share of the pool even while a fast one fills the prefetch.
        (None, None) => (free + ahead).saturating_sub(kind.queued.min(ahead)).max(share.saturating_sub(kind.queued)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::handler::{Handler, Registry, StateMap};

    fn capacity(limits: Vec<u32>) -> Capacity {
        Capacity { limits, total: 1, low_water: 0 }
    }

    fn entries() -> Vec<Entry> {
        let registry = Registry::new().on("a", (async || ()).max_in_flight(1)).on("b", (async || ()).max_in_flight(1));
        registry.on("c", async || ()).on("d", async || ()).build(&StateMap::default()).unwrap()
    }

    #[test]
    fn of_very_many_types_each_has_its_turn_and_those_without_room_have_none() {
        let capacity = capacity((0..260).map(|index| u32::from(index >= 10)).collect());
        let mut from = 0;
        for (expected, next) in [(10..110, 110), (110..210, 210)] {
            let choice = capacity.choose(from);
            assert_eq!((choice.types, choice.of, choice.next), (expected.collect(), 250, next));
            from = next;
        }
        let around = capacity.choose(from);
        assert_eq!((around.types, around.next), ((210..260).chain(10..60).collect(), 60));
    }

    #[test]
    fn types_are_first_equally_often_with_and_without_a_cap() {
        let (entries, capacity) = (entries(), capacity(vec![1; 4]));
        let types = entries.iter().map(|entry| TypeState::new(entry.options.max_in_flight, None)).collect();
        let (state, config) = (State::new(types), WorkerConfig::default());
        let mut first: HashMap<(String, Vec<Lane>), u32> = HashMap::new();
        // The first group without a cap that is of new messages.
        let mut first_new: HashMap<(String, Vec<Lane>), u32> = HashMap::new();
        for round in 0..400 {
            let groups = capacity.groups(&capacity.choose(0), &entries, &state, &config, round);
            let key = |group: &LaneRequest| (group.event_type.to_string(), group.lanes.clone());
            *first.entry(key(&groups[0])).or_default() += 1;
            let new = groups.iter().find(|group| group.lanes.len() == 1 && group.lanes != [Lane::Returned]);
            *first_new.entry(key(new.unwrap())).or_default() += 1;
        }
        let times = |name: &str, lanes: &[Lane]| first.get(&(name.to_owned(), lanes.to_vec())).copied();
        for name in ["a", "b"] {
            let orders = [&Lane::ORDINARY, &FROM_THE_LOW_END, &FROM_THE_MIDDLE];
            assert_eq!(orders.map(|order| times(name, order)), [Some(90), Some(5), Some(5)], "{name}");
        }
        for name in ["c", "d"] {
            assert_eq!(times(name, &[Lane::Returned]), Some(100), "{name}");
            let times = |lane| first_new.get(&(name.to_owned(), vec![lane])).copied();
            assert_eq!([Lane::High, Lane::Low, Lane::Normal].map(times), [Some(180), Some(10), Some(10)], "{name}");
        }
    }

    /// Where the number of parts and the turns have a common divisor, too.
    #[test]
    fn of_very_many_types_each_has_every_lane_first() {
        for parts in [2_usize, 3, 10, 20] {
            let count = parts * TYPES_MAX;
            let registry = (0..count).fold(Registry::new(), |registry, n| registry.on(&format!("t{n}"), async || ()));
            let entries = registry.build(&StateMap::default()).unwrap();
            let capacity = capacity(vec![1; count]);
            let types = (0..count).map(|_| TypeState::new(None, None)).collect();
            let (state, config) = (State::new(types), WorkerConfig::default());
            let (mut from, mut first) = (0, HashMap::new());
            let rounds = 400 * parts;
            for round in 0..rounds {
                let choice = capacity.choose(from);
                let groups = capacity.groups(&choice, &entries, &state, &config, round as u64);
                *first.entry((from, groups[TYPES_MAX].lanes[0])).or_default() += 1;
                from = choice.next % count;
            }
            for part in (0..count).step_by(TYPES_MAX) {
                let times = [Lane::High, Lane::Normal, Lane::Low].map(|lane| first.get(&(part, lane)).copied().unwrap_or(0));
                assert!(times[0] > 300 && times[1] >= 5 && times[2] >= 5, "part {part} of {parts}: {times:?} of {rounds} rounds");
            }
        }
    }

    #[test]
    fn a_claim_for_a_suspect_names_each_type_once_and_begins_with_another_each_time() {
        let (entries, config) = (entries(), WorkerConfig::default());
        let names = |round| {
            let groups = suspect_groups(&entries, &config, round, |index| index != 1);
            assert!(groups.iter().all(|group| group.limit == 1 && group.lanes == [Lane::Suspect]));
            groups.iter().map(|group| group.event_type.to_string()).collect::<Vec<_>>()
        };
        assert_eq!([names(0), names(2), names(3)], [["a", "c", "d"], ["c", "d", "a"], ["d", "a", "c"]]);
    }
}
