//! Which spans there are, and what they say.

use opentelemetry::Context;
use opentelemetry::trace::{SpanKind, TraceContextExt, Tracer as _, TracerProvider};
use opentelemetry_sdk::trace::SpanData;
use tickr_core::{Client, Failure, Handler, Headers, Message, Tracer};

use super::support::{Traces, assert_child, assert_exactly, assert_root, client, memory, nothing, worker};

#[tokio::test]
async fn a_producer_and_its_consumer_are_one_trace() {
    let (storage, traces) = (memory(), Traces::new());
    client(&storage, &traces).enqueue(Message::new("order.created", "7")).await.unwrap();
    worker(&storage).tracer(traces.tracer()).on("order.created", nothing).build().unwrap().run_until_idle().await.unwrap();
    let (send, process) = (traces.one("send order.created"), traces.one("process order.created"));
    assert_root(&send);
    assert_child(&process, &send);
    assert!(process.parent_span_is_remote && process.links.is_empty());
    assert!(send.start_time <= send.end_time && send.end_time <= process.end_time);
}

#[tokio::test]
async fn attributes_are_those_that_are_documented() {
    let (storage, traces) = (memory(), Traces::new());
    let message = Message::new("a", "7").tenant("t").ordering_key("o").idempotency_key("i").correlation_id("c").header("h", "v");
    let id = client(&storage, &traces).enqueue(message).await.unwrap().id();
    worker(&storage).tracer(traces.tracer()).on("a", nothing).build().unwrap().run_until_idle().await.unwrap();
    assert_exactly(
        &traces.one("send a"),
        &SpanKind::Producer,
        &[
            ("messaging.destination.name", "a"),
            ("messaging.operation.name", "send"),
            ("messaging.operation.type", "send"),
            ("messaging.system", "tickr"),
        ],
    );
    assert_exactly(
        &traces.one("process a"),
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

#[tokio::test]
async fn an_enqueue_of_many_is_one_span_with_their_number() {
    let (storage, traces) = (memory(), Traces::new());
    let client = client(&storage, &traces);
    client.enqueue_all([Message::new("a", ""), Message::new("a", "")]).await.unwrap();
    client.enqueue_all([Message::new("a", ""), Message::new("b", ""), Message::new("a", "")]).await.unwrap();
    let common = [("messaging.operation.name", "send"), ("messaging.operation.type", "send"), ("messaging.system", "tickr")];
    let one_type = [&[("messaging.batch.message_count", "2"), ("messaging.destination.name", "a")], &common[..]].concat();
    assert_exactly(&traces.one("send a"), &SpanKind::Producer, &one_type);
    let types = [&[("messaging.batch.message_count", "3")], &common[..]].concat();
    assert_exactly(&traces.one("send"), &SpanKind::Producer, &types);
    worker(&storage).tracer(traces.tracer()).on("a", nothing).build().unwrap().run_until_idle().await.unwrap();
    let sends = [traces.one("send a"), traces.one("send")].map(|span| span.span_context.span_id());
    let mut parents: Vec<_> = traces.named("process a").iter().map(|span| span.parent_span_id).collect();
    parents.sort_by_key(|parent| sends.iter().position(|send| send == parent));
    assert_eq!(parents, [sends[0], sends[0], sends[1], sends[1]]);
}

#[tokio::test]
async fn an_enqueue_is_a_child_of_the_current_span() {
    let (storage, traces) = (memory(), Traces::new());
    let request = traces.provider.tracer("app").start("request");
    let context = Context::current_with_span(request);
    {
        let _current = context.clone().attach();
        client(&storage, &traces).enqueue(Message::new("a", "")).await.unwrap();
    }
    context.span().end();
    assert_child(&traces.one("send a"), &traces.one("request"));
}

#[tokio::test]
async fn every_attempt_is_a_span_under_the_same_producer() {
    async fn third_time(context: tickr_core::Context) -> Result<(), Failure> {
        if context.attempt() < 3 { Err(Failure::retry_after(std::time::Duration::ZERO, "not yet")) } else { Ok(()) }
    }
    let (storage, traces) = (memory(), Traces::new());
    client(&storage, &traces).enqueue(Message::new("a", "")).await.unwrap();
    let worker = worker(&storage).tracer(traces.tracer()).on("a", third_time).build().unwrap();
    worker.run_until_idle().await.unwrap();
    let (send, attempts) = (traces.one("send a"), traces.named("process a"));
    attempts.iter().for_each(|attempt| assert_child(attempt, &send));
    let number = |span: &SpanData| span.attributes.iter().find(|a| a.key.as_str() == "tickr.message.attempt").unwrap().value.to_string();
    assert_eq!(attempts.iter().map(number).collect::<Vec<_>>(), ["1", "2", "3"]);
}

#[tokio::test]
async fn nothing_of_a_payload_a_key_or_a_header_is_exported() {
    async fn fail() -> Result<(), Failure> {
        Err(Failure::dead("no"))
    }
    async fn burst() {
        panic!("bang");
    }
    let secret = "4711-secret";
    let (storage, traces) = (memory(), Traces::new());
    let client = client(&storage, &traces);
    for event_type in ["ok", "fail", "panic", "batch", "batch"] {
        let message = Message::new(event_type, secret).header("h", secret).tenant(secret).organisation(secret).content_type(secret);
        client.enqueue(message.ordering_key(secret).correlation_id(secret)).await.unwrap();
    }
    client.enqueue(Message::new("ok", secret).idempotency_key(secret)).await.unwrap();
    let worker = worker(&storage)
        .tracer(traces.tracer_with(|builder| builder.engine_spans(tickr_opentelemetry::EngineSpans::All)))
        .on("ok", nothing)
        .on("fail", fail)
        .on("panic", burst.max_attempts(1))
        .on_batch("batch", async |_: tickr_core::Batch<tickr_core::Raw>| {});
    worker.build().unwrap().run_until_idle().await.unwrap();
    assert!(traces.all().len() >= 11, "{:?}", traces.all());
    let exported = format!("{:?}", traces.all());
    assert!(!exported.contains(secret), "{exported}");
}

#[tokio::test]
async fn two_providers_in_one_process_do_not_mix() {
    let (storage, producer, consumer) = (memory(), Traces::new(), Traces::new());
    client(&storage, &producer).enqueue(Message::new("a", "")).await.unwrap();
    worker(&storage).tracer(consumer.tracer()).on("a", nothing).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((producer.all().len(), consumer.all().len()), (1, 1));
    assert_child(&consumer.one("process a"), &producer.one("send a"));
}

#[tokio::test]
async fn an_enqueue_that_is_refused_ends_its_span() {
    let (storage, traces) = (memory(), Traces::new());
    client(&storage, &traces).enqueue(Message::new("", "")).await.unwrap_err();
    assert_eq!(traces.one("send ").status, opentelemetry::trace::Status::Unset);
}

#[tokio::test]
async fn without_a_tracer_no_header_is_written() {
    async fn bare(context: tickr_core::Context) -> Result<(), Failure> {
        if context.message().headers.is_empty() { Ok(()) } else { Err(Failure::dead("headers")) }
    }
    let storage = memory();
    Client::new(storage.clone()).enqueue(Message::new("a", "")).await.unwrap();
    let report = worker(&storage).on("a", bare).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(report.succeeded, 1);
}

#[test]
fn a_span_of_another_tracer_has_no_headers() {
    let mut headers = Headers::new();
    Traces::new().tracer().inject_headers(&(), &mut headers);
    assert!(headers.is_empty());
}
