//! What the tests share: traces and metrics in memory, a queue, a worker.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracer, SdkTracerProvider, SpanData};
use tickr_core::{Client, Clock, MemoryStorage, Worker, WorkerBuilder};
use tickr_opentelemetry::{OtelTracer, OtelTracerBuilder};

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A provider, and what it exported.
pub(crate) struct Traces {
    pub(crate) provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
}

impl Traces {
    pub(crate) fn new() -> Self {
        Self::sampled(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
    }

    pub(crate) fn sampled(sampler: Sampler) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).with_sampler(sampler).build();
        Self { provider, exporter }
    }

    pub(crate) fn tracer(&self) -> Arc<OtelTracer<SdkTracer>> {
        self.tracer_with(|builder| builder)
    }

    pub(crate) fn tracer_with(
        &self,
        options: impl FnOnce(OtelTracerBuilder<SdkTracer>) -> OtelTracerBuilder<SdkTracer>,
    ) -> Arc<OtelTracer<SdkTracer>> {
        Arc::new(options(OtelTracer::builder(&self.provider)).build())
    }

    pub(crate) fn all(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().unwrap()
    }

    /// The spans of this name, in the order in which they ended.
    pub(crate) fn named(&self, name: &str) -> Vec<SpanData> {
        self.all().into_iter().filter(|span| span.name == name).collect()
    }

    /// The only span of this name.
    pub(crate) fn one(&self, name: &str) -> SpanData {
        let mut spans = self.named(name);
        assert_eq!(spans.len(), 1, "{name} among {:?}", self.all().iter().map(|span| &span.name).collect::<Vec<_>>());
        spans.remove(0)
    }
}

/// A queue whose time goes with the runtime's.
pub(crate) fn memory() -> MemoryStorage {
    MemoryStorage::builder().clock(Clock::runtime()).build()
}

pub(crate) fn client(storage: &MemoryStorage, traces: &Traces) -> Client<MemoryStorage> {
    Client::builder(storage.clone()).tracer(traces.tracer()).build()
}

/// A worker whose time goes with the runtime's.
pub(crate) fn worker(storage: &MemoryStorage) -> WorkerBuilder {
    Worker::builder(storage.clone()).clock(Clock::runtime()).seed(7).name("w")
}

pub(crate) async fn nothing() {}

/// Whether `span` is a child of `parent`.
#[track_caller]
pub(crate) fn assert_child(span: &SpanData, parent: &SpanData) {
    assert_eq!(span.span_context.trace_id(), parent.span_context.trace_id(), "the trace of {}", span.name);
    assert_eq!(span.parent_span_id, parent.span_context.span_id(), "the parent of {}", span.name);
}

/// Whether `span` has a trace of its own and links exactly these, in this order.
#[track_caller]
pub(crate) fn assert_linked(span: &SpanData, linked: &[&SpanData]) {
    assert_root(span);
    let links: Vec<_> = span.links.iter().map(|link| (link.span_context.trace_id(), link.span_context.span_id())).collect();
    let wanted: Vec<_> = linked.iter().map(|span| (span.span_context.trace_id(), span.span_context.span_id())).collect();
    assert_eq!(links, wanted, "the links of {}", span.name);
    assert!(wanted.iter().all(|(trace, _)| *trace != span.span_context.trace_id()), "a trace of its own");
}

#[track_caller]
pub(crate) fn assert_root(span: &SpanData) {
    assert_eq!(span.parent_span_id, opentelemetry::SpanId::INVALID, "{} has no parent", span.name);
}

/// Attributes by name.
pub(crate) fn attributes(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = attributes.iter().map(|pair| (pair.key.to_string(), pair.value.to_string())).collect();
    pairs.sort();
    pairs
}

/// Whether a span has this kind, exactly these attributes (in the order of their names), and no error.
#[track_caller]
pub(crate) fn assert_exactly(span: &SpanData, kind: &SpanKind, wanted: &[(&str, &str)]) {
    assert_eq!(&span.span_kind, kind);
    let wanted: Vec<_> = wanted.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(attributes(&span.attributes), wanted, "the attributes of {}", span.name);
    assert_eq!((&span.status, span.events.len()), (&Status::Unset, 0));
    let scope: &InstrumentationScope = &span.instrumentation_scope;
    assert_eq!((scope.name(), scope.version()), ("tickr-opentelemetry", Some(env!("CARGO_PKG_VERSION"))));
    assert_eq!(scope.schema_url(), Some("https://opentelemetry.io/schemas/1.42.0"));
}
