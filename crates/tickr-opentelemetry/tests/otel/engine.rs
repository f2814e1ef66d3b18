//! Spans of claims and settles.

use opentelemetry::trace::SpanKind;
use tickr_core::{Error, ErrorKind, Message, Tracer};
use tickr_opentelemetry::EngineSpans;

use super::support::{Traces, assert_exactly, assert_root, attributes, client, memory, ms, nothing, worker};

#[tokio::test(start_paused = true)]
async fn an_idle_worker_records_nothing() {
    let (storage, traces) = (memory(), Traces::new());
    let worker = worker(&storage).tracer(traces.tracer()).on("a", nothing).build().unwrap().spawn();
    tokio::time::sleep(ms(600_000)).await;
    worker.shutdown();
    worker.join().await.unwrap();
    assert_eq!(traces.all().len(), 0);
}

#[tokio::test]
async fn all_are_recorded_when_asked_for_each_in_a_trace_of_its_own() {
    let (storage, traces) = (memory(), Traces::new());
    client(&storage, &traces).enqueue_all([Message::new("a", ""), Message::new("a", "")]).await.unwrap();
    let tracer = traces.tracer_with(|builder| builder.engine_spans(EngineSpans::All));
    worker(&storage).tracer(tracer).on("a", nothing).build().unwrap().run_until_idle().await.unwrap();
    let receive = [
        ("messaging.client.id", "w"),
        ("messaging.operation.name", "receive"),
        ("messaging.operation.type", "receive"),
        ("messaging.system", "tickr"),
    ];
    let claims = traces.named("receive");
    assert!(!claims.is_empty());
    for claim in &claims {
        assert_root(claim);
        assert_exactly(claim, &SpanKind::Client, &receive);
    }
    let settle = traces.named("settle").remove(0);
    assert_root(&settle);
    let count = attributes(&settle.attributes).remove(0);
    assert_eq!(count.0, "messaging.batch.message_count");
    assert_exactly(
        &settle,
        &SpanKind::Client,
        &[
            ("messaging.batch.message_count", &count.1),
            ("messaging.client.id", "w"),
            ("messaging.operation.name", "settle"),
            ("messaging.operation.type", "settle"),
            ("messaging.system", "tickr"),
        ],
    );
}

#[test]
fn failed_ones_are_recorded_unless_all_are_off() {
    let error = Error::new(ErrorKind::Unavailable, "gone");
    for (spans, wanted) in [(None, 2), (Some(EngineSpans::Failed), 2), (Some(EngineSpans::All), 5), (Some(EngineSpans::Off), 0)] {
        let traces = Traces::new();
        let tracer = traces.tracer_with(|builder| spans.into_iter().fold(builder, |builder, spans| builder.engine_spans(spans)));
        let before = std::time::SystemTime::now() - ms(1);
        let late = tracer.start_claim_span("w");
        std::thread::sleep(ms(5));
        late.end(Some(&error));
        tracer.start_settle_span("w", 3).end(Some(&error));
        tracer.start_claim_span("w").end(None);
        tracer.start_settle_span("w", 3).end(None);
        drop(tracer.start_claim_span("w"));
        assert_eq!(traces.all().len(), wanted, "{spans:?}");
        if let Some(first) = traces.named("receive").first() {
            assert!(first.start_time >= before && first.end_time.duration_since(first.start_time).unwrap() >= ms(4), "{first:?}");
            assert!(attributes(&first.attributes).contains(&("error.type".to_owned(), "unavailable".to_owned())));
        }
    }
}
