//! Traces over the wire: spans of two processes come together in one trace.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use tickr::sqlite::rusqlite::Connection;
use tokio::net::TcpListener;

use super::support::{Orders, eventually, folder};

/// A span, and the process that sent it.
#[derive(Clone, Debug)]
struct Received {
    pid: i64,
    service: String,
    span: Span,
}

/// An endpoint as collectors have it, for `http/protobuf`: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<Received>>>);

impl Receiver {
    /// Listens; gives the address for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let service = Router::new().route("/v1/traces", post(take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, service).await });
        address
    }

    fn find(&self, wanted: impl Fn(&Received) -> bool) -> Vec<Received> {
        self.0.lock().unwrap().iter().filter(|received| wanted(received)).cloned().collect()
    }

    /// Waits for so many spans of a name.
    async fn named(&self, name: &str, count: usize) -> Vec<Received> {
        let what = format!("{count} spans {name:?}");
        eventually(&what, async || Some(self.find(|received| received.span.name == name)).filter(|found| found.len() >= count)).await
    }
}

async fn take(State(Receiver(spans)): State<Receiver>, body: Bytes) -> Vec<u8> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut spans = spans.lock().unwrap();
    for resource in request.resource_spans {
        let attributes = resource.resource.unwrap().attributes;
        let Some(Value::IntValue(pid)) = attribute(&attributes, "process.pid") else { panic!("no process.pid") };
        let Some(Value::StringValue(service)) = attribute(&attributes, "service.name") else { panic!("no service.name") };
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Received { pid, service: service.clone(), span });
        }
    }
    Vec::new()
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<Value> {
    attributes.iter().find(|pair| pair.key == key)?.value.clone()?.value
}

fn text(span: &Span, key: &str) -> String {
    match attribute(&span.attributes, key) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key} of {} is {other:?}", span.name),
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_from_the_request_through_two_processes() {
    let (folder, receiver) = (folder(), Receiver::default());
    let endpoint = receiver.start().await;
    let database = folder.path().join("orders.db");
    let variables =
        |service| [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100"), ("OTEL_SERVICE_NAME", service)];
    let shop = Orders::start(&database, &["--role", "service"], &variables("shop"));
    let billing = Orders::start(&database, &["--role", "worker", "--receipt-ms", "300"], &variables("billing"));
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    shop.place("flaky", &[("traceparent", &traceparent), ("tracestate", "vendor=1")]).await;
    let is_from = |received: &Received, process: &Orders, service: &str| {
        received.pid == i64::from(process.process.id()) && received.service == service
    };

    let request = receiver.named("POST /orders", 1).await.remove(0);
    assert!(is_from(&request, &shop, "shop"));
    assert_eq!((hex(&request.span.trace_id), hex(&request.span.parent_span_id)), (TRACE.to_owned(), CALLER.to_owned()));

    let sent = receiver.named("send order.placed", 1).await.remove(0);
    assert!(is_from(&sent, &shop, "shop"));
    assert_eq!((&sent.span.trace_id, &sent.span.parent_span_id), (&request.span.trace_id, &request.span.span_id));
    assert_eq!(sent.span.kind(), SpanKind::Producer);
    assert_eq!(sent.span.trace_state, "vendor=1");
    for (key, value) in
        [("messaging.system", "tickr"), ("messaging.operation.type", "send"), ("messaging.destination.name", "order.placed")]
    {
        assert_eq!(text(&sent.span, key), value);
    }

    // Two attempts, of which the first failed, in the other process and the same trace.
    let mut attempts = receiver.named("process order.placed", 2).await;
    attempts.sort_by_key(|received| received.span.start_time_unix_nano);
    assert_eq!(attempts.len(), 2);
    for (number, received) in (1..).zip(&attempts) {
        let span = &received.span;
        assert!(is_from(received, &billing, "billing"));
        assert_eq!((&span.trace_id, &span.parent_span_id), (&sent.span.trace_id, &sent.span.span_id));
        assert_eq!(span.kind(), SpanKind::Consumer);
        assert_eq!(attribute(&span.attributes, "tickr.message.attempt"), Some(Value::IntValue(number)));
        assert_eq!(text(span, "messaging.destination.name"), "order.placed");
        assert_eq!(text(span, "messaging.message.id"), text(&attempts[0].span, "messaging.message.id"));
    }
    let [failed, succeeded] = [&attempts[0].span, &attempts[1].span];
    let status = failed.status.as_ref().unwrap();
    assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "the payment provider does not answer"));
    assert_eq!(failed.events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["exception"]);
    assert_eq!(text(failed, "error.type"), "failed");
    assert_ne!(succeeded.status.clone().unwrap_or_default().code(), StatusCode::Error);

    // What the handler enqueued belongs to its attempt; what is due later has a trace of its own, and links it.
    let receipt = receiver.named("send receipt.due", 1).await.remove(0).span;
    assert_eq!((&receipt.trace_id, &receipt.parent_span_id), (&succeeded.trace_id, &succeeded.span_id));
    let late = receiver.named("process receipt.due", 1).await.remove(0);
    assert!(is_from(&late, &billing, "billing"));
    assert_ne!(late.span.trace_id, receipt.trace_id);
    let links: Vec<_> = late.span.links.iter().map(|link| (&link.trace_id, &link.span_id)).collect();
    assert_eq!(links, [(&receipt.trace_id, &receipt.span_id)]);

    // Nothing of a body anywhere.
    let everything = format!("{:?}", receiver.find(|_| true));
    assert!(!everything.contains("a lamp") && !everything.contains("\"card\""), "{everything}");
    assert!(shop.process.end() && billing.process.end());
}

#[tokio::test]
async fn without_a_tracer_no_header_is_added() {
    let folder = folder();
    let database = folder.path().join("orders.db");
    let shop = Orders::start(&database, &["--role", "service"], &[]);
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    shop.place("good", &[("traceparent", &traceparent)]).await;
    let db = Connection::open(&database).unwrap();
    let headers: Option<String> = db.query_row("SELECT headers FROM tickr_messages", [], |row| row.get(0)).unwrap();
    assert_eq!(headers, None);
    assert!(shop.process.end());
}
