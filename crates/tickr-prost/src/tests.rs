use std::error::Error as _;

use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType};
use serde::{Deserialize, Serialize};
use tickr_core::{Admin, Batch, Client, EventType, MemoryStorage, Outcome, State, Status, Verdict, Worker};
use tickr_json::Json;

use super::*;

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct Paid {
    #[prost(uint64, tag = "1")]
    order: u64,
    #[prost(string, tag = "2")]
    card: String,
    #[prost(message, optional, tag = "3")]
    payer: Option<Payer>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct Payer {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(double, tag = "2")]
    limit: f64,
    #[prost(float, tag = "3")]
    share: f32,
    #[prost(group, optional, tag = "4")]
    old: Option<Old>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct Old {}

impl Event for Paid {
    const TYPE: &'static str = "order.paid";
}

fn paid(order: u64) -> Paid {
    Paid { order, card: "4111".into(), payer: Some(Payer { name: "Ada".into(), limit: 1.5, share: 0.5, old: Some(Old {}) }) }
}

fn decode_paid(body: &[u8]) -> Result<Paid, DecodeError> {
    decode::decode(&EventType::from_stored("order.paid"), None, body)
}

async fn take(Prost(paid): Prost<Paid>) -> Outcome {
    Outcome::skip(paid.order.to_string())
}

async fn take_json(Json(paid): Json<Paid>) -> Outcome {
    Outcome::skip(paid.order.to_string())
}

async fn perform(message: impl IntoMessage) -> Verdict {
    let worker = Worker::builder(MemoryStorage::new()).on_event(take).build().unwrap();
    worker.perform(message).await
}

#[tokio::test]
async fn a_body_reaches_its_handler() {
    assert_eq!(perform(Prost(paid(7))).await.unwrap(), Outcome::skip("7"));
    assert_eq!(perform(message(&paid(7)).idempotency_key("k")).await.unwrap(), Outcome::skip("7"));
    assert_eq!(decode_paid(&message(&paid(7)).payload).unwrap(), paid(7));
}

#[test]
fn a_message_says_that_it_is_protobuf() {
    let message = Prost(Paid { order: 7, card: "a".into(), payer: None }).into_message().unwrap();
    assert_eq!(message.event_type, "order.paid");
    assert_eq!(message.content_type.as_deref(), Some("application/protobuf"));
    assert_eq!(message.payload, &b"\x08\x07\x12\x01a"[..]);
    let bare = message_of("number", &300_u64);
    assert_eq!((bare.event_type.as_str(), &bare.payload[..]), ("number", &b"\x08\xac\x02"[..]));
}

#[tokio::test]
async fn protobuf_is_known_by_its_content_type_or_by_none() {
    let typed = |content_type: &str| message(&paid(7)).content_type(content_type);
    let accepted = [
        "application/protobuf",
        "Application/Protobuf; version=1",
        "application/x-protobuf",
        "application/x-protobuffer",
        "application/vnd.google.protobuf ;proto=shop.Paid",
        "application/vnd.shop.paid+protobuf",
        "application/cloudevents+PROTOBUF; charset=utf-8",
    ];
    for accepted in accepted {
        assert!(perform(typed(accepted)).await.is_ok(), "{accepted}");
    }
    assert!(perform(Message::new("order.paid", message(&paid(7)).payload)).await.is_ok());
    for refused in ["text/plain", "application/protobufx", "application/json", "application/protobuf+json"] {
        let failure = perform(typed(refused)).await.unwrap_err();
        assert!(failure.is_dead());
        assert_eq!(failure.to_string(), format!("the content type of order.paid is {refused:?}, which is not protobuf"));
    }
}

#[tokio::test]
async fn what_cannot_be_decoded_is_dead() {
    let failure = perform(Message::new("order.paid", "\x1a\x03\x0a\x05A")).await.unwrap_err();
    assert!(failure.is_dead());
    assert_eq!(failure.to_string(), "the body of order.paid ends within a field, at Paid.payer.name");
    let error = failure.error().downcast_ref::<DecodeError>().unwrap();
    assert_eq!((error.event_type().as_str(), error.field()), ("order.paid", Some("Paid.payer.name")));
}

#[tokio::test]
async fn an_empty_body_is_a_message_of_defaults() {
    assert_eq!(decode_paid(b"").unwrap(), Paid::default());
    assert_eq!(perform(Message::new("order.paid", "")).await.unwrap(), Outcome::skip("0"));
    assert_eq!(message(&Paid::default()).payload, "");
}

#[test]
fn a_body_that_is_cut_off_says_so_or_lacks_fields() {
    let body = b"\x08\x07\x12\x044111";
    let outcome = |bytes| decode_paid(&body[..bytes]).map(|paid| paid.order).map_err(|error| error.to_string());
    assert_eq!(outcome(2), Ok(7), "between two fields nothing shows");
    assert_eq!(outcome(1), Err("the body of order.paid is not well-formed protobuf, at Paid.order".into()));
    assert_eq!(outcome(7), Err("the body of order.paid ends within a field, at Paid.card".into()));
}

#[test]
fn errors_say_what_the_type_wants() {
    let wanted = |body| {
        let error = decode_paid(body).unwrap_err().to_string();
        error.strip_prefix("the body of order.paid is not of the type that its handler takes ").unwrap().to_owned()
    };
    assert_eq!(wanted(b"\x0a\x01A"), "(expected the wire type VARINT), at Paid.order");
    assert_eq!(wanted(b"\x10\x07"), "(expected the wire type LEN), at Paid.card");
    assert_eq!(wanted(b"\x1a\x02\x10\x07"), "(expected the wire type I64), at Paid.payer.limit");
    assert_eq!(wanted(b"\x1a\x02\x18\x07"), "(expected the wire type I32), at Paid.payer.share");
    assert_eq!(wanted(b"\x1a\x02\x20\x07"), "(expected the wire type SGROUP), at Paid.payer.old");
    assert_eq!(wanted(b"\x12\x01\xff"), "(expected UTF-8), at Paid.card");
    assert_eq!(wanted(b"\x1a\x03\x0a\x01\xff"), "(expected UTF-8), at Paid.payer.name");
}

#[test]
fn what_is_not_well_formed_is_not_protobuf() {
    let bodies: [(&str, &[u8]); 6] = [
        ("a varint without an end", &[0xff; 11]),
        ("a key of more than 32 bits", b"\xff\xff\xff\xff\x1f"),
        ("the field number 0", b"\x00"),
        ("the wire type 7", b"\x0f"),
        ("the end of a group that did not begin", b"\x7c"),
        ("a field that is longer than what it is in", b"\x1a\x01\x11\0\0\0\0\0\0\0\0"),
    ];
    for (case, body) in bodies {
        let error = decode_paid(body).unwrap_err().to_string();
        assert!(error.starts_with("the body of order.paid is not well-formed protobuf"), "{case}: {error}");
    }
    let groups_in_groups = [0x7b; 200];
    assert_eq!(decode_paid(&groups_in_groups).unwrap_err().to_string(), "the body of order.paid is nested too deep");
}

/// A type written by hand, whose errors quote the body: here, by what would look like names of fields and a known problem.
#[derive(Debug, Default)]
struct Quoting;

impl prost::Message for Quoting {
    fn encode_raw(&self, _: &mut impl BufMut) {}

    fn merge_field(&mut self, _: u32, _: WireType, buf: &mut impl Buf, _: DecodeContext) -> Result<(), prost::DecodeError> {
        let body = buf.copy_to_bytes(buf.remaining());
        let mut error = prost::DecodeError::new_unexpected_type_url(String::from_utf8_lossy(&body), "its own");
        error.push("Quoting", "text");
        Err(error)
    }

    fn encoded_len(&self) -> usize {
        0
    }

    fn clear(&mut self) {}
}

#[test]
fn errors_never_quote_the_body() {
    let bodies: [&[u8]; 6] =
        [b"SECRET", b"\x0a\x06SECRET", b"\x12\x07SECRET\xff", b"\x12\x08SECRET", b"\x1a\x06SECRET", b"\x1a\x09\x0a\x07SECRET\xff"];
    for body in bodies {
        let error = decode_paid(body).unwrap_err();
        assert!(!format!("{error} {error:#?}").contains("SECRET"), "{error:?}");
        assert!(error.source().is_none(), "a cause is recorded with the failure");
    }
    let key_is_8589934591 = decode_paid(b"\xff\xff\xff\xff\x1f").unwrap_err();
    assert!(!format!("{key_is_8589934591} {key_is_8589934591:?}").contains("8589934591"), "{key_is_8589934591:?}");
    for text in ["SECRET", r#"", stack: [("SECRET", "SECRET")] }"#, "SECRET.SECRET: (expected SECRET)", "SECRET: invalid varint"] {
        let body = [b"\x0a", text.as_bytes()].concat();
        let error = decode::decode::<Quoting>(&EventType::from_stored("quoted"), None, &body).unwrap_err();
        assert!(!format!("{error} {error:#?}").contains("SECRET"), "{error:?}");
        assert_eq!(error.field(), Some("Quoting.text"));
    }
}

#[test]
fn debug_output_never_shows_the_body() {
    let shown = format!("{:?}", Prost(paid(7)));
    assert!(shown.ends_with("Paid>(..)") && !shown.contains("4111"), "{shown}");
}

#[tokio::test]
async fn a_body_of_the_other_codec_is_a_dead_letter() {
    let storage = MemoryStorage::new();
    let messages = [tickr_json::message(&paid(7)).unwrap(), message_of("order.paid.json", &paid(7))];
    let results = Client::new(storage.clone()).enqueue_all(messages).await.unwrap();
    let worker = Worker::builder(storage.clone()).on("order.paid", take).on("order.paid.json", take_json).build().unwrap();
    assert_eq!(worker.run_until_idle().await.unwrap().dead, 2);
    let expected = [
        r#"the content type of order.paid is "application/json", which is not protobuf"#,
        r#"the content type of order.paid.json is "application/protobuf", which is not JSON"#,
    ];
    for (result, expected) in results.into_iter().zip(expected) {
        let record = storage.get(result.id()).await.unwrap().unwrap();
        assert_eq!((record.status, record.attempt), (Status::Dead, 1));
        assert_eq!(record.last_error.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn an_undecodable_member_of_a_batch_dies_alone() {
    async fn store(batch: Batch<Prost<Paid>>, State(orders): State<std::sync::Arc<std::sync::Mutex<Vec<u64>>>>) {
        orders.lock().unwrap().extend(batch.iter().map(|item| item.body.order));
    }
    let storage = MemoryStorage::new();
    let messages = [message(&paid(1)), Message::new("order.paid", "\x12\x05cut"), message(&paid(3))];
    let results = Client::new(storage.clone()).enqueue_all(messages).await.unwrap();
    let orders = std::sync::Arc::new(std::sync::Mutex::new(Vec::<u64>::new()));
    let worker = Worker::builder(storage.clone()).state(std::sync::Arc::clone(&orders)).on_batch("order.paid", store).build().unwrap();
    worker.run_until_idle().await.unwrap();
    assert_eq!(*orders.lock().unwrap(), [1, 3]);
    let mut statuses = Vec::new();
    for result in results {
        statuses.push(storage.get(result.id()).await.unwrap().unwrap().status);
    }
    assert_eq!(statuses, [Status::Success, Status::Dead, Status::Success]);
}

#[derive(Clone, PartialEq, prost::Message)]
struct Placed {
    #[prost(uint64, tag = "1")]
    order: u64,
}

impl Event for Placed {
    const TYPE: &'static str = "placed";
}

#[tokio::test]
async fn assert_enqueued_finds_bodies_by_pattern() {
    let storage = MemoryStorage::new();
    tickr_core::Client::new(storage.clone()).enqueue(Prost(Placed { order: 7 })).await.unwrap();
    tickr_core::assert_enqueued!(storage, Placed { order: 7, .. }, 1);
    tickr_core::assert_enqueued!(storage, Placed { order: 8 }, 0);
}
