//! What spans say of failures.

use std::error::Error as _;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex};

use opentelemetry::Context;
use opentelemetry::trace::{Status, TraceContextExt};
use opentelemetry_sdk::trace::SpanData;
use tickr_core::{AttemptError, Batch, Error, ErrorKind, Failure, Handler, InboundMessage, Message, Outcome, Raw, State, Tracer, Verdict};
use tickr_opentelemetry::EngineSpans;

use super::support::{Traces, attributes, client, memory, ms, worker};

#[track_caller]
fn assert_failed(span: &SpanData, kind: &str, text: &str) {
    assert_eq!(span.status, Status::error(text.to_owned()));
    assert!(attributes(&span.attributes).contains(&("error.type".to_owned(), kind.to_owned())), "{:?}", span.attributes);
    assert_eq!(span.events.len(), 1);
    assert_eq!(span.events[0].name, "exception");
    let wanted = [("exception.message", text), ("exception.type", kind)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(attributes(&span.events[0].attributes), wanted);
}

#[derive(Debug)]
struct Outer(std::num::ParseIntError);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("outer")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

async fn by_type(context: tickr_core::Context) -> Result<Outcome, Failure> {
    match context.message().event_type.as_str() {
        "fails" => Err(Failure::new(Outer("x".parse::<i32>().unwrap_err()))),
        "panics" => panic!("bang"),
        "hangs" => pending().await,
        "skips" => Ok(Outcome::skip("nothing to do")),
        "snoozes" if context.attempt() == 1 => Ok(Outcome::snooze(ms(10_000))),
        _ => Ok(Outcome::Done),
    }
}

async fn attempt(event_type: &str) -> Traces {
    let (storage, traces) = (memory(), Traces::new());
    client(&storage, &traces).enqueue(Message::new(event_type, "")).await.unwrap();
    let worker = worker(&storage).tracer(traces.tracer()).on(event_type, by_type.max_attempts(1).timeout(ms(100)));
    worker.build().unwrap().run_until_idle().await.unwrap();
    traces
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_with_its_causes() {
    assert_failed(&attempt("fails").await.one("process fails"), "failed", "outer: invalid digit found in string");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_told() {
    assert_failed(&attempt("panics").await.one("process panics"), "panicked", "handler panicked: bang");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_told() {
    assert_failed(&attempt("hangs").await.one("process hangs"), "timed_out", "timed out");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_cancelled_is_told() {
    let (storage, traces) = (memory(), Traces::new());
    client(&storage, &traces).enqueue(Message::new("hangs", "")).await.unwrap();
    let worker = worker(&storage).tracer(traces.tracer()).on("hangs", by_type.no_timeout()).build().unwrap().spawn();
    while worker.health().running == 0 {
        tokio::time::sleep(ms(10)).await;
    }
    worker.shutdown_now();
    worker.join().await.unwrap();
    assert_failed(&traces.one("process hangs"), "cancelled", "cancelled");
}

#[tokio::test(start_paused = true)]
async fn to_skip_or_snooze_is_no_failure() {
    for event_type in ["skips", "snoozes"] {
        let span = attempt(event_type).await.one(&format!("process {event_type}"));
        assert_eq!((span.status, span.events.len()), (Status::Unset, 0));
    }
}

#[tokio::test]
async fn a_batch_tells_the_first_failure_of_its_members() {
    async fn second_fails(batch: Batch<Raw>) -> Vec<Verdict> {
        (0..batch.len()).map(|n| if n == 1 { Err(Failure::dead("the second")) } else { Ok(Outcome::Done) }).collect()
    }
    let (storage, traces) = (memory(), Traces::new());
    client(&storage, &traces).enqueue_all((0..3).map(|_| Message::new("a", ""))).await.unwrap();
    worker(&storage).tracer(traces.tracer()).on_batch("a", second_fails).build().unwrap().run_until_idle().await.unwrap();
    assert_failed(&traces.one("process a"), "failed", "the second");
}

#[test]
fn errors_of_the_storage_are_told_by_their_kind_and_without_their_causes() {
    let kinds = [
        (ErrorKind::Config, "config"),
        (ErrorKind::Unsupported, "unsupported"),
        (ErrorKind::NotFound, "not_found"),
        (ErrorKind::Conflict, "conflict"),
        (ErrorKind::LeaseLost, "lease_lost"),
        (ErrorKind::Unavailable, "unavailable"),
        (ErrorKind::Indeterminate, "indeterminate"),
        (ErrorKind::Codec, "codec"),
        (ErrorKind::Migration, "migration"),
        (ErrorKind::Corrupt, "corrupt"),
        (ErrorKind::Closed, "closed"),
        (ErrorKind::Internal, "internal"),
    ];
    for (kind, name) in kinds {
        let traces = Traces::new();
        let error = Error::new(kind, "insert").with_source("key (card)=(4711)");
        assert!(error.source().is_some());
        traces.tracer().start_enqueue_span(&["a"], 1).end(Some(&error));
        assert_failed(&traces.one("send a"), name, &error.to_string());
    }
}

#[test]
fn an_error_of_no_known_type_has_the_type_of_the_conventions() {
    let traces = Traces::new();
    traces.tracer().start_enqueue_span(&["a"], 1).end(Some(&fmt::Error));
    assert_failed(&traces.one("send a"), "_OTHER", &fmt::Error.to_string());
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let traces = Traces::new();
    let text = format!("x{}", "\u{e4}".repeat(5_000));
    traces.tracer_with(|builder| builder.engine_spans(EngineSpans::All)).start_claim_span("w").end(Some(&AttemptError::Failed(text)));
    let Status::Error { description } = traces.one("receive").status else { panic!("an error") };
    assert_eq!(description, format!("x{} ... (cut)", "\u{e4}".repeat(2_047)));
}

#[test]
fn a_span_that_is_dropped_ends_without_a_verdict_even_if_its_context_lives_on() {
    let traces = Traces::new();
    let span = traces.tracer().start_handler_span(&[&message()]);
    let kept = Arc::new(Mutex::new(None));
    span.scope(&mut || *kept.lock().unwrap() = Some(Context::current()));
    assert_eq!(traces.all().len(), 0);
    drop(span);
    assert_eq!(traces.one("process a").status, Status::Unset);
    drop(kept);
    assert_eq!(traces.all().len(), 1, "it ends once");
}

#[tokio::test]
async fn a_panic_in_a_handler_leaves_no_context_behind() {
    async fn look(State(seen): State<Arc<Mutex<Vec<bool>>>>, context: tickr_core::Context) {
        seen.lock().unwrap().push(Context::map_current(TraceContextExt::has_active_span));
        assert!(context.payload() != "panic", "bang");
    }
    let (storage, traces, seen) = (memory(), Traces::new(), Arc::new(Mutex::new(Vec::<bool>::new())));
    client(&storage, &traces).enqueue_all([Message::new("a", "panic"), Message::new("a", "")]).await.unwrap();
    let worker = worker(&storage).tracer(traces.tracer()).state(Arc::clone(&seen)).on("a", look.max_attempts(1));
    worker.build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [true, true]);
    assert!(Context::map_current(|current| !current.has_active_span()));
}

fn message() -> InboundMessage {
    use tickr_core::{Bytes, EventType, MessageId, StoredMessage, Timestamp};
    let now = Timestamp::now();
    InboundMessage::new(StoredMessage::new(MessageId::new(), EventType::new("a").unwrap(), Bytes::new(), now), 1, 3, None)
}
