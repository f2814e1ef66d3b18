//! Each method moves its series and no other.

use std::time::Duration;

use prometheus::{Error, IntGauge, Registry};
use tickr_core::{HandlerOutcome, LeaseLossPhase, Metrics};

use super::{moved, registered, scrape, series, text};
use crate::PrometheusMetrics;

const HALF: Duration = Duration::from_millis(500);

#[test]
fn enqueue_moves_its_counter_only() {
    let (registry, metrics) = registered();
    metrics.message_enqueued("a");
    assert_eq!(moved(&registry), series([("tickr_messages_enqueued_total{event_type=\"a\"}", 1.0)]));
    assert!(!text(&registry).contains("tickr_handler_attempts_total{"), "a client has no handlers");
}

#[test]
fn start_moves_its_counter_only() {
    let (registry, metrics) = registered();
    metrics.handler_started("a", 3);
    assert_eq!(moved(&registry), series([("tickr_handlers_started_total{event_type=\"a\"}", 1.0)]));
}

#[test]
fn every_outcome_has_a_label_and_all_share_a_histogram() {
    let outcomes = [
        (HandlerOutcome::Success, "success"),
        (HandlerOutcome::Skip, "skip"),
        (HandlerOutcome::Retry, "retry"),
        (HandlerOutcome::Snooze, "snooze"),
        (HandlerOutcome::Dead, "dead"),
        (HandlerOutcome::Released, "released"),
        (HandlerOutcome::Lost, "lost"),
    ];
    for (outcome, label) in outcomes {
        let (registry, metrics) = registered();
        metrics.handler_completed("a", 1, Some(HALF), outcome);
        let attempts = format!("tickr_handler_attempts_total{{event_type=\"a\",outcome=\"{label}\"}}");
        let expected = [
            (&*attempts, 1.0),
            ("tickr_handler_duration_seconds_count{event_type=\"a\"}", 1.0),
            ("tickr_handler_duration_seconds_sum{event_type=\"a\"}", 0.5),
        ];
        assert_eq!(moved(&registry), series(expected));
    }
}

#[test]
fn counters_of_a_handler_begin_at_zero_together() {
    let (registry, metrics) = registered();
    metrics.handler_started("a", 1);
    let scrape = scrape(&registry);
    for series in [
        "tickr_messages_dead_total{event_type=\"a\"}",
        "tickr_leases_reclaimed_total{event_type=\"a\"}",
        "tickr_leases_lost_total{event_type=\"a\",phase=\"running\"}",
        "tickr_handler_attempts_total{event_type=\"a\",outcome=\"lost\"}",
        "tickr_handler_duration_seconds_count{event_type=\"a\"}",
    ] {
        assert_eq!(scrape.get(series), Some(&0.0), "{series}");
    }
}

/// Whoever has these counters has a handler for the type: alerts tell by them whose types they are.
#[test]
fn taking_back_what_was_anothers_makes_no_counters_of_a_handler() {
    let (registry, metrics) = registered();
    metrics.lease_reclaimed("a", 1);
    metrics.message_dead("a");
    let labelled: Vec<String> = scrape(&registry).into_keys().filter(|series| series.contains("event_type")).collect();
    assert_eq!(labelled, ["tickr_leases_reclaimed_total{event_type=\"a\"}", "tickr_messages_dead_total{event_type=\"a\"}"]);
}

#[test]
fn an_attempt_that_never_ran_has_no_duration() {
    for outcome in [HandlerOutcome::Dead, HandlerOutcome::Released, HandlerOutcome::Lost] {
        let (registry, metrics) = registered();
        metrics.handler_completed("a", 0, None, outcome);
        let attempts = format!("tickr_handler_attempts_total{{event_type=\"a\",outcome=\"{outcome}\"}}");
        assert_eq!(moved(&registry), series([(&*attempts, 1.0)]));
    }
}

