//! Statistics of the queue.

use std::time::Duration;

use crate::event_type::EventType;
use crate::status::Status;
use crate::storage::{Pause, PauseScope};
use crate::time::Timestamp;

/// What to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatsRequest {
    /// Where counting one type in one status stops (default 100 000), so that the cost is bounded.
    pub count_max: u32,
}

impl Default for StatsRequest {
    fn default() -> Self {
        Self { count_max: 100_000 }
    }
}

impl StatsRequest {
    /// Counts to `count_max` at most.
    #[must_use]
    pub const fn count_max(mut self, count_max: u32) -> Self {
        self.count_max = count_max;
        self
    }
}

/// A number that may have stopped at the cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Count {
    /// The number, at most the cap.
    pub n: u64,
    /// Whether there are more.
    pub capped: bool,
}

impl Count {
    /// A number below the cap.
    pub const fn exact(n: u64) -> Self {
        Self { n, capped: false }
    }

    /// A count that was cut at `max`: pass what was counted up to `max + 1`.
    pub const fn cut(counted: u64, max: u32) -> Self {
        let max = max as u64;
        if counted > max { Self { n: max, capped: true } } else { Self::exact(counted) }
    }

    /// The sum of two counts.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { n: self.n + other.n, capped: self.capped || other.capped }
    }
}

/// How many messages wait, run and are dead. Successes are not a depth: they are counted by metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// By event type, by name. A type is listed while it has a live or dead message, or is paused by name.
    pub types: Vec<TypeStats>,
    /// When, by the database's clock.
    pub sampled_at: Timestamp,
    /// The pauses in force: that of everything first, then types by name.
    pub pauses: Vec<Pause>,
}

impl Stats {
    /// Statistics of `types`.
    pub const fn new(types: Vec<TypeStats>, sampled_at: Timestamp) -> Self {
        Self { types, sampled_at, pauses: Vec::new() }
    }

    /// Adds the pauses in force, and marks the types that they stop; those without an entry get one, unless it is everything that
    /// is paused.
    #[must_use]
    pub fn with_pauses(mut self, pauses: Vec<Pause>) -> Self {
        for pause in &pauses {
            if let PauseScope::Type(event_type) = &pause.scope
                && let Err(at) = self.types.binary_search_by(|stats| stats.event_type.cmp(event_type))
            {
                self.types.insert(at, TypeStats::new(event_type.clone()));
            }
        }
        for stats in &mut self.types {
            let stops = |pause: &&Pause| pause.scope.covers(&stats.event_type);
            let ends: Vec<Option<Timestamp>> = pauses.iter().filter(stops).map(|pause| pause.until).collect();
            stats.paused = !ends.is_empty();
            // The last end counts, and one that never comes is later than any.
            stats.paused_until = ends.iter().copied().collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max());
        }
        self.pauses = pauses;
        self
    }

    /// The sum over all types; zero for statuses that are no depth (`SUCCESS`, `FAILED`).
    pub fn total(&self, status: Status) -> Count {
        self.types.iter().fold(Count::default(), |sum, stats| sum.plus(stats.count(status)))
    }

    /// The entry of one type.
    pub fn of(&self, event_type: &str) -> Option<&TypeStats> {
        self.types.iter().find(|stats| stats.event_type.as_str() == event_type)
    }
}

/// The messages of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypeStats {
    /// The event type.
    pub event_type: EventType,
    /// Waiting for the first attempt.
    pub created: Count,
    /// Waiting for a further attempt.
    pub retrying: Count,
    /// Leased.
    pub handling: Count,
    /// Dead.
    pub dead: Count,
    /// Ready, among those created and retrying; the others are scheduled for later.
    pub ready: Count,
    /// Waiting as suspects, among those retrying.
    pub suspects: Count,
    /// For how long the message that is ready longest has been waiting, at most, as far as one look per lane tells: since it came
    /// back (a failure, a requeue), or else since it was due or enqueued ([`waiting_since`](crate::protocol::waiting_since)).
    /// Where no history is recorded returns are not known.
    pub oldest_ready: Option<Duration>,
    /// Whether no live worker handles the type although messages wait.
    pub unserved: bool,
    /// Whether the type is paused, by name or with everything.
    pub paused: bool,
    /// When the type may be claimed again, if it is paused and its pauses end by themselves.
    pub paused_until: Option<Timestamp>,
}

impl TypeStats {
    /// All zero.
    pub const fn new(event_type: EventType) -> Self {
        const ZERO: Count = Count::exact(0);
        Self {
            event_type,
            created: ZERO,
            retrying: ZERO,
            handling: ZERO,
            dead: ZERO,
            ready: ZERO,
            suspects: ZERO,
            oldest_ready: None,
            unserved: false,
            paused: false,
            paused_until: None,
        }
    }

    /// The count of one status; zero for statuses that are no depth (`SUCCESS`, `FAILED`).
    pub fn count(&self, status: Status) -> Count {
        match status {
            Status::Created => self.created,
            Status::Retrying => self.retrying,
            Status::Handling => self.handling,
            Status::Dead => self.dead,
            Status::Success | Status::Failed => Count::default(),
        }
    }
}
