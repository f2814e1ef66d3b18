//! The tracer.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::baggage::{BaggageExt, KeyValueMetadata};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{
    Link, Span as OtelApiSpan, SpanBuilder, SpanContext, SpanKind, TraceContextExt, Tracer as OtelApiTracer, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use tickr_core::{Headers, InboundMessage, Span, Timestamp, Tracer};

use crate::carrier::{self, Incoming, Outgoing};
use crate::keys;
use crate::span::{Late, Started};
use crate::w3c::W3c;

/// How the span of an attempt belongs to the span that enqueued its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Links {
    /// A child for a message that was due at once, so that one trace shows the whole; a link from a trace of its own for
    /// a message with a due time ([`at`](tickr_core::Message::at), [`after`](tickr_core::Message::after)), so that no
    /// trace lasts for days. All attempts of a message are treated alike.
    #[default]
    Auto,
    /// Always a link, from a trace of its own per attempt.
    Always,
    /// Always a child. The members of a batch have many parents, so that its span links them all the same.
    Never,
}

/// Which claims and settles get spans. They serve many messages at once, so that each is a trace of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EngineSpans {
    /// None.
    Off,
    /// Those that failed. The default: a worker that has nothing to do claims all the time, and would fill the backend
    /// with traces of nothing; how long claims and settles take is better told by [`OtelMetrics`](crate::OtelMetrics).
    #[default]
    Failed,
    /// All.
    All,
}

/// Traces enqueues, attempts and the engine's own operations by OpenTelemetry.
///
/// `T` is the tracer of the provider that it was made from; give it to clients and workers as `Arc<dyn Tracer>`.
pub struct OtelTracer<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    tracer: T,
    propagator: Box<dyn TextMapPropagator + Send + Sync>,
    links: Links,
    engine_spans: EngineSpans,
}

/// Builds an [`OtelTracer`].
#[must_use]
pub struct OtelTracerBuilder<T>(Inner<T>);

impl<T> OtelTracerBuilder<T> {
    /// Reads and writes the headers of messages with `propagator`. The default is W3C trace context (`traceparent`,
    /// `tracestate`) with W3C baggage.
    pub fn propagator(mut self, propagator: impl TextMapPropagator + Send + Sync + 'static) -> Self {
        self.0.propagator = Box::new(propagator);
        self
    }

    /// How attempts belong to the enqueues of their messages (default [`Links::Auto`]).
    pub const fn links(mut self, links: Links) -> Self {
        self.0.links = links;
        self
    }

    /// Which claims and settles get spans (default [`EngineSpans::Failed`]).
    pub const fn engine_spans(mut self, spans: EngineSpans) -> Self {
        self.0.engine_spans = spans;
        self
    }

    /// Builds the tracer.
    pub fn build(self) -> OtelTracer<T> {
        OtelTracer { inner: Arc::new(self.0) }
    }
}

impl<T> fmt::Debug for OtelTracerBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt("OtelTracerBuilder", f)
    }
}

impl<T> OtelTracer<T>
where
    T: OtelApiTracer<Span: OtelApiSpan + Send + Sync + 'static> + Send + Sync + 'static,
{
    /// A tracer with default options, on `provider` alone: nothing global is read or set.
    pub fn new(provider: &impl TracerProvider<Tracer = T>) -> Self {
        Self::builder(provider).build()
    }

    /// Starts to build a tracer on `provider`.
    pub fn builder(provider: &impl TracerProvider<Tracer = T>) -> OtelTracerBuilder<T> {
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_schema_url(keys::SCHEMA_URL)
            .build();
        OtelTracerBuilder(Inner {
            tracer: provider.tracer_with_scope(scope),
            propagator: Box::new(W3c::default()),
            links: Links::default(),
            engine_spans: EngineSpans::default(),
        })
    }

    /// A span of the engine itself, which no trace of the user has to do with.
    fn engine_span(&self, operation: &'static str, worker: &str, outcomes: Option<usize>) -> Box<dyn Span> {
        match self.inner.engine_spans {
            EngineSpans::Off => Box::new(()),
            EngineSpans::Failed => {
                let (inner, worker) = (Arc::clone(&self.inner), Arc::<str>::from(worker));
                let start = move |began| inner.start_engine_span(operation, &worker, outcomes, Some(began));
                Box::new(Late { start, began: Timestamp::now().into() })
            }
            EngineSpans::All => Box::new(self.inner.start_engine_span(operation, worker, outcomes, None)),
        }
    }
}

