//! The gauges of a sample of the queue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tickr_core::{Stats, Status, TypeStats};

use crate::families::Families;
use crate::types::Types;

/// The statuses that are a depth, with their labels.
const DEPTHS: [(Status, &str); 4] =
    [(Status::Created, "created"), (Status::Retrying, "retrying"), (Status::Handling, "handling"), (Status::Dead, "dead")];

/// Remembers which types are shown, so that one that has left the queue leaves the gauges too.
#[derive(Debug)]
pub(crate) struct Queue {
    families: Families,
    shown: Mutex<BTreeSet<Box<str>>>,
}

/// What the types of one label come to.
#[derive(Default)]
struct Row {
    depth: [u64; DEPTHS.len()],
    ready: u64,
    suspects: u64,
    unserved: u64,
    oldest: Duration,
    types: usize,
    paused: usize,
}

impl Row {
    fn add(&mut self, stats: &TypeStats) {
        for (sum, (status, _)) in self.depth.iter_mut().zip(DEPTHS) {
            *sum += stats.count(status).n;
        }
        self.ready += stats.ready.n;
        self.suspects += stats.suspects.n;
        if stats.unserved {
            self.unserved += stats.created.n + stats.retrying.n;
        }
        self.oldest = self.oldest.max(stats.oldest_ready.unwrap_or_default());
        self.types += 1;
        self.paused += usize::from(stats.paused);
    }
}

impl Queue {
    pub(crate) fn new(families: &Families) -> Self {
        Self { families: families.clone(), shown: Mutex::default() }
    }

    /// Shows a sample, and removes the series of types that are not in it.
    pub(crate) fn show(&self, stats: &Stats, types: &Types) {
        let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
        for stats in &stats.types {
            rows.entry(types.label(&stats.event_type)).or_default().add(stats);
        }
        // Two workers may share the metrics: their samples go one after the other.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for (label, row) in &rows {
            self.set(label, row);
        }
        for label in shown.iter().filter(|label| !rows.contains_key(&***label)) {
            self.remove(label);
        }
        shown.retain(|label| rows.contains_key(&**label));
        for label in rows.keys().filter(|label| !shown.contains(**label)).copied().collect::<Vec<_>>() {
            shown.insert(label.into());
        }
        self.families.sampled_at.with_label_values::<&str>(&[]).set(stats.sampled_at.as_micros() as f64 / 1e6);
    }

    fn set(&self, label: &str, row: &Row) {
        let families = &self.families;
        for ((_, status), n) in DEPTHS.iter().zip(row.depth) {
            families.depth.with_label_values(&[label, status]).set(gauge(n));
        }
        families.ready.with_label_values(&[label]).set(gauge(row.ready));
        families.suspects.with_label_values(&[label]).set(gauge(row.suspects));
        families.oldest_age.with_label_values(&[label]).set(row.oldest.as_secs_f64());
        families.unserved.with_label_values(&[label]).set(gauge(row.unserved));
        families.paused.with_label_values(&[label]).set(i64::from(row.paused == row.types));
    }

    fn remove(&self, label: &str) {
        let families = &self.families;
        let mut removed: Vec<_> = DEPTHS.iter().map(|(_, status)| families.depth.remove_label_values(&[label, status])).collect();
        removed.push(families.oldest_age.remove_label_values(&[label]));
        removed.extend(
            [&families.ready, &families.suspects, &families.unserved, &families.paused].map(|gauge| gauge.remove_label_values(&[label])),
        );
        debug_assert!(removed.iter().all(Result::is_ok), "what is shown has series");
    }
}

fn gauge(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