#[test]
fn a_handler_faster_than_the_clock_has_a_duration() {
    let (registry, metrics) = registered();
    metrics.handler_completed("a", 1, Some(Duration::ZERO), HandlerOutcome::Success);
    assert_eq!(scrape(&registry)["tickr_handler_duration_seconds_count{event_type=\"a\"}"], 1.0);
}

#[test]
fn a_duration_is_in_its_bucket() {
    let (registry, metrics) = registered();
    metrics.handler_completed("a", 1, Some(Duration::from_secs(2 * 3_600)), HandlerOutcome::Success);
    metrics.handler_completed("a", 1, Some(Duration::from_micros(300)), HandlerOutcome::Success);
    metrics.handler_completed("a", 1, Some(Duration::from_secs(60)), HandlerOutcome::Success);
    let scrape = scrape(&registry);
    let bucket = |le: &str| scrape[&format!("tickr_handler_duration_seconds_bucket{{event_type=\"a\",le=\"{le}\"}}")];
    assert_eq!([bucket("0.001"), bucket("30"), bucket("60"), bucket("3600"), bucket("+Inf")], [1.0, 1.0, 2.0, 2.0, 3.0]);
}

#[test]
fn dead_reclaimed_and_lost_move_their_counters_only() {
    let (registry, metrics) = registered();
    metrics.message_dead("a");
    assert_eq!(moved(&registry), series([("tickr_messages_dead_total{event_type=\"a\"}", 1.0)]));

    let (registry, metrics) = registered();
    metrics.lease_reclaimed("a", 7);
    assert_eq!(moved(&registry), series([("tickr_leases_reclaimed_total{event_type=\"a\"}", 7.0)]));

    let phases = [(LeaseLossPhase::Queued, "queued"), (LeaseLossPhase::Running, "running"), (LeaseLossPhase::Settling, "settling")];
    for (phase, label) in phases {
        let (registry, metrics) = registered();
        metrics.lease_lost("a", phase);
        let lost = format!("tickr_leases_lost_total{{event_type=\"a\",phase=\"{label}\"}}");
        assert_eq!(moved(&registry), series([(&*lost, 1.0)]));
    }
}

#[test]
fn a_claim_moves_its_histograms_and_the_fill() {
    let (registry, metrics) = registered();
    metrics.claim_batch(30, 100, HALF);
    metrics.claim_batch(0, 100, HALF);
    let expected = [
        ("tickr_claim_batch_size_count", 2.0),
        ("tickr_claim_batch_size_sum", 30.0),
        ("tickr_claim_duration_seconds_count", 2.0),
        ("tickr_claim_duration_seconds_sum", 1.0),
        ("tickr_claim_requested_messages_total", 200.0),
        ("tickr_claimed_messages_total", 30.0),
    ];
    assert_eq!(moved(&registry), series(expected));
    assert_eq!(scrape(&registry)["tickr_claim_batch_size_bucket{le=\"0\"}"], 1.0, "claims that found nothing");
}

#[test]
fn a_settle_moves_its_histograms_only() {
    let (registry, metrics) = registered();
    metrics.settle_batch(30, HALF);
    let expected = [
        ("tickr_settle_batch_size_count", 1.0),
        ("tickr_settle_batch_size_sum", 30.0),
        ("tickr_settle_duration_seconds_count", 1.0),
        ("tickr_settle_duration_seconds_sum", 0.5),
    ];
    assert_eq!(moved(&registry), series(expected));

    let (registry, metrics) = registered();
    metrics.settle_refused(4);
    assert_eq!(moved(&registry), series([("tickr_settle_refused_outcomes_total", 4.0)]));
}

#[test]
fn in_flight_is_what_was_said_last() {
    let (registry, metrics) = registered();
    metrics.in_flight(5);
    metrics.in_flight(3);
    assert_eq!(moved(&registry), series([("tickr_inflight_handlers", 3.0)]));
}

