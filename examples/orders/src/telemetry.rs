//! Logs, metrics and traces of the process. Nothing of it is global but the log.

use std::sync::Arc;

use anyhow::Result;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tickr::observe::{Metrics, Tracer};
use tickr::otel::OtelTracer;
use tickr::prom::{PrometheusMetrics, prometheus};
use tracing_subscriber::EnvFilter;

pub(crate) struct Telemetry {
    registry: prometheus::Registry,
    metrics: Arc<PrometheusMetrics>,
    traces: Option<Traces>,
}

struct Traces {
    provider: SdkTracerProvider,
    queue: Arc<OtelTracer<SdkTracer>>,
    service: Arc<SdkTracer>,
}

impl Telemetry {
    /// Spans are exported if the environment says where to: `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, and the
    /// other [standard variables](https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/), such as
    /// `OTEL_SERVICE_NAME` and `OTEL_TRACES_SAMPLER`. The protocol is `http/protobuf`.
    pub(crate) fn start(event_types: &[&str]) -> Result<Self> {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,tickr_core::engine=error"));
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
        let registry = prometheus::Registry::new();
        let metrics = PrometheusMetrics::builder().event_types(event_types.iter().copied()).register(&registry)?;
        let endpoints = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
        let asked = endpoints.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        let traces = if asked { Some(Traces::start()?) } else { None };
        Ok(Self { registry, metrics: Arc::new(metrics), traces })
    }

    pub(crate) fn registry(&self) -> prometheus::Registry {
        self.registry.clone()
    }

    pub(crate) fn metrics(&self) -> Arc<dyn Metrics> {
        Arc::clone(&self.metrics) as _
    }

    /// What the queue traces with.
    pub(crate) fn tracer(&self) -> Option<Arc<dyn Tracer>> {
        self.traces.as_ref().map(|traces| Arc::clone(&traces.queue) as _)
    }

    /// What the service traces its requests with.
    pub(crate) fn service_tracer(&self) -> Option<Arc<SdkTracer>> {
        self.traces.as_ref().map(|traces| Arc::clone(&traces.service))
    }

    /// Exports what is left.
    pub(crate) async fn end(self) {
        let Some(Traces { provider, .. }) = self.traces else { return };
        // It blocks until the exporter is through.
        match tokio::task::spawn_blocking(move || provider.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans may not be exported"),
            Err(error) => tracing::warn!(%error, "the last spans may not be exported"),
        }
    }
}

impl Traces {
    fn start() -> Result<Self> {
        let exporter = SpanExporter::builder().with_http().build()?;
        let mut resource = Resource::builder().with_attribute(KeyValue::new("process.pid", i64::from(std::process::id())));
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("orders");
        }
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
        let (queue, service) = (Arc::new(OtelTracer::new(&provider)), Arc::new(provider.tracer("orders")));
        Ok(Self { provider, queue, service })
    }
}
