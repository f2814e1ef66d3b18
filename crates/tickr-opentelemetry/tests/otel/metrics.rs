//! What the instruments count.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use tickr_core::{Client, Count, EventType, Failure, HandlerOutcome, LeaseLossPhase, Message, Metrics, Stats, Timestamp, TypeStats};
use tickr_opentelemetry::{OtelMetrics, OtelMetricsBuilder};

use super::support::{memory, ms, worker};

/// A meter provider, and what it exported.
struct Meters {
    provider: SdkMeterProvider,
    exporter: InMemoryMetricExporter,
}

/// `name{attribute=value,..}`, and the number (of a histogram: how many, and their sum).
type Numbers = BTreeMap<String, String>;

impl Meters {
    fn new() -> Self {
        let exporter = InMemoryMetricExporter::default();
        let provider = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter.clone()).build()).build();
        Self { provider, exporter }
    }

    fn metrics(&self) -> OtelMetrics {
        self.metrics_with(|builder| builder)
    }

    fn metrics_with(&self, options: impl FnOnce(OtelMetricsBuilder<'_>) -> OtelMetricsBuilder<'_>) -> OtelMetrics {
        options(OtelMetrics::builder(&self.provider.meter("tickr"))).build()
    }

    fn collect(&self) -> ResourceMetrics {
        self.exporter.reset();
        self.provider.force_flush().unwrap();
        self.exporter.get_finished_metrics().unwrap().pop().unwrap_or_default()
    }

    fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::new();
        for metric in self.collect().scope_metrics().flat_map(|scope| scope.metrics()) {
            match metric.data() {
                AggregatedMetrics::F64(data) => read(&mut numbers, metric.name(), data),
                AggregatedMetrics::U64(data) => read(&mut numbers, metric.name(), data),
                AggregatedMetrics::I64(data) => read(&mut numbers, metric.name(), data),
            }
        }
        numbers
    }
}

fn read<T: Copy + std::fmt::Display>(numbers: &mut Numbers, name: &str, data: &MetricData<T>) {
    let points: Vec<(Vec<&KeyValue>, String)> = match data {
        MetricData::Gauge(gauge) => gauge.data_points().map(|p| (p.attributes().collect(), p.value().to_string())).collect(),
        MetricData::Sum(sum) => {
            assert!(sum.is_monotonic());
            sum.data_points().map(|p| (p.attributes().collect(), p.value().to_string())).collect()
        }
        MetricData::Histogram(histogram) => {
            histogram.data_points().map(|p| (p.attributes().collect(), format!("{} of {}", p.count(), p.sum()))).collect()
        }
        MetricData::ExponentialHistogram(_) => panic!("{name} has explicit buckets"),
    };
    for (attributes, value) in points {
        let mut attributes: Vec<_> = attributes.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect();
        attributes.sort();
        numbers.insert(format!("{name}{{{}}}", attributes.join(",")), value);
    }
}

