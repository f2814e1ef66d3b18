//! Children and links.

use opentelemetry::trace::SpanKind;
use tickr_core::{Batch, Client, Message, Raw, Storage, Timestamp};
use tickr_opentelemetry::Links;

use super::support::{Traces, assert_child, assert_exactly, assert_linked, attributes, client, memory, ms, nothing, worker};

/// Handles one message under `links`.
async fn handled(links: Links, message: impl FnOnce(Timestamp) -> Message) -> Traces {
    let (storage, traces) = (memory(), Traces::new());
    let message = message(storage.now().await.unwrap());
    client(&storage, &traces).enqueue(message).await.unwrap();
    tokio::time::sleep(ms(2_000)).await;
    let tracer = traces.tracer_with(|builder| builder.links(links));
    let report = worker(&storage).tracer(tracer).on("a", nothing).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(report.succeeded, 1);
    traces
}

#[tokio::test(start_paused = true)]
async fn a_message_with_a_due_time_is_linked() {
    let after = |_| Message::new("a", "").after(ms(1_000));
    let at = |now: Timestamp| Message::new("a", "").at(now.after(ms(1_000)));
    for traces in [handled(Links::Auto, after).await, handled(Links::Auto, at).await] {
        assert_linked(&traces.one("process a"), &[&traces.one("send a")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_due_at_once_is_a_child_however_late_it_is_handled() {
    let traces = handled(Links::Auto, |_| Message::new("a", "")).await;
    assert_child(&traces.one("process a"), &traces.one("send a"));
    assert!(traces.one("process a").links.is_empty());
}

#[tokio::test(start_paused = true)]
async fn links_can_be_had_always() {
    let traces = handled(Links::Always, |_| Message::new("a", "")).await;
    assert_linked(&traces.one("process a"), &[&traces.one("send a")]);
}

#[tokio::test(start_paused = true)]
async fn links_can_be_had_never() {
    let traces = handled(Links::Never, |_| Message::new("a", "").after(ms(1_000))).await;
    assert_child(&traces.one("process a"), &traces.one("send a"));
    assert!(traces.one("process a").links.is_empty());
}

async fn all(_batch: Batch<Raw>) {}

#[tokio::test]
async fn a_batch_links_every_member_that_has_a_producer() {
    for links in [Links::Auto, Links::Always, Links::Never] {
        let (storage, traces) = (memory(), Traces::new());
        let client = client(&storage, &traces);
        let first = client.enqueue(Message::new("a", "")).await.unwrap().id();
        let second = client.enqueue(Message::new("a", "").header("baggage", "k=v")).await.unwrap().id();
        Client::new(storage.clone()).enqueue(Message::new("a", "")).await.unwrap();
        let tracer = traces.tracer_with(|builder| builder.links(links));
        worker(&storage).tracer(tracer).on_batch("a", all).build().unwrap().run_until_idle().await.unwrap();
        let (sends, process) = (traces.named("send a"), traces.one("process a"));
        assert_linked(&process, &[&sends[0], &sends[1]]);
        for (link, id) in process.links.iter().zip([first, second]) {
            let wanted = [("messaging.message.id", id.to_string()), ("tickr.message.attempt", "1".to_owned())];
            assert_eq!(attributes(&link.attributes), wanted.map(|(name, value)| (name.to_owned(), value)));
        }
        assert_exactly(
            &process,
            &SpanKind::Consumer,
            &[
                ("messaging.batch.message_count", "3"),
                ("messaging.destination.name", "a"),
                ("messaging.operation.name", "process"),
                ("messaging.operation.type", "process"),
                ("messaging.system", "tickr"),
            ],
        );
    }
}

#[tokio::test]
async fn a_batch_of_one_is_treated_as_its_message() {
    let (storage, traces) = (memory(), Traces::new());
    client(&storage, &traces).enqueue(Message::new("a", "")).await.unwrap();
    worker(&storage).tracer(traces.tracer()).on_batch("a", all).build().unwrap().run_until_idle().await.unwrap();
    assert_child(&traces.one("process a"), &traces.one("send a"));
}
