//! The series of each event type, and the limit on how many types have their own.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use prometheus::{Histogram, IntCounter};
use tickr_core::{HandlerOutcome, LeaseLossPhase};

use crate::families::Families;

/// The label of all types beyond the limit.
pub(crate) const OTHER: &str = "other";

/// In the order of the enum, so that an outcome is its own index.
const OUTCOMES: [HandlerOutcome; 7] = [
    HandlerOutcome::Success,
    HandlerOutcome::Skip,
    HandlerOutcome::Retry,
    HandlerOutcome::Snooze,
    HandlerOutcome::Dead,
    HandlerOutcome::Released,
    HandlerOutcome::Lost,
];

/// As [`OUTCOMES`].
const PHASES: [LeaseLossPhase; 3] = [LeaseLossPhase::Queued, LeaseLossPhase::Running, LeaseLossPhase::Settling];

const _: () = {
    let mut index = 0;
    while index < OUTCOMES.len() {
        assert!(OUTCOMES[index] as usize == index);
        index += 1;
    }
    index = 0;
    while index < PHASES.len() {
        assert!(PHASES[index] as usize == index);
        index += 1;
    }
};

/// What is counted of one event type. Resolved once: counting is an atomic addition.
#[derive(Debug)]
pub(crate) struct TypeSeries {
    label: Box<str>,
    families: Families,
    enqueued: OnceLock<IntCounter>,
    dead: OnceLock<IntCounter>,
    reclaimed: OnceLock<IntCounter>,
    handling: OnceLock<HandlerSeries>,
}

/// What is counted where the type has a handler: neither by a process that only enqueues, nor by one that takes back
/// what was another's.
#[derive(Debug)]
pub(crate) struct HandlerSeries {
    pub(crate) started: IntCounter,
    pub(crate) duration: Histogram,
    attempts: [IntCounter; OUTCOMES.len()],
    lost: [IntCounter; PHASES.len()],
}

impl TypeSeries {
    fn new(families: &Families, label: &str) -> Self {
        Self {
            label: label.into(),
            families: families.clone(),
            enqueued: OnceLock::new(),
            dead: OnceLock::new(),
            reclaimed: OnceLock::new(),
            handling: OnceLock::new(),
        }
    }

    pub(crate) fn enqueued(&self) -> &IntCounter {
        self.enqueued.get_or_init(|| self.families.enqueued.with_label_values(&[&*self.label]))
    }

    pub(crate) fn dead(&self) -> &IntCounter {
        self.dead.get_or_init(|| self.families.dead.with_label_values(&[&*self.label]))
    }

    pub(crate) fn reclaimed(&self) -> &IntCounter {
        self.reclaimed.get_or_init(|| self.families.reclaimed.with_label_values(&[&*self.label]))
    }

    /// All begin together, at zero: `rate` would not see the first of a series that begins at one.
    pub(crate) fn handling(&self) -> &HandlerSeries {
        self.handling.get_or_init(|| {
            self.dead();
            self.reclaimed();
            HandlerSeries::new(&self.families, &self.label)
        })
    }
}

impl HandlerSeries {
    fn new(families: &Families, label: &str) -> Self {
        Self {
            started: families.started.with_label_values(&[label]),
            duration: families.duration.with_label_values(&[label]),
            attempts: OUTCOMES.map(|outcome| families.attempts.with_label_values(&[label, outcome.as_str()])),
            lost: PHASES.map(|phase| families.lost.with_label_values(&[label, phase.as_str()])),
        }
    }

    pub(crate) fn attempts(&self, outcome: HandlerOutcome) -> &IntCounter {
        &self.attempts[outcome as usize]
    }

    pub(crate) fn lost(&self, phase: LeaseLossPhase) -> &IntCounter {
        &self.lost[phase as usize]
    }
}

/// The event types that have a label of their own: at most so many, those that came first.
#[derive(Debug)]
pub(crate) struct Types {
    families: Families,
    known: RwLock<HashMap<Box<str>, Arc<TypeSeries>>>,
    known_max: usize,
    other: TypeSeries,
}

impl Types {
    pub(crate) fn new(families: &Families, known_max: usize) -> Self {
        Self { families: families.clone(), known: RwLock::default(), known_max, other: TypeSeries::new(families, OTHER) }
    }

    /// Calls `then` with the series of a type. Nothing is allocated but for a type that is new and within the limit.
    pub(crate) fn with<R>(&self, event_type: &str, then: impl FnOnce(&TypeSeries) -> R) -> R {
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(series) = known.get(event_type) {
                return then(series);
            }
            // A type that is really called so shares the series of those beyond the limit.
            if known.len() >= self.known_max || event_type == OTHER {
                return then(&self.other);
            }
        }
        match self.insert(event_type) {
            Some(series) => then(&series),
            None => then(&self.other),
        }
    }

    /// The label of a type.
    pub(crate) fn label<'a>(&self, event_type: &'a str) -> &'a str {
        if self.with(event_type, |series| &*series.label == OTHER) { OTHER } else { event_type }
    }

    /// `None`: another thread took the last place.
    fn insert(&self, event_type: &str) -> Option<Arc<TypeSeries>> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(event_type) {
            return Some(Arc::clone(series));
        }
        if known.len() >= self.known_max {
            return None;
        }
        let series = Arc::new(TypeSeries::new(&self.families, event_type));
        known.insert(event_type.into(), Arc::clone(&series));
        Some(series)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, mpsc};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::families::Labels;

    fn types(known_max: usize) -> Types {
        Types::new(&Families::new(&Labels::new(), vec![1.0]).unwrap(), known_max)
    }

    /// Two threads for each type, and places for half of the types.
    #[test]
    fn a_race_for_the_last_places_has_as_many_winners_as_places() {
        for _ in 0..500 {
            let (types, start) = (types(2), Barrier::new(8));
            thread::scope(|scope| {
                for event_type in ["a", "b", "c", "d", "a", "b", "c", "d"] {
                    let (types, start) = (&types, &start);
                    scope.spawn(move || {
                        start.wait();
                        types.with(event_type, |series| series.enqueued().inc());
                    });
                }
            });
            let known = types.known.read().unwrap();
            let counts: Vec<u64> = known.values().map(|series| series.enqueued().get()).collect();
            assert_eq!(counts, [2, 2], "and each has all of its own");
            assert_eq!(types.other.enqueued().get(), 4);
        }
    }

    #[test]
    fn counting_waits_for_no_reader() {
        let types = types(1);
        types.with("known", |series| series.enqueued().inc());
        let reader = types.known.read().unwrap();
        let (done, counted) = mpsc::channel();
        thread::scope(|scope| {
            let types = &types;
            scope.spawn(move || {
                for event_type in ["known", "beyond the limit"] {
                    types.with(event_type, |series| series.enqueued().inc());
                }
                done.send(()).unwrap();
            });
            let counted = counted.recv_timeout(Duration::from_secs(10));
            drop(reader);
            counted.unwrap();
        });
    }
}
