//! The gauges of a sample.

use std::time::Duration;

use prometheus::Registry;
use tickr_core::{Count, EventType, Metrics, Stats, Timestamp, TypeStats};

use super::{moved, registered, scrape, series};
use crate::PrometheusMetrics;

fn of(event_type: &str, created: u64) -> TypeStats {
    let mut stats = TypeStats::new(EventType::new(event_type).unwrap());
    stats.created = Count::exact(created);
    stats
}

fn sample(types: impl IntoIterator<Item = TypeStats>) -> Stats {
    Stats::new(types.into_iter().collect(), Timestamp::from_micros(1_500_000))
}

#[test]
fn a_sample_sets_every_gauge() {
    let (registry, metrics) = registered();
    let mut stats = of("a", 1);
    stats.retrying = Count::exact(2);
    stats.handling = Count::exact(3);
    stats.dead = Count::cut(100_001, 100_000);
    stats.ready = Count::exact(2);
    stats.suspects = Count::exact(1);
    stats.oldest_ready = Some(Duration::from_millis(2_500));
    stats.unserved = true;
    stats.paused = true;
    metrics.queue_sampled(&sample([stats]));
    let expected = [
        ("tickr_queue_depth{event_type=\"a\",status=\"created\"}", 1.0),
        ("tickr_queue_depth{event_type=\"a\",status=\"dead\"}", 100_000.0),
        ("tickr_queue_depth{event_type=\"a\",status=\"handling\"}", 3.0),
        ("tickr_queue_depth{event_type=\"a\",status=\"retrying\"}", 2.0),
        ("tickr_queue_oldest_age_seconds{event_type=\"a\"}", 2.5),
        ("tickr_queue_paused{event_type=\"a\"}", 1.0),
        ("tickr_queue_ready{event_type=\"a\"}", 2.0),
        ("tickr_queue_sampled_timestamp_seconds", 1.5),
        ("tickr_queue_suspects{event_type=\"a\"}", 1.0),
        ("tickr_unserved_messages{event_type=\"a\"}", 3.0),
    ];
    assert_eq!(moved(&registry), series(expected));
}

#[test]
fn a_served_type_has_zeros() {
    let (registry, metrics) = registered();
    metrics.queue_sampled(&sample([of("a", 5)]));
    let scrape = scrape(&registry);
    for gauge in
        ["tickr_unserved_messages", "tickr_queue_oldest_age_seconds", "tickr_queue_paused", "tickr_queue_ready", "tickr_queue_suspects"]
    {
        assert_eq!(scrape[&format!("{gauge}{{event_type=\"a\"}}")], 0.0);
    }
    assert_eq!(scrape["tickr_queue_depth{event_type=\"a\",status=\"dead\"}"], 0.0);
}

#[test]
fn before_the_first_sample_there_is_no_time_of_it() {
    let (registry, _metrics) = registered();
    assert!(!scrape(&registry).keys().any(|series| series.starts_with("tickr_queue")));
}

#[test]
fn a_type_that_left_the_queue_has_no_gauges() {
    let (registry, metrics) = registered();
    metrics.message_enqueued("gone");
    metrics.queue_sampled(&sample([of("gone", 9), of("stays", 1)]));
    metrics.queue_sampled(&sample([of("stays", 2)]));
    let now = scrape(&registry);
    let left: Vec<_> = now.keys().filter(|series| series.contains("\"gone\"")).collect();
    assert_eq!(left, ["tickr_messages_enqueued_total{event_type=\"gone\"}"], "counters stay");
    assert_eq!(now["tickr_queue_depth{event_type=\"stays\",status=\"created\"}"], 2.0);

    metrics.queue_sampled(&sample([]));
    assert!(!scrape(&registry).keys().any(|series| series.starts_with("tickr_queue_depth")));

    // It comes back, and leaves again.
    metrics.queue_sampled(&sample([of("gone", 4)]));
    assert_eq!(scrape(&registry)["tickr_queue_depth{event_type=\"gone\",status=\"created\"}"], 4.0);
    metrics.queue_sampled(&sample([]));
    assert!(!scrape(&registry).keys().any(|series| series.starts_with("tickr_queue_depth")));
}

#[test]
fn types_beyond_the_limit_add_up() {
    let registry = Registry::new();
    let metrics = PrometheusMetrics::builder().max_event_types(1).register(&registry).unwrap();
    let with = |event_type, created, oldest, unserved, paused| {
        let mut stats = of(event_type, created);
        stats.oldest_ready = Some(Duration::from_secs(oldest));
        (stats.unserved, stats.paused) = (unserved, paused);
        stats
    };
    metrics.queue_sampled(&sample([
        with("a", 1, 10, false, true),
        with("b", 20, 7, true, true),
        with("c", 300, 9, false, false),
        with("d", 4_000, 8, true, true),
    ]));
    let now = scrape(&registry);
    assert_eq!(now["tickr_queue_depth{event_type=\"other\",status=\"created\"}"], 4_320.0);
    assert_eq!(now["tickr_queue_oldest_age_seconds{event_type=\"other\"}"], 9.0);
    assert_eq!(now["tickr_unserved_messages{event_type=\"other\"}"], 4_020.0);
    assert_eq!(now["tickr_queue_paused{event_type=\"a\"}"], 1.0);
    assert_eq!(now["tickr_queue_paused{event_type=\"other\"}"], 0.0, "one of them is not");

    metrics.queue_sampled(&sample([with("a", 1, 1, false, false), with("d", 4_000, 8, true, true)]));
    assert_eq!(scrape(&registry)["tickr_queue_depth{event_type=\"other\",status=\"created\"}"], 4_000.0);
    assert_eq!(scrape(&registry)["tickr_queue_paused{event_type=\"other\"}"], 1.0);
    metrics.queue_sampled(&sample([with("a", 1, 1, false, false)]));
    assert!(!scrape(&registry).keys().any(|series| series.contains("other")));
}
