//! However many event types there are, the number of series is bounded.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use prometheus::Registry;
use tickr_core::{EventType, HandlerOutcome, LeaseLossPhase, Metrics, Stats, Timestamp, TypeStats};

use super::{registered, scrape, text};
use crate::PrometheusMetrics;

const TYPES: usize = 10_000;
/// What the README says.
const SERIES_PER_TYPE: usize = 44;
const HELD_BY_THE_WORKER: usize = 79;

fn count_everything(metrics: &PrometheusMetrics, event_type: &str) {
    metrics.message_enqueued(event_type);
    metrics.handler_started(event_type, 1);
    metrics.handler_completed(event_type, 1, Some(Duration::from_millis(1)), HandlerOutcome::Success);
    metrics.message_dead(event_type);
    metrics.lease_reclaimed(event_type, 1);
    metrics.lease_lost(event_type, LeaseLossPhase::Running);
}

fn event_types(scrape: &super::Scrape) -> BTreeSet<String> {
    let value = |series: &String| Some(series.split_once("event_type=\"")?.1.split_once('"')?.0.to_owned());
    scrape.keys().filter_map(value).collect()
}

fn enqueued(scrape: &super::Scrape, event_type: &str) -> Option<f64> {
    scrape.get(&format!("tickr_messages_enqueued_total{{event_type=\"{event_type}\"}}")).copied()
}

#[test]
fn ten_thousand_types_have_a_hundred_labels_and_other() {
    let (registry, metrics) = registered();
    let names: Vec<String> = (0..TYPES).map(|n| format!("type-{n}")).collect();
    names.iter().for_each(|name| count_everything(&metrics, name));
    let types = names.iter().map(|name| TypeStats::new(EventType::new(name).unwrap())).collect();
    metrics.queue_sampled(&Stats::new(types, Timestamp::from_micros(1)));

    let now = scrape(&registry);
    assert_eq!(event_types(&now).len(), 101);
    assert_eq!(now.len(), 101 * SERIES_PER_TYPE + HELD_BY_THE_WORKER);
    assert_eq!(enqueued(&now, "type-99"), Some(1.0), "those that came first");
    assert_eq!(enqueued(&now, "type-100"), None);
    assert_eq!(enqueued(&now, "other"), Some((TYPES - 100) as f64));
}

#[test]
fn the_limit_holds_from_many_threads_and_nothing_is_lost() {
    const THREADS: usize = 8;
    let (registry, metrics) = registered();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let metrics = &metrics;
            // Each begins elsewhere, so that they race for the last places.
            let types = (0..TYPES).map(move |n| (n + thread * TYPES / THREADS) % TYPES);
            scope.spawn(move || types.for_each(|n| count_everything(metrics, &format!("type-{n}"))));
        }
    });
    let now = scrape(&registry);
    let types = event_types(&now);
    assert_eq!(types.len(), 101);
    let sum: f64 = types.iter().filter_map(|event_type| enqueued(&now, event_type)).sum();
    assert_eq!(sum, (THREADS * TYPES) as f64);
    for event_type in types.iter().filter(|event_type| *event_type != "other") {
        assert_eq!(enqueued(&now, event_type), Some(THREADS as f64), "{event_type} is never counted as another");
    }
}

#[test]
fn a_type_called_other_is_counted_among_the_others() {
    let registry = Registry::new();
    let metrics = PrometheusMetrics::builder().max_event_types(1).register(&registry).unwrap();
    metrics.message_enqueued("other");
    metrics.message_enqueued("a");
    metrics.message_enqueued("b");
    assert_eq!(enqueued(&scrape(&registry), "a"), Some(1.0), "it takes no place");
    assert_eq!(enqueued(&scrape(&registry), "other"), Some(2.0));
}

#[test]
fn without_places_all_types_are_other() {
    let registry = Registry::new();
    let metrics = PrometheusMetrics::builder().max_event_types(0).register(&registry).unwrap();
    metrics.message_enqueued("a");
    assert_eq!(enqueued(&scrape(&registry), "other"), Some(1.0));
}

#[test]
fn named_types_come_first_and_begin_at_zero() {
    let registry = Registry::new();
    let metrics = PrometheusMetrics::builder().max_event_types(2).event_types(["mine", "too"]).register(&registry).unwrap();
    assert!(text(&registry).contains("tickr_messages_dead_total{event_type=\"mine\"} 0\n"));
    assert!(text(&registry).contains("tickr_handler_attempts_total{event_type=\"too\",outcome=\"retry\"} 0\n"));
    assert!(!text(&registry).contains("tickr_messages_enqueued_total{"), "whether it enqueues is not known");
    metrics.message_enqueued("stranger");
    metrics.message_enqueued("mine");
    assert_eq!(enqueued(&scrape(&registry), "mine"), Some(1.0));
    assert_eq!(enqueued(&scrape(&registry), "stranger"), None);
}
