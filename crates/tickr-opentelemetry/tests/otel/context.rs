//! How contexts travel: through headers, and into handlers.

use std::sync::{Arc, Mutex};

use opentelemetry::baggage::BaggageExt;
use opentelemetry::propagation::text_map_propagator::FieldIter;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer as _, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tickr_core::{Failure, Headers, Message, State, Tracer};
use tickr_opentelemetry::Links;

use super::support::{Traces, assert_child, assert_root, client, memory, ms, nothing, worker};

type Seen<T> = Arc<Mutex<Vec<T>>>;

const OWN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn headers(context: tickr_core::Context, State(seen): State<Seen<Headers>>) {
    seen.lock().unwrap().push(context.message().headers.clone());
}

/// A remote parent with a trace state, and baggage.
fn upstream(flags: TraceFlags) -> Context {
    let state = TraceState::from_key_value([("vendor", "x")]).unwrap();
    let remote = SpanContext::new(TraceId::from(0xa1), SpanId::from(0xb2), flags, true, state);
    Context::new().with_remote_span_context(remote).with_baggage([KeyValue::new("customer", "gold")])
}

#[tokio::test]
async fn headers_are_those_of_the_w3c_and_no_more() {
    let (storage, traces, seen) = (memory(), Traces::new(), Seen::<Headers>::default());
    client(&storage, &traces).enqueue(Message::new("a", "")).await.unwrap();
    worker(&storage).state(Arc::clone(&seen)).on("a", headers).build().unwrap().run_until_idle().await.unwrap();
    let send = traces.one("send a").span_context;
    let wanted = Headers::from_iter([("traceparent", format!("00-{}-{}-01", send.trace_id(), send.span_id()))]);
    assert_eq!(*seen.lock().unwrap(), [wanted]);
}

#[tokio::test]
async fn tracestate_and_baggage_reach_the_handler() {
    type Found = (Option<String>, Option<String>);
    async fn look(State(seen): State<Seen<Found>>) {
        let found = Context::map_current(|current| {
            let state = current.span().span_context().trace_state().get("vendor").map(str::to_owned);
            (state, current.baggage().get("customer").map(ToString::to_string))
        });
        seen.lock().unwrap().push(found);
    }
    let wanted = (Some("x".to_owned()), Some("gold".to_owned()));
    for (links, delayed, state) in [(Links::Auto, false, true), (Links::Auto, true, false), (Links::Always, false, false)] {
        let (storage, traces, seen) = (memory(), Traces::new(), Seen::<Found>::default());
        let tracer = traces.tracer_with(|builder| builder.links(links));
        let message = if delayed { Message::new("a", "").after(ms(20)) } else { Message::new("a", "") };
        {
            let _current = upstream(TraceFlags::SAMPLED).attach();
            client(&storage, &traces).enqueue(message).await.unwrap();
        }
        tokio::time::sleep(ms(30)).await;
        let worker = worker(&storage).tracer(tracer).state(Arc::clone(&seen)).on("a", look).build().unwrap();
        worker.run_until_idle().await.unwrap();
        // The trace state belongs to the producer's trace; baggage also crosses a link.
        let wanted = if state { wanted.clone() } else { (None, wanted.1.clone()) };
        assert_eq!(*seen.lock().unwrap(), [wanted], "{links:?} {delayed}");
        assert_eq!(traces.one("process a").links.len(), usize::from(!state));
    }
}

#[tokio::test]
async fn what_the_user_wrote_stays() {
    let (storage, traces, seen) = (memory(), Traces::new(), Seen::<Headers>::default());
    {
        let _current = upstream(TraceFlags::SAMPLED).attach();
        let own_trace = Message::new("a", "").header("traceparent", OWN);
        let own_baggage = Message::new("a", "").header("baggage", "mine=1").header("other", "x");
        client(&storage, &traces).enqueue_all([own_trace, own_baggage]).await.unwrap();
    }
    worker(&storage).state(Arc::clone(&seen)).on("a", headers).build().unwrap().run_until_idle().await.unwrap();
    let send = traces.one("send a");
    let injected = format!("00-{}-{}-01", send.span_context.trace_id(), send.span_context.span_id());
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_by_key(Headers::len);
    // No trace state of ours beside a trace of theirs.
    assert_eq!(seen[0], Headers::from_iter([("traceparent", OWN), ("baggage", "customer=gold")]));
    let both = [("traceparent", injected.as_str()), ("tracestate", "vendor=x"), ("baggage", "mine=1"), ("other", "x")];
    assert_eq!(seen[1], Headers::from_iter(both));
    let linked: Vec<_> = send.links.iter().map(|link| link.span_context.span_id().to_string()).collect();
    assert_eq!(linked, ["b7ad6b7169203331"], "the span that sends it links it");
}

#[test]
fn not_even_without_the_client_is_a_header_overwritten() {
    let _current = upstream(TraceFlags::SAMPLED).attach();
    let tracer = Traces::new().tracer();
    let own = Headers::from_iter([("traceparent", OWN), ("tracestate", "mine=1"), ("baggage", "mine=2")]);
    let mut headers = own.clone();
    tracer.inject_headers(&*tracer.start_enqueue_span(&["a"], 1), &mut headers);
    assert_eq!(headers, own);
}