impl<T> fmt::Debug for OtelTracer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt("OtelTracer", f)
    }
}

impl<T> Inner<T> {
    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("propagator", &self.propagator)
            .field("links", &self.links)
            .field("engine_spans", &self.engine_spans)
            .finish_non_exhaustive()
    }

    /// What the producer of a message wrote into its headers, and nothing else: whatever context the worker was started
    /// in has nothing to do with the message.
    fn producer(&self, message: &InboundMessage) -> Context {
        if message.headers.is_empty() {
            return Context::new();
        }
        self.propagator.extract_with_context(&Context::new(), &Incoming(&message.headers))
    }
}

impl<T> Inner<T>
where
    T: OtelApiTracer<Span: OtelApiSpan + Send + Sync + 'static>,
{
    fn start_engine_span(&self, operation: &'static str, worker: &str, outcomes: Option<usize>, began: Option<SystemTime>) -> Started {
        let mut builder = SpanBuilder::from_name(operation).with_kind(SpanKind::Client);
        builder.start_time = began;
        builder.attributes = Some(operation_attributes(operation));
        let mut span = self.tracer.build_with_context(builder, &Context::new());
        if span.is_recording() {
            span.set_attribute(KeyValue::new(keys::CLIENT_ID, worker.to_owned()));
            if let Some(outcomes) = outcomes {
                span.set_attribute(count(outcomes));
            }
        }
        Started::new(span, &Context::new())
    }

    /// The span of an attempt at one message.
    fn start_attempt(&self, message: &InboundMessage) -> Started {
        let producer = self.producer(message);
        let origin = producer.span().span_context().clone();
        let linked = match self.links {
            Links::Auto => message.scheduled_at.is_some(),
            Links::Always => true,
            Links::Never => false,
        };
        let (parent, mut span) = if linked && origin.is_valid() {
            let mut builder = process(message);
            builder.links = Some(vec![Link::with_context(origin)]);
            let parent = only_baggage(&producer);
            let span = self.tracer.build_with_context(builder, &parent);
            (parent, span)
        } else if origin.is_valid() && !origin.is_sampled() {
            let span = self.start_unsampled(message, &producer);
            (producer, span)
        } else {
            let span = self.tracer.build_with_context(process(message), &producer);
            (producer, span)
        };
        if span.is_recording() {
            span.set_attribute(KeyValue::new(keys::MESSAGE_ID, message.id.to_string()));
            span.set_attribute(KeyValue::new(keys::MESSAGE_ATTEMPT, i64::from(message.attempt)));
        }
        Started::new(span, &parent)
    }

    /// The span of an attempt whose producer was not sampled. Hardly any sampler records it, so that the name and
    /// the attributes, which are three allocations, are not made before one does.
    fn start_unsampled(&self, message: &InboundMessage, producer: &Context) -> T::Span {
        let bare = SpanBuilder::from_name(PROCESS).with_kind(SpanKind::Consumer);
        let mut span = self.tracer.build_with_context(bare, producer);
        if span.is_recording() {
            let SpanBuilder { name, attributes, .. } = process(message);
            span.update_name(name);
            span.set_attributes(attributes.into_iter().flatten());
        }
        span
    }

    /// The span of an attempt at a batch: it cannot be the child of many, and whose baggage it should have nobody can say.
    fn start_batch_attempt(&self, first: &InboundMessage, messages: &[&InboundMessage]) -> Started {
        let mut builder = process(first);
        builder.links = Some(messages.iter().filter_map(|message| self.member_link(message)).collect());
        let mut span = self.tracer.build_with_context(builder, &Context::new());
        if span.is_recording() {
            span.set_attribute(count(messages.len()));
        }
        Started::new(span, &Context::new())
    }

    fn member_link(&self, message: &InboundMessage) -> Option<Link> {
        let producer = self.producer(message);
        let context: SpanContext = producer.span().span_context().clone();
        let attributes = || {
            vec![KeyValue::new(keys::MESSAGE_ID, message.id.to_string()), KeyValue::new(keys::MESSAGE_ATTEMPT, i64::from(message.attempt))]
        };
        context.is_valid().then(|| Link::new(context, attributes(), 0))
    }
}

