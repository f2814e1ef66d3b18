mod limits;
mod observability;
mod queue;
mod series;
mod worker;

use std::collections::BTreeMap;

use prometheus::{Registry, TextEncoder};

use crate::PrometheusMetrics;

/// Every sample of a scrape by its series, as the text format writes them.
type Scrape = BTreeMap<String, f64>;

fn registered() -> (Registry, PrometheusMetrics) {
    let registry = Registry::new();
    let metrics = PrometheusMetrics::register(&registry).unwrap();
    (registry, metrics)
}

fn text(registry: &Registry) -> String {
    TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
}

fn scrape(registry: &Registry) -> Scrape {
    let text = text(registry);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').unwrap()).map(|(series, value)| (series.to_owned(), value.parse().unwrap())).collect()
}

/// What is not zero, without the buckets of histograms.
fn moved(registry: &Registry) -> Vec<(String, f64)> {
    scrape(registry).into_iter().filter(|(series, value)| *value != 0.0 && !series.contains("_bucket{")).collect()
}

fn series<'a>(expected: impl IntoIterator<Item = (&'a str, f64)>) -> Vec<(String, f64)> {
    expected.into_iter().map(|(series, value)| (series.to_owned(), value)).collect()
}
