//! What messages cost that are not sampled.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tickr_core::{Bytes, Client, EventType, InboundMessage, MemoryStorage, Message, MessageId, StoredMessage, Timestamp, Tracer, Worker};
use tickr_opentelemetry::{Links, OtelTracer};

use super::support::{Traces, assert_exactly, client, memory, nothing, worker};

fn message(flags: &str, others: &[(&str, &str)]) -> InboundMessage {
    let event_type = EventType::new("order.created").unwrap();
    let mut stored = StoredMessage::new(MessageId::new(), event_type, Bytes::new(), Timestamp::now());
    stored.headers.insert("traceparent", format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}"));
    others.iter().for_each(|(name, value)| drop(stored.headers.insert(*name, *value)));
    InboundMessage::new(stored, 1, 25, None)
}

#[tokio::test]
async fn nothing_is_recorded_of_messages_whose_producer_was_not_sampled() {
    let (storage, traces) = (memory(), Traces::new());
    {
        let remote = SpanContext::new(TraceId::from(1), SpanId::from(2), TraceFlags::default(), true, TraceState::NONE);
        let _current = Context::new().with_remote_span_context(remote).attach();
        client(&storage, &traces).enqueue_all((0..500).map(|_| Message::new("a", ""))).await.unwrap();
    }
    let worker = worker(&storage).tracer(traces.tracer()).on("a", nothing).build().unwrap();
    assert_eq!(worker.run_until_idle().await.unwrap().succeeded, 500);
    assert_eq!(traces.all().len(), 0);
}

#[tokio::test]
async fn a_sampler_that_records_them_all_the_same_gets_everything() {
    let (storage, traces) = (memory(), Traces::sampled(Sampler::AlwaysOn));
    let parent = Message::new("a", "").header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
    let id = Client::new(storage.clone()).enqueue(parent).await.unwrap().id();
    worker(&storage).tracer(traces.tracer()).on("a", nothing).build().unwrap().run_until_idle().await.unwrap();
    let process = traces.one("process a");
    assert_eq!(process.parent_span_id, SpanId::from(0xb7ad_6b71_6920_3331));
    assert_exactly(
        &process,
        &SpanKind::Consumer,
        &[
            ("messaging.destination.name", "a"),
            ("messaging.message.id", &id.to_string()),
            ("messaging.operation.name", "process"),
            ("messaging.operation.type", "process"),
            ("messaging.system", "tickr"),
            ("tickr.message.attempt", "1"),
        ],
    );
}

#[test]
fn the_decision_not_to_sample_goes_on_to_what_a_handler_enqueues() {
    let traces = Traces::new();
    let tracer = traces.tracer();
    let span = tracer.start_handler_span(&[&message("00", &[])]);
    let mut headers = tickr_core::Headers::new();
    span.scope(&mut || {
        let send = tracer.start_enqueue_span(&["a"], 1);
        tracer.inject_headers(&*send, &mut headers);
    });
    let parent = headers.get("traceparent").unwrap();
    assert!(parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && parent.ends_with("-00"), "{parent}");
    drop(span);
    assert_eq!(traces.all().len(), 0);
}

/// `cargo test --release -p tickr-opentelemetry --test otel -- --ignored --nocapture --test-threads 1 cost`
#[test]
#[ignore = "measures"]
fn costs() {
    let traces = SdkTracerProvider::builder().with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.01)))).build();
    let tracer = OtelTracer::new(&traces);
    let linking = OtelTracer::builder(&traces).links(Links::Always).build();
    let baggage = [("tracestate", "vendor=x"), ("baggage", "customer=gold,region=eu")];
    measure("unsampled", &tracer, &message("00", &[]));
    measure("unsampled, tracestate and baggage", &tracer, &message("00", &baggage));
    measure("sampled, no processor", &tracer, &message("01", &[]));
    measure("linked, 1 % sampled", &linking, &message("00", &[]));
}

/// What a message costs a worker that does nothing but call handlers that do nothing, at one sampled message of a hundred: the time of
/// all processors, which other processes disturb less than the speed.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn drains() {
    let traces = SdkTracerProvider::builder()
        .with_batch_exporter(opentelemetry_sdk::trace::InMemorySpanExporter::default())
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.01))))
        .build();
    let tracer = Arc::new(OtelTracer::new(&traces));
    let (mut bare, mut traced) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..7 {
        bare = bare.min(drain(None).await);
        traced = traced.min(drain(Some(tracer.clone())).await);
    }
    report(&format!("{bare:.2} us without a tracer, {traced:.2} us with one: {:.2}", bare / traced));
}

/// Microseconds of processors per message.
#[cfg(target_os = "linux")]
async fn drain(tracer: Option<Arc<dyn Tracer>>) -> f64 {
    const MESSAGES: u32 = 200_000;
    let storage = MemoryStorage::new();
    let queue = Client::new(storage.clone());
    for chunk in 0..MESSAGES / 1_000 {
        let messages = (0..1_000_u32).map(|n| {
            let (trace, flags) = (u128::from(chunk * 1_000 + n + 1), u8::from(n.is_multiple_of(100)));
            Message::new("order.created", "7").header("traceparent", format!("00-{trace:032x}-00f067aa0ba902b7-{flags:02x}"))
        });
        queue.enqueue_all(messages).await.unwrap();
    }
    let mut worker = Worker::builder(storage).on("order.created", nothing);
    if let Some(tracer) = tracer {
        worker = worker.tracer(tracer);
    }
    let worker = worker.build().unwrap();
    let before = ticks();
    assert_eq!(worker.run_until_idle().await.unwrap().succeeded, u64::from(MESSAGES));
    // A tick is 10 ms.
    (ticks() - before) * 10_000.0 / f64::from(MESSAGES)
}

/// What this process has used of processors.
#[cfg(target_os = "linux")]
fn ticks() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum()
}

fn measure(name: &str, tracer: &dyn Tracer, message: &InboundMessage) {
    const ROUNDS: u32 = 1_000_000;
    let mut best = u128::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        for _ in 0..ROUNDS {
            let span = tracer.start_handler_span(&[black_box(message)]);
            span.scope(&mut || black_box(()));
            span.end(None);
        }
        best = best.min(started.elapsed().as_nanos() / u128::from(ROUNDS));
    }
    report(&format!("{name}: {best} ns per message"));
}

#[expect(clippy::print_stdout, reason = "to be read is what it is there for")]
fn report(line: &str) {
    println!("{line}");
}