#[test]
fn any_event_type_is_escaped() {
    let (registry, metrics) = registered();
    metrics.message_enqueued("a\"b\\c\nd}é");
    assert_eq!(text(&registry).lines().filter(|line| line.contains("enqueued_total{")).count(), 1);
    assert!(text(&registry).contains(r#"tickr_messages_enqueued_total{event_type="a\"b\\c\nd}é"} 1"#));
}

#[test]
fn two_registries_do_not_mix() {
    let (registry, metrics) = registered();
    let (other_registry, other_metrics) = registered();
    metrics.message_enqueued("a");
    metrics.in_flight(2);
    other_metrics.message_enqueued("b");
    other_metrics.settle_refused(1);
    let expected = [("tickr_inflight_handlers", 2.0), ("tickr_messages_enqueued_total{event_type=\"a\"}", 1.0)];
    assert_eq!(moved(&registry), series(expected));
    let expected = [("tickr_messages_enqueued_total{event_type=\"b\"}", 1.0), ("tickr_settle_refused_outcomes_total", 1.0)];
    assert_eq!(moved(&other_registry), series(expected));
}

#[test]
fn a_registry_takes_the_metrics_once() {
    let (registry, metrics) = registered();
    assert!(matches!(PrometheusMetrics::register(&registry), Err(Error::AlreadyReg)));
    metrics.in_flight(1);
    assert_eq!(scrape(&registry)["tickr_inflight_handlers"], 1.0, "the first goes on");
}

#[test]
fn a_registry_takes_all_metrics_or_none() {
    let registry = Registry::new();
    registry.register(Box::new(IntGauge::new("tickr_inflight_handlers", "of somebody else").unwrap())).unwrap();
    assert!(PrometheusMetrics::register(&registry).is_err());
    assert_eq!(scrape(&registry).len(), 1);
}

#[test]
fn a_label_keeps_two_workers_of_one_registry_apart() {
    let registry = Registry::new();
    let register = |worker: &str| PrometheusMetrics::builder().label("worker", worker).register(&registry).unwrap();
    let (mail, billing) = (register("mail"), register("billing"));
    mail.in_flight(2);
    billing.in_flight(3);
    let expected = [("tickr_inflight_handlers{worker=\"billing\"}", 3.0), ("tickr_inflight_handlers{worker=\"mail\"}", 2.0)];
    assert_eq!(moved(&registry), series(expected));
    assert!(PrometheusMetrics::builder().label("no name", "x").register(&Registry::new()).is_err());
}

#[test]
fn duration_buckets_are_checked_when_they_are_registered() {
    let register = |buckets: &[f64]| PrometheusMetrics::builder().duration_buckets(buckets.to_vec()).register(&Registry::new());
    for bad in [&[][..], &[2.0, 1.0], &[1.0, 1.0], &[f64::NAN], &[1.0, f64::NAN]] {
        assert!(register(bad).is_err(), "{bad:?}");
    }
    let registry = Registry::new();
    let metrics = PrometheusMetrics::builder().duration_buckets(vec![0.2, 2.0]).register(&registry).unwrap();
    metrics.handler_completed("a", 1, Some(HALF), HandlerOutcome::Success);
    let bounds: Vec<String> = scrape(&registry).into_keys().filter(|series| series.contains("handler_duration_seconds_bucket")).collect();
    assert_eq!(bounds.len(), 3);
}

#[test]
fn every_metric_says_what_it_counts() {
    let (registry, metrics) = registered();
    metrics.message_enqueued("a");
    metrics.handler_started("a", 1);
    metrics.queue_sampled(&tickr_core::Stats::new(
        vec![tickr_core::TypeStats::new(tickr_core::EventType::new("a").unwrap())],
        tickr_core::Timestamp::from_micros(1),
    ));
    let families = registry.gather();
    assert_eq!(families.len(), 22);
    for family in families {
        let (name, is_counter) = (family.name(), family.get_field_type() == prometheus::proto::MetricType::COUNTER);
        assert!(name.starts_with("tickr_"), "{name}");
        assert!(family.help().len() > 30 && family.help().ends_with('.'), "{name}");
        assert_eq!(is_counter, name.ends_with("_total"), "{name}");
    }
}
