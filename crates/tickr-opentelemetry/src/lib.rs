#![doc = include_str!("../README.md")]

mod carrier;
mod keys;
mod metrics;
mod span;
mod tracer;
mod w3c;

pub use metrics::{OtelMetrics, OtelMetricsBuilder};
pub use tracer::{EngineSpans, Links, OtelTracer, OtelTracerBuilder};