#[tokio::test]
async fn a_malformed_traceparent_starts_a_new_trace_and_harms_nothing() {
    let malformed = [
        "",
        "-",
        "00",
        "nonsense",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-00000000000000000000000000000000-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-\u{e4}af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        "00-zaf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz",
    ];
    let (storage, traces) = (memory(), Traces::new());
    let long = "x".repeat(32 << 10);
    let values = malformed.into_iter().chain([long.as_str()]);
    let messages =
        values.map(|value| Message::new("a", "").header("traceparent", value).header("tracestate", "=").header("baggage", ",;="));
    let sent = client(&storage, &traces).enqueue_all(messages).await.unwrap();
    let report = worker(&storage).tracer(traces.tracer()).on("a", nothing).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(report.succeeded, sent.len() as u64);
    let attempts = traces.named("process a");
    assert_eq!(attempts.len(), sent.len());
    attempts.iter().for_each(assert_root);
    assert!(traces.one("send a").links.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_span_is_current_at_every_poll_and_only_for_its_own_handler() {
    async fn walk(State(provider): State<SdkTracerProvider>, State(seen): State<Seen<(SpanId, SpanId)>>) {
        let own = Context::map_current(|current| current.span().span_context().span_id());
        for step in 0..20 {
            tokio::time::sleep(ms(step % 3)).await;
            let now = Context::map_current(|current| current.span().span_context().span_id());
            seen.lock().unwrap().push((own, now));
        }
        drop(provider.tracer("app").start("step"));
    }
    let (storage, traces, seen) = (memory(), Traces::new(), Seen::<(SpanId, SpanId)>::default());
    client(&storage, &traces).enqueue_all((0..50).map(|_| Message::new("a", ""))).await.unwrap();
    let worker = worker(&storage).tracer(traces.tracer()).state(traces.provider.clone()).state(Arc::clone(&seen));
    worker.on("a", walk).build().unwrap().run_until_idle().await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1_000);
    assert!(seen.iter().all(|(own, now)| own == now && *own != SpanId::INVALID));
    let (attempts, steps) = (traces.named("process a"), traces.named("step"));
    assert_eq!((attempts.len(), steps.len()), (50, 50));
    for step in &steps {
        let parent = attempts.iter().find(|attempt| attempt.span_context.span_id() == step.parent_span_id);
        assert_child(step, parent.expect("a step belongs to an attempt"));
    }
    assert!(Context::map_current(|current| !current.has_active_span()));
}

#[tokio::test]
async fn what_a_handler_enqueues_is_a_child_of_its_attempt() {
    async fn first(context: tickr_core::Context) -> Result<(), Failure> {
        context.client().enqueue(Message::new("second", "")).await?;
        Ok(())
    }
    let (storage, traces) = (memory(), Traces::new());
    client(&storage, &traces).enqueue(Message::new("first", "")).await.unwrap();
    let worker = worker(&storage).tracer(traces.tracer()).on("first", first).on("second", nothing).build().unwrap();
    worker.run_until_idle().await.unwrap();
    assert_child(&traces.one("send second"), &traces.one("process first"));
    assert_child(&traces.one("process second"), &traces.one("send second"));
    let trace = traces.one("send first").span_context.trace_id();
    assert!(traces.all().iter().all(|span| span.span_context.trace_id() == trace), "one trace for the whole chain");
}

#[tokio::test]
async fn the_context_a_worker_is_started_in_has_nothing_to_do_with_messages() {
    let (storage, traces) = (memory(), Traces::new());
    let messages = [Message::new("a", ""), Message::new("a", "").header("h", "v"), Message::new("a", "").header("traceparent", "x")];
    tickr_core::Client::new(storage.clone()).enqueue_all(messages).await.unwrap();
    let _current = upstream(TraceFlags::SAMPLED).attach();
    worker(&storage).tracer(traces.tracer()).on("a", nothing).build().unwrap().run_until_idle().await.unwrap();
    let attempts = traces.named("process a");
    assert_eq!(attempts.len(), 3);
    attempts.iter().for_each(assert_root);
}

#[tokio::test]
async fn another_propagator_replaces_the_headers() {
    /// One header with both ids.
    #[derive(Debug)]
    struct Plain([String; 1]);

    impl TextMapPropagator for Plain {
        fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
            let span = context.span().span_context().clone();
            injector.set("plain", format!("{}/{}", span.trace_id(), span.span_id()));
        }

        fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
            assert!(extractor.keys().contains(&"plain"));
            let Some((trace, span)) = extractor.get("plain").and_then(|value| value.split_once('/')) else { return context.clone() };
            let (trace, span) = (TraceId::from_hex(trace).unwrap(), SpanId::from_hex(span).unwrap());
            context.with_remote_span_context(SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::NONE))
        }

        fn fields(&self) -> FieldIter<'_> {
            FieldIter::new(&self.0)
        }
    }

    let (storage, traces, seen) = (memory(), Traces::new(), Seen::<Headers>::default());
    let tracer = traces.tracer_with(|builder| builder.propagator(Plain(["plain".to_owned()])));
    let client = tickr_core::Client::builder(storage.clone()).tracer(tracer.clone()).build();
    client.enqueue(Message::new("a", "")).await.unwrap();
    let worker = worker(&storage).tracer(tracer).state(Arc::clone(&seen)).on("a", headers).build().unwrap();
    worker.run_until_idle().await.unwrap();
    assert_eq!(seen.lock().unwrap()[0].iter().map(|(name, _)| name).collect::<Vec<_>>(), ["plain"]);
    assert_child(&traces.one("process a"), &traces.one("send a"));
}
