#![doc = include_str!("../README.md")]

mod builder;
mod families;
mod metrics;
mod queue;
mod types;

pub use builder::PrometheusMetricsBuilder;
pub use metrics::PrometheusMetrics;
pub use prometheus;

#[cfg(test)]
mod tests;