impl<T> Tracer for OtelTracer<T>
where
    T: OtelApiTracer<Span: OtelApiSpan + Send + Sync + 'static> + Send + Sync + 'static,
{
    fn start_enqueue_span(&self, event_types: &[&str], messages: usize) -> Box<dyn Span> {
        let (name, destination) = match event_types {
            [event_type] => (["send ", event_type].concat().into(), Some((*event_type).to_owned())),
            _ => ("send".into(), None),
        };
        let mut attributes = operation_attributes("send");
        attributes.extend(destination.map(|destination| KeyValue::new(keys::DESTINATION_NAME, destination)));
        let mut builder = SpanBuilder::default().with_kind(SpanKind::Producer);
        builder.name = name;
        builder.attributes = Some(attributes);
        let current = Context::current();
        let mut span = self.inner.tracer.build_with_context(builder, &current);
        if messages != 1 && span.is_recording() {
            span.set_attribute(count(messages));
        }
        Box::new(Started::new(span, &current))
    }

    fn start_claim_span(&self, worker: &str) -> Box<dyn Span> {
        self.engine_span("receive", worker, None)
    }

    fn start_settle_span(&self, worker: &str, outcomes: usize) -> Box<dyn Span> {
        self.engine_span("settle", worker, Some(outcomes))
    }

    fn start_handler_span(&self, messages: &[&InboundMessage]) -> Box<dyn Span> {
        match messages {
            [] => Box::new(()),
            [message] => Box::new(self.inner.start_attempt(message)),
            [first, ..] => Box::new(self.inner.start_batch_attempt(first, messages)),
        }
    }

    fn inject_headers(&self, span: &dyn Span, headers: &mut Headers) {
        let Some(started) = span.as_any().downcast_ref::<Started>() else { return };
        let propagator = &self.inner.propagator;
        let outgoing = started.outgoing.get_or_init(|| {
            let mut outgoing = Outgoing::default();
            propagator.inject_context(started.context(), &mut outgoing);
            outgoing
        });
        let has_own_trace = carrier::has_own_trace(headers, propagator.fields());
        if has_own_trace {
            // The conventions: a context that the user gave a message stays, and the span that sends it links it.
            let own = propagator.extract_with_context(&Context::new(), &Incoming(headers));
            let own = own.span().span_context().clone();
            if own.is_valid() {
                started.span().add_link(own, Vec::new());
            }
        }
        outgoing.write(headers, has_own_trace);
    }
}

/// The name of the operation of a handler.
const PROCESS: &str = "process";

/// The span of an attempt, with what samplers may ask for.
fn process(message: &InboundMessage) -> SpanBuilder {
    let event_type = message.event_type.as_str();
    let mut attributes = operation_attributes(PROCESS);
    attributes.push(KeyValue::new(keys::DESTINATION_NAME, event_type.to_owned()));
    let mut builder = SpanBuilder::from_name(["process ", event_type].concat()).with_kind(SpanKind::Consumer);
    builder.attributes = Some(attributes);
    builder
}

/// What every span has, with room for what else one has.
fn operation_attributes(operation: &'static str) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(8);
    attributes.push(KeyValue::new(keys::SYSTEM, keys::TICKR));
    attributes.push(KeyValue::new(keys::OPERATION_NAME, operation));
    attributes.push(KeyValue::new(keys::OPERATION_TYPE, operation));
    attributes
}

fn count(messages: usize) -> KeyValue {
    KeyValue::new(keys::BATCH_MESSAGE_COUNT, i64::try_from(messages).unwrap_or(i64::MAX))
}

/// The baggage of a context without its span, so that a new trace starts there.
fn only_baggage(context: &Context) -> Context {
    let baggage = context.baggage();
    if baggage.is_empty() {
        return Context::new();
    }
    let entries = baggage.iter().map(|(key, (value, metadata))| KeyValueMetadata::new(key.clone(), value.clone(), metadata.clone()));
    Context::new().with_baggage(entries)
}
