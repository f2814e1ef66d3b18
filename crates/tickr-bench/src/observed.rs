//! Workers and clients that are observed: metrics for Prometheus, traces by OpenTelemetry whose exporter discards them.

use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use tickr::observe::{Metrics, Tracer};
use tickr::otel::OtelTracer;
use tickr::prom::{PrometheusMetrics, prometheus};

/// How much is observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Observed {
    /// Nothing.
    #[default]
    Nothing,
    /// Metrics.
    Metrics,
    /// Metrics, and of a hundred traces one: whoever begins a trace decides, and the others follow (parent-based).
    OnePercent,
    /// Metrics, and all traces.
    All,
}

impl Observed {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Metrics => "metrics",
            Self::OnePercent => "one-percent",
            Self::All => "all",
        }
    }

    pub(crate) fn metrics(self) -> Result<Option<Arc<dyn Metrics>>> {
        if self == Self::Nothing {
            return Ok(None);
        }
        let metrics: Arc<dyn Metrics> = Arc::new(PrometheusMetrics::register(&prometheus::Registry::new())?);
        Ok(Some(metrics))
    }

    pub(crate) fn tracer(self) -> Option<Arc<dyn Tracer>> {
        let sampler = match self {
            Self::Nothing | Self::Metrics => return None,
            Self::OnePercent => Sampler::TraceIdRatioBased(0.01),
            Self::All => Sampler::AlwaysOn,
        };
        let provider =
            SdkTracerProvider::builder().with_sampler(Sampler::ParentBased(Box::new(sampler))).with_batch_exporter(Discard).build();
        Some(Arc::new(OtelTracer::new(&provider)))
    }
}

/// What is sent over a network is the exporter's affair, and the collector's; what it costs to have spans is measured here.
#[derive(Debug)]
struct Discard;

impl SpanExporter for Discard {
    async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
        Ok(())
    }
}
