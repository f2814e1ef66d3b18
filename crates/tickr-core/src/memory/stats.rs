//! Statistics, from thin tables only.

use std::collections::{BTreeMap, HashSet};

use super::state::{State, WaitingRow};
use crate::event_type::EventType;
use crate::protocol::{Lane, waiting_since};
use crate::status::Status;
use crate::storage::{Count, Stats, StatsRequest, TypeStats};
use crate::time::Timestamp;

/// Uncut counts of one type.
#[derive(Default)]
struct Tally {
    created: u64,
    retrying: u64,
    handling: u64,
    dead: u64,
    ready: u64,
    suspects: u64,
    oldest_ready: Option<Timestamp>,
}

impl Tally {
    fn add_waiting(&mut self, row: &WaitingRow) {
        match row.waiting.status() {
            Status::Created => self.created += 1,
            _ => self.retrying += 1,
        }
        if row.waiting.lane == Lane::Suspect {
            self.suspects += 1;
        }
    }
}

impl State {
    pub(super) fn stats(&self, now: Timestamp, request: &StatsRequest) -> Stats {
        let tallies = self.tally(now);
        let live = self.workers.values().filter(|worker| worker.is_live(now));
        let served: HashSet<&EventType> = live.flat_map(|worker| &worker.event_types).collect();
        let cut = |counted| Count::cut(counted, request.count_max);
        let types = tallies.into_iter().map(|(event_type, tally)| {
            let mut stats = TypeStats::new(event_type.clone());
            stats.created = cut(tally.created);
            stats.retrying = cut(tally.retrying);
            stats.handling = cut(tally.handling);
            stats.dead = cut(tally.dead);
            stats.ready = cut(tally.ready);
            stats.suspects = cut(tally.suspects);
            stats.oldest_ready = tally.oldest_ready.map(|at| now.since(at));
            stats.unserved = tally.created + tally.retrying > 0 && !served.contains(&event_type);
            stats
        });
        Stats::new(types.collect(), now).with_pauses(self.pauses_in_force(now))
    }

    fn tally(&self, now: Timestamp) -> BTreeMap<EventType, Tally> {
        let mut tallies: BTreeMap<EventType, Tally> = BTreeMap::new();
        let mut lane = None;
        for (key, row) in &self.ready {
            let tally = tallies.entry(row.event_type.clone()).or_default();
            tally.add_waiting(row);
            tally.ready += 1;
            // One look per lane: at its first row.
            if lane != Some((&key.event_type, key.lane)) {
                lane = Some((&key.event_type, key.lane));
                let came_back_at = self.transitions_of(row.id).next_back().map(|(_, transition)| transition.at);
                let body = self.messages.get(&row.id).map(|body| &body.stored);
                let since = body.map(|body| waiting_since(now, body.created_at, body.scheduled_at, came_back_at));
                tally.oldest_ready = tally.oldest_ready.into_iter().chain(since).min();
            }
        }
        for row in self.scheduled.values() {
            tallies.entry(row.event_type.clone()).or_default().add_waiting(row);
        }
        for (token, open) in &self.open_claims {
            let Some(claim) = self.claims.get(token) else { continue };
            for index in open.unset().iter() {
                let event_type = self.type_of(claim.members[index as usize].id);
                tallies.entry(event_type).or_default().handling += 1;
            }
        }
        for row in self.dead.values() {
            tallies.entry(row.event_type.clone()).or_default().dead += 1;
        }
        tallies
    }
}
