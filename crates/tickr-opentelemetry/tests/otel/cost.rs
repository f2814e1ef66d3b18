//! What messages cost that are not sampled.

use std::hint::black_box;
use std::time::Instant;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tickr_core::{Bytes, EventType, InboundMessage, Message, MessageId, StoredMessage, Timestamp, Tracer};
use tickr_opentelemetry::{Links, OtelTracer};

use super::support::{Traces, client, memory, nothing, worker};

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
    let worker = worker(&storage).tracer(traces.tracer()).on("a", nothing, |o| o).build().unwrap();
    assert_eq!(worker.run_until_idle().await.unwrap().succeeded, 500);
    assert_eq!(traces.all().len(), 0);
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

/// `cargo test --release -p tickr-opentelemetry --test otel -- --ignored --nocapture costs`
#[test]
#[ignore = "measures"]
fn costs() {
    let traces = SdkTracerProvider::builder().with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.01)))).build();
    let tracer = OtelTracer::new(&traces);
    let never = OtelTracer::builder(&traces).links(Links::Always).build();
    let baggage = [("tracestate", "vendor=x"), ("baggage", "customer=gold,region=eu")];
    measure("unsampled", &tracer, &message("00", &[]));
    measure("unsampled, tracestate and baggage", &tracer, &message("00", &baggage));
    measure("sampled, no processor", &tracer, &message("01", &[]));
    measure("linked, 1 % sampled", &never, &message("00", &[]));
}

#[expect(clippy::print_stdout, reason = "to be read is what it is there for")]
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
    println!("{name}: {best} ns per message");
}
