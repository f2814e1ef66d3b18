use std::collections::HashMap;
use std::error::Error as _;

use serde::Deserialize;
use tickr_core::{Client, EventType, MemoryStorage, Outcome, State, Status, Verdict, Worker};

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Paid {
    order: u64,
    #[serde(default)]
    card: String,
}

impl Event for Paid {
    const TYPE: &'static str = "order.paid";
}

fn decode_paid(body: &str) -> Result<Paid, DecodeError> {
    decode::decode(&EventType::from_stored("order.paid"), None, body.as_bytes())
}

async fn take(Json(paid): Json<Paid>) -> Outcome {
    Outcome::skip(paid.order.to_string())
}

async fn perform(message: impl IntoMessage) -> Verdict {
    let worker = Worker::builder(MemoryStorage::new()).on_event(take).build().unwrap();
    worker.perform(message).await
}

#[tokio::test]
async fn a_body_reaches_its_handler() {
    let paid = Paid { order: 7, card: "4111".into() };
    assert_eq!(perform(Json(paid.clone())).await.unwrap(), Outcome::skip("7"));
    assert_eq!(perform(message(&paid).unwrap().idempotency_key("k")).await.unwrap(), Outcome::skip("7"));
}

#[test]
fn a_message_says_that_it_is_json() {
    let message = Json(Paid { order: 7, card: String::new() }).into_message().unwrap();
    assert_eq!(message.event_type, "order.paid");
    assert_eq!(message.content_type.as_deref(), Some("application/json"));
    assert_eq!(message.payload, r#"{"order":7,"card":""}"#);
    assert_eq!(message_of("numbers", &[1, 2][..]).unwrap().payload, "[1,2]");
}

#[tokio::test]
async fn json_is_known_by_its_content_type_or_by_none() {
    let typed = |content_type: &str| Message::new("order.paid", r#"{"order":7}"#).content_type(content_type);
    for accepted in ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json"] {
        assert!(perform(typed(accepted)).await.is_ok(), "{accepted}");
    }
    assert!(perform(Message::new("order.paid", r#"{"order":7}"#)).await.is_ok());
    for refused in ["text/plain", "application/jsonx", "application/x-protobuf"] {
        let failure = perform(typed(refused)).await.unwrap_err();
        assert!(failure.is_dead());
        assert_eq!(failure.to_string(), format!("the content type of order.paid is {refused:?}, which is not JSON"));
    }
}

#[tokio::test]
async fn what_cannot_be_decoded_is_dead() {
    let failure = perform(Message::new("order.paid", "{\n  nonsense")).await.unwrap_err();
    assert!(failure.is_dead());
    assert_eq!(failure.to_string(), "the body of order.paid is not JSON, line 2 column 3");
    assert_eq!(failure.error().downcast_ref::<DecodeError>().and_then(DecodeError::position), Some((2, 3)));
}

#[test]
fn errors_say_what_the_type_wants() {
    let error = |body| decode_paid(body).unwrap_err().to_string();
    assert_eq!(error("{}"), "the body of order.paid is not of the type that its handler takes (missing field `order`), line 1 column 2");
    assert_eq!(
        error(r#"{"order":"7"}"#),
        "the body of order.paid is not of the type that its handler takes (expected u64), line 1 column 12"
    );
    assert_eq!(error(r#"{"order":7"#), "the body of order.paid ends too early, line 1 column 10");
}

#[test]
fn errors_never_quote_the_body() {
    let bodies = [
        r#"{"order":"SECRET"}"#,
        r#"{"order":"SECRET, expected SECRET"}"#,
        r#"{"order":7,"SECRET":1}"#,
        r#"{"order":7,"card":SECRET}"#,
        r#""SECRET at line SECRET""#,
        "SECRET",
    ];
    for body in bodies {
        let error = decode_paid(body).unwrap_err();
        assert!(!format!("{error} {error:#?}").contains("SECRET"), "{error:?}");
        assert!(error.source().is_none(), "a cause is recorded with the failure");
    }
}

#[test]
fn debug_output_never_shows_the_body() {
    let shown = format!("{:?}", Json(Paid { order: 7, card: "4111".into() }));
    assert!(shown.ends_with("Paid>(..)") && !shown.contains("4111"), "{shown}");
}

#[test]
fn what_cannot_be_encoded_is_a_codec_error() {
    let error = message_of("odd", &HashMap::from([(vec![1], 2)])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    assert_eq!(error.to_string(), "codec: the body of odd cannot be written as JSON");
    assert!(error.source().is_some());
}

#[tokio::test]
async fn an_undecodable_member_of_a_batch_dies_alone() {
    use tickr_core::{Admin, Batch, Client};
    async fn store(batch: Batch<Json<Paid>>, State(sizes): State<std::sync::Arc<std::sync::Mutex<Vec<usize>>>>) {
        sizes.lock().unwrap().push(batch.len());
    }
    let storage = MemoryStorage::new();
    let bodies = [r#"{"order":1}"#, "broken", r#"{"order":3}"#];
    let results = Client::new(storage.clone()).enqueue_all(bodies.map(|body| Message::new("order.paid", body))).await.unwrap();
    let sizes = std::sync::Arc::new(std::sync::Mutex::new(Vec::<usize>::new()));
    let worker = Worker::builder(storage.clone()).state(std::sync::Arc::clone(&sizes)).on_batch("order.paid", store).build().unwrap();
    worker.run_until_idle().await.unwrap();
    assert_eq!(*sizes.lock().unwrap(), [2]);
    let mut statuses = Vec::new();
    for result in results {
        statuses.push(storage.get(result.id()).await.unwrap().unwrap().status);
    }
    assert_eq!(statuses, [Status::Success, Status::Dead, Status::Success]);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Placed {
    order: u64,
    customer: String,
}

impl Event for Placed {
    const TYPE: &'static str = "placed";
}

fn placed(order: u64, customer: &str) -> Json<Placed> {
    Json(Placed { order, customer: customer.to_owned() })
}

#[tokio::test]
async fn assert_enqueued_finds_bodies_by_pattern() {
    let storage = MemoryStorage::new();
    let client = Client::new(storage.clone());
    client.enqueue_all([placed(7, "Ada"), placed(8, "Ada"), placed(9, "Bob")]).await.unwrap();
    let found = tickr_core::assert_enqueued!(storage, Placed { order: 7, .. });
    assert_eq!(found.len(), 1);
    tickr_core::assert_enqueued!(storage, Placed { customer, .. } if customer == "Ada", 2);
    tickr_core::assert_enqueued!(storage, Placed { order: 8 | 9, .. }, 2);
    tickr_core::assert_enqueued!(storage, self::Placed { order: 10.., .. }, 0);
    let mut tx = storage.begin().await;
    client.enqueue_in(&mut tx, placed(10, "Ada")).await.unwrap();
    tickr_core::assert_enqueued!(storage, in &mut tx, Placed { order: 10, .. });
    tickr_core::assert_enqueued!(storage, Placed { order: 10, .. }, 0);
    tx.rollback().await;
}

#[tokio::test]
#[should_panic(
    expected = "0 messages of type placed match Placed { order: 9, .. }, wanted at least 1; those that do not:\n  {\"order\":7,"
)]
async fn assert_enqueued_shows_what_is_there_instead() {
    let storage = MemoryStorage::new();
    Client::new(storage.clone()).enqueue(placed(7, "Ada")).await.unwrap();
    tickr_core::assert_enqueued!(storage, Placed { order: 9, .. });
}