fn numbers(wanted: &[(&str, &str)]) -> Numbers {
    wanted.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn stats(types: impl IntoIterator<Item = TypeStats>) -> Stats {
    Stats::new(types.into_iter().collect(), Timestamp::from_micros(0))
}

fn type_stats(name: &str, change: impl FnOnce(&mut TypeStats)) -> TypeStats {
    let mut stats = TypeStats::new(EventType::new(name).unwrap());
    change(&mut stats);
    stats
}

fn n(n: u64) -> Count {
    Count::cut(n, u32::MAX)
}

#[test]
fn every_instrument_moves() {
    let meters = Meters::new();
    let metrics = meters.metrics();
    metrics.message_enqueued("a");
    metrics.message_enqueued("a");
    metrics.handler_started("a", 1);
    metrics.handler_completed("a", 1, Some(ms(1_500)), HandlerOutcome::Success);
    metrics.handler_completed("a", 2, Some(ms(500)), HandlerOutcome::Retry);
    metrics.handler_completed("a", 0, None, HandlerOutcome::Lost);
    metrics.message_dead("b");
    metrics.claim_batch(7, 10, ms(250));
    metrics.settle_batch(5, ms(125));
    metrics.settle_refused(3);
    metrics.lease_reclaimed("a", 4);
    metrics.lease_lost("a", LeaseLossPhase::Running);
    metrics.in_flight(9);
    metrics.in_flight(6);
    metrics.queue_sampled(&stats([type_stats("a", |a| {
        (a.created, a.retrying, a.handling, a.dead) = (n(1), n(2), n(3), n(4));
        (a.ready, a.oldest_ready, a.unserved) = (n(2), Some(ms(2_500)), true);
    })]));
    let wanted = numbers(&[
        ("tickr.messages.enqueued{event_type=a}", "2"),
        ("tickr.handler.attempts{event_type=a,outcome=success}", "1"),
        ("tickr.handler.attempts{event_type=a,outcome=retry}", "1"),
        ("tickr.handler.attempts{event_type=a,outcome=lost}", "1"),
        ("tickr.handler.duration{event_type=a}", "2 of 2"),
        ("tickr.messages.dead{event_type=b}", "1"),
        ("tickr.claim.batch.size{}", "1 of 7"),
        ("tickr.claim.requested{}", "10"),
        ("tickr.claim.duration{}", "1 of 0.25"),
        ("tickr.settle.batch.size{}", "1 of 5"),
        ("tickr.settle.duration{}", "1 of 0.125"),
        ("tickr.settle.refused{}", "3"),
        ("tickr.leases.reclaimed{event_type=a}", "4"),
        ("tickr.leases.lost{event_type=a,phase=running}", "1"),
        ("tickr.inflight.handlers{}", "6"),
        ("tickr.queue.depth{event_type=a,status=CREATED}", "1"),
        ("tickr.queue.depth{event_type=a,status=RETRYING}", "2"),
        ("tickr.queue.depth{event_type=a,status=HANDLING}", "3"),
        ("tickr.queue.depth{event_type=a,status=DEAD}", "4"),
        ("tickr.queue.ready{event_type=a}", "2"),
        ("tickr.queue.oldest.age{event_type=a}", "2.5"),
        ("tickr.unserved.messages{event_type=a}", "3"),
    ]);
    assert_eq!(meters.numbers(), wanted);
}

#[test]
fn every_instrument_has_its_unit_and_a_description() {
    let meters = Meters::new();
    let metrics = meters.metrics();
    metrics.message_enqueued("a");
    metrics.handler_completed("a", 1, Some(ms(1)), HandlerOutcome::Success);
    metrics.message_dead("a");
    metrics.claim_batch(1, 1, ms(1));
    metrics.settle_batch(1, ms(1));
    metrics.settle_refused(1);
    metrics.lease_reclaimed("a", 1);
    metrics.lease_lost("a", LeaseLossPhase::Queued);
    metrics.in_flight(1);
    metrics.queue_sampled(&stats([type_stats("a", |a| a.oldest_ready = Some(ms(1)))]));
    let collected = meters.collect();
    let found: Vec<_> = collected.scope_metrics().flat_map(|scope| scope.metrics()).collect();
    assert_eq!(found.len(), 17);
    // The table of the README is what users read.
    let readme = include_str!("../../README.md");
    for metric in found {
        let kind = match metric.data() {
            AggregatedMetrics::U64(MetricData::Sum(_)) => "counter",
            AggregatedMetrics::U64(MetricData::Gauge(_)) | AggregatedMetrics::F64(MetricData::Gauge(_)) => "gauge",
            AggregatedMetrics::U64(MetricData::Histogram(_)) | AggregatedMetrics::F64(MetricData::Histogram(_)) => "histogram",
            other => panic!("{} is {other:?}", metric.name()),
        };
        let row = format!("| `{}` | {kind} | `{}` |", metric.name(), metric.unit());
        assert!(readme.contains(&row), "{row}");
        assert!(metric.description().ends_with('.'), "{}", metric.name());
    }
}

#[test]
fn durations_have_buckets_of_seconds() {
    let meters = Meters::new();
    let metrics = meters.metrics_with(|builder| builder.handler_seconds([0.1, 1.0]));
    metrics.handler_completed("a", 1, Some(ms(500)), HandlerOutcome::Success);
    metrics.claim_batch(1, 1, ms(1));
    let collected = meters.collect();
    let bounds = |name: &str| {
        let mut metrics = collected.scope_metrics().flat_map(|scope| scope.metrics());
        let metric = metrics.find(|metric| metric.name() == name).unwrap();
        let AggregatedMetrics::F64(MetricData::Histogram(histogram)) = metric.data() else { panic!("a histogram") };
        let point = histogram.data_points().next().unwrap();
        (point.bounds().collect::<Vec<_>>(), point.bucket_counts().collect::<Vec<_>>())
    };
    assert_eq!(bounds("tickr.handler.duration"), (vec![0.1, 1.0], vec![0, 1, 0]));
    let (claims, _) = bounds("tickr.claim.duration");
    assert_eq!((claims[0], claims[11]), (0.0005, 30.0));
}

#[test]
fn event_types_beyond_the_bound_are_other() {
    let meters = Meters::new();
    let metrics = meters.metrics_with(|builder| builder.event_types_max(2));
    for event_type in ["a", "b", "c", "d", "a"] {
        metrics.message_enqueued(event_type);
        metrics.handler_completed(event_type, 1, Some(ms(1_000)), HandlerOutcome::Success);
    }
    let waiting = |name: &str, created, oldest| {
        type_stats(name, |stats| (stats.created, stats.oldest_ready, stats.unserved) = (n(created), Some(ms(oldest)), true))
    };
    metrics.queue_sampled(&stats([waiting("a", 1, 1_000), waiting("c", 2, 3_000), waiting("d", 3, 2_000), type_stats("e", |_| {})]));
    let numbers = meters.numbers();
    for (name, value) in [
        ("tickr.messages.enqueued{event_type=a}", "2"),
        ("tickr.messages.enqueued{event_type=b}", "1"),
        ("tickr.messages.enqueued{event_type=other}", "2"),
        ("tickr.handler.attempts{event_type=other,outcome=success}", "2"),
        ("tickr.handler.duration{event_type=other}", "2 of 2"),
        ("tickr.queue.depth{event_type=a,status=CREATED}", "1"),
        ("tickr.queue.depth{event_type=other,status=CREATED}", "5"),
        ("tickr.queue.oldest.age{event_type=other}", "3"),
        ("tickr.unserved.messages{event_type=other}", "5"),
    ] {
        assert_eq!(numbers.get(name).map(String::as_str), Some(value), "{name} in {numbers:#?}");
    }
    let types = |prefix: &str| numbers.keys().filter(|name| name.starts_with(prefix)).count();
    assert_eq!((types("tickr.messages.enqueued"), types("tickr.queue.oldest.age")), (3, 2));
}

#[test]
fn a_hundred_event_types_are_told_apart_by_default() {
    let meters = Meters::new();
    let metrics = meters.metrics();
    (0..150).for_each(|n| metrics.message_enqueued(&format!("type-{n}")));
    let numbers = meters.numbers();
    assert_eq!((numbers.len(), numbers["tickr.messages.enqueued{event_type=other}"].as_str()), (101, "50"));
}

#[test]
fn a_type_that_is_gone_vanishes_from_the_gauges() {
    let meters = Meters::new();
    let metrics = meters.metrics();
    let waiting = |name: &str| type_stats(name, |stats| (stats.created, stats.oldest_ready) = (n(1), Some(ms(1_000))));
    metrics.queue_sampled(&stats([waiting("a"), waiting("b")]));
    assert_eq!(meters.numbers().len(), 2 * (4 + 1 + 1 + 1));
    metrics.queue_sampled(&stats([waiting("b")]));
    let numbers = meters.numbers();
    assert_eq!(numbers["tickr.unserved.messages{event_type=b}"], "0", "somebody handles it");
    assert!(numbers.len() == 7 && numbers.keys().all(|name| name.contains("event_type=b")), "{numbers:#?}");
    metrics.queue_sampled(&stats([]));
    assert_eq!(meters.numbers(), Numbers::new());
}

#[test]
fn the_gauges_fall_silent_with_the_metrics() {
    let meters = Meters::new();
    let metrics = meters.metrics();
    metrics.queue_sampled(&stats([type_stats("a", |a| a.created = n(1))]));
    assert_ne!(meters.numbers(), Numbers::new());
    drop(metrics);
    assert_eq!(meters.numbers(), Numbers::new());
}

#[tokio::test(start_paused = true)]
async fn a_client_and_a_worker_count() {
    async fn handle(context: tickr_core::Context) -> Result<(), Failure> {
        tokio::time::sleep(ms(1_000)).await;
        if context.payload() == "fail" { Err(Failure::dead("no")) } else { Ok(()) }
    }
    let (storage, meters) = (memory(), Meters::new());
    let metrics = Arc::new(meters.metrics());
    let client = Client::builder(storage.clone()).metrics(metrics.clone()).build();
    client.enqueue_all([Message::new("a", ""), Message::new("a", "fail"), Message::new("nobody", "")]).await.unwrap();
    let worker = worker(&storage).metrics(metrics).stats_interval(Some(ms(1_000))).on("a", handle).build().unwrap().spawn();
    tokio::time::sleep(ms(60_000)).await;
    let numbers = meters.numbers();
    worker.shutdown();
    worker.join().await.unwrap();
    for (name, value) in [
        ("tickr.messages.enqueued{event_type=a}", "2"),
        ("tickr.messages.enqueued{event_type=nobody}", "1"),
        ("tickr.handler.attempts{event_type=a,outcome=success}", "1"),
        ("tickr.handler.attempts{event_type=a,outcome=dead}", "1"),
        ("tickr.handler.duration{event_type=a}", "2 of 2"),
        ("tickr.messages.dead{event_type=a}", "1"),
        ("tickr.inflight.handlers{}", "0"),
        ("tickr.queue.depth{event_type=a,status=DEAD}", "1"),
        ("tickr.queue.depth{event_type=nobody,status=CREATED}", "1"),
        ("tickr.unserved.messages{event_type=nobody}", "1"),
    ] {
        assert_eq!(numbers.get(name).map(String::as_str), Some(value), "{name} in {numbers:#?}");
    }
    for name in ["tickr.claim.batch.size{}", "tickr.claim.requested{}", "tickr.settle.batch.size{}", "tickr.settle.duration{}"] {
        assert!(numbers.contains_key(name), "{name}");
    }
}
