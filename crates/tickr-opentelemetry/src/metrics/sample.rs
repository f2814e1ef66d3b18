//! The gauges of the queue: they tell the newest sample and nothing older, so that a type that is gone vanishes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};
use tickr_core::{Stats, Status, TypeStats};

use super::event_types::EventTypes;

const STATUS: &str = "status";

/// The statuses that a message can stay in and be counted.
const DEPTHS: [Status; 4] = [Status::Created, Status::Retrying, Status::Handling, Status::Dead];

/// The newest sample, which the gauges of a meter read whenever they are collected.
#[derive(Debug)]
pub(super) struct Sampled(Arc<Mutex<Vec<Row>>>);

/// What is told of one event type, or of all others.
#[derive(Debug)]
struct Row {
    event_type: KeyValue,
    depths: [u64; DEPTHS.len()],
    ready: u64,
    oldest_seconds: Option<f64>,
    unserved: u64,
}

impl Sampled {
    pub(super) fn new(meter: &Meter) -> Self {
        let rows = Arc::new(Mutex::new(Vec::new()));
        // Callbacks live as long as the meter: weak ones fall silent when the metrics are dropped.
        let reader = |tell: fn(&Row, &dyn AsyncInstrument<u64>)| {
            let rows = Arc::downgrade(&rows);
            move |gauge: &dyn AsyncInstrument<u64>| {
                let Some(rows) = rows.upgrade() else { return };
                lock(&rows).iter().for_each(|row| tell(row, gauge));
            }
        };
        meter
            .u64_observable_gauge("tickr.queue.depth")
            .with_unit("{message}")
            .with_description("Messages in the queue, by event type and status.")
            .with_callback(reader(Row::tell_depths))
            .build();
        meter
            .u64_observable_gauge("tickr.queue.ready")
            .with_unit("{message}")
            .with_description("Messages that could be handled now; what is scheduled for later is none of them.")
            .with_callback(reader(|row, gauge| gauge.observe(row.ready, std::slice::from_ref(&row.event_type))))
            .build();
        meter
            .u64_observable_gauge("tickr.unserved.messages")
            .with_unit("{message}")
            .with_description("Messages that wait although no live worker handles their type.")
            .with_callback(reader(|row, gauge| gauge.observe(row.unserved, std::slice::from_ref(&row.event_type))))
            .build();
        let weak = Arc::downgrade(&rows);
        meter
            .f64_observable_gauge("tickr.queue.oldest.age")
            .with_unit("s")
            .with_description("For how long the message that is ready longest has been waiting: since it was enqueued, due, or came back.")
            .with_callback(move |gauge| {
                let Some(rows) = weak.upgrade() else { return };
                for row in lock(&rows).iter() {
                    if let Some(seconds) = row.oldest_seconds {
                        gauge.observe(seconds, std::slice::from_ref(&row.event_type));
                    }
                }
            })
            .build();
        Self(rows)
    }

    /// Replaces the sample.
    pub(super) fn set(&self, stats: &Stats, event_types: &EventTypes) {
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        for stats in &stats.types {
            let event_type = event_types.attribute(&stats.event_type);
            let name = event_type.value.to_string();
            rows.entry(name).or_insert_with(|| Row::new(event_type)).add(stats);
        }
        *lock(&self.0) = rows.into_values().collect();
    }
}

impl Row {
    const fn new(event_type: KeyValue) -> Self {
        Self { event_type, depths: [0; DEPTHS.len()], ready: 0, oldest_seconds: None, unserved: 0 }
    }

    fn add(&mut self, stats: &TypeStats) {
        for (depth, status) in self.depths.iter_mut().zip(DEPTHS) {
            *depth += stats.count(status).n;
        }
        self.ready += stats.ready.n;
        let oldest = stats.oldest_ready.map(|age| age.as_secs_f64());
        self.oldest_seconds = match (self.oldest_seconds, oldest) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        if stats.unserved {
            self.unserved += stats.created.n + stats.retrying.n;
        }
    }

    fn tell_depths(&self, gauge: &dyn AsyncInstrument<u64>) {
        for (depth, status) in self.depths.into_iter().zip(DEPTHS) {
            gauge.observe(depth, &[self.event_type.clone(), KeyValue::new(STATUS, status.as_str())]);
        }
    }
}

fn lock(rows: &Mutex<Vec<Row>>) -> std::sync::MutexGuard<'_, Vec<Row>> {
    rows.lock().unwrap_or_else(PoisonError::into_inner)
}
