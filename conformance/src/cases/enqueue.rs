//! Messages are stored: all or none, once, as they are.

use std::time::Duration;

use tickr_core::{Enqueued, ErrorKind, Limits, Message, MessageId, NewMessage, Priority, Status, Storage, StoredMessage};

use crate::faults::{Faulty, Op};
use crate::world::{ORDER, World, checked, ids, keyed, order};

/// A message that is due now is ready, unattempted and CREATED.
pub async fn stored_message_is_created(world: World) {
    let id = world.enqueue(1).await[0];
    let record = world.record(id).await;
    assert_eq!((record.status, record.attempt, record.due_at), (Status::Created, 0, None));
    assert_eq!((record.worker, record.last_error, record.finished_at), (None, None, None));
}

/// A message with every field set.
fn full() -> Message {
    Message::new("order.créé", vec![0, 159, 146, 150, 255])
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("Weird \"name\"", "värde\n'; --")
        .content_type("application/x-protobuf")
        .idempotency_key("key 🔑")
        .ordering_key("customer-7")
        .tenant("acme")
        .organisation("acme/eu")
        .correlation_id("c-1")
        .priority(Priority::High)
        .max_attempts(7)
}

/// The same without an idempotency key: an adapter may store what needs no look at other messages in a way of its own.
fn full_without_key() -> Message {
    let mut message = full();
    message.idempotency_key = None;
    message
}

/// Every column of a message comes back as it was stored.
pub async fn every_field_round_trips(world: World) {
    for message in [full(), full_without_key()] {
        let new = checked(message);
        world.storage().enqueue(std::slice::from_ref(&new)).await.unwrap();
        let stored = world.record(new.id()).await.stored;
        assert_eq!(shown(&stored), shown(&new.to_stored(stored.created_at)));
    }
}

/// A claim hands out every column of a message.
pub async fn every_field_reaches_the_worker(world: World) {
    let new = checked(full());
    world.storage().enqueue(std::slice::from_ref(&new)).await.unwrap();
    let claim = world.worker_for(&["order.créé"], Duration::from_secs(30)).await.claim_of(&["order.créé"], 1).await;
    let body = claim.messages[0].body.clone().expect("a body");
    assert_eq!(shown(&body), shown(&new.to_stored(body.created_at)));
    assert_eq!(claim.messages[0].event_type.as_str(), "order.créé");
}

/// What one message of a batch has and others have not stays with it.
pub async fn fields_stay_with_their_message(world: World) {
    for middle in [full_without_key(), full()] {
        let batch = [order(), order().tenant("first"), middle, order(), order().content_type("text/plain"), order()].map(checked);
        world.storage().enqueue(&batch).await.unwrap();
        for new in batch {
            let stored = world.record(new.id()).await.stored;
            assert_eq!(shown(&stored), shown(&new.to_stored(stored.created_at)));
        }
    }
}

/// The whole message as text: its own `Debug` hides payload and headers.
fn shown(message: &StoredMessage) -> String {
    format!("{message:?} {:?} {:?} {:?}", message.payload, message.headers, (&message.content_type, &message.idempotency_key))
        + &format!("{:?} {:?}", (&message.ordering_key, &message.tenant), (&message.organisation, &message.correlation_id))
        + &format!("{:?} {:?}", message.max_attempts, message.scheduled_at)
}

/// An empty payload is a payload.
pub async fn empty_payload_round_trips(world: World) {
    let id = world.put(Message::new(ORDER, "")).await;
    assert!(world.record(id).await.stored.payload.is_empty());
}

/// A message without optional fields has none of them, rather than empty ones.
pub async fn absent_fields_stay_absent(world: World) {
    let id = world.enqueue(1).await[0];
    let stored = world.record(id).await.stored;
    assert_eq!((stored.content_type, stored.idempotency_key, stored.ordering_key), (None, None, None));
    assert_eq!((stored.tenant, stored.organisation, stored.correlation_id), (None, None, None));
    assert_eq!((stored.max_attempts, stored.scheduled_at, stored.headers.len()), (None, None, 0));
}

/// Enqueueing a stored id again, even with other contents, changes nothing and reads Stored. What is new in its batch is stored.
pub async fn same_id_again_changes_nothing(world: World) {
    let id = world.enqueue(1).await[0];
    let again = || Message::new("other", "else").id(id);
    assert_eq!(world.try_enqueue(vec![again()]).await.unwrap(), [Enqueued::Stored { id }]);
    let batch = world.try_enqueue(vec![order(), again()]).await.unwrap();
    assert!(matches!(batch[..], [Enqueued::Stored { id: new }, Enqueued::Stored { id: old }] if new != id && old == id), "{batch:?}");
    let stored = world.record(id).await.stored;
    assert_eq!((stored.event_type.as_str(), &stored.payload[..]), (ORDER, &b"{}"[..]));
    assert_eq!(world.worker().await.claim_of(&[ORDER, "other"], 10).await.messages.len(), 2);
}

/// Enqueueing the id of a message that is leased or done does not bring it back.
pub async fn same_id_again_later_does_not_run_twice(world: World) {
    let (worker, claim) = world.claimed(1).await;
    let id = ids(&claim)[0];
    world.try_enqueue(vec![order().id(id)]).await.unwrap();
    world.settle_ok(&claim).await;
    world.try_enqueue(vec![order().id(id)]).await.unwrap();
    assert_eq!(world.status(id).await, Status::Success);
    assert!(worker.claim(10).await.messages.is_empty());
}

/// Two messages with one id in one batch are a mistake of the caller, and nothing is stored.
pub async fn equal_ids_in_one_batch_are_refused(world: World) {
    let id = MessageId::new();
    let error = world.try_enqueue(vec![order().id(id), order(), order().id(id)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(&id.to_string()), "{error}");
    assert!(world.worker().await.claim(10).await.messages.is_empty());
}

/// Messages of a batch are claimed in the order of the batch, whatever their ids.
pub async fn order_is_kept(world: World) {
    let mut sent: Vec<MessageId> = (0..20).map(|_| MessageId::new()).collect();
    sent.reverse();
    world.enqueue_all(sent.iter().map(|id| order().id(*id)).collect()).await;
    assert_eq!(ids(&world.worker().await.claim(20).await), sent);
}

/// Batches are claimed in the order they were stored.
pub async fn batches_are_in_order(world: World) {
    let (first, second) = (world.enqueue(3).await, world.enqueue(3).await);
    assert_eq!(ids(&world.worker().await.claim(6).await), [first, second].concat());
}

/// An empty batch is fine and answers nothing.
pub async fn empty_batch_is_fine(world: World) {
    assert_eq!(world.storage().enqueue(&[]).await.unwrap(), []);
}

/// The answers are parallel to the batch, whatever each of them is.
pub async fn answers_are_parallel_to_the_batch(world: World) {
    let first = world.put(keyed("a")).await;
    let batch: Vec<NewMessage> = [order(), keyed("a"), keyed("b"), order().id(first), keyed("b"), order()].map(checked).into();
    let answers = world.storage().enqueue(&batch).await.unwrap();
    let stored = |at: usize| Enqueued::Stored { id: batch[at].id() };
    let duplicate = |existing| Enqueued::Duplicate { existing };
    let expected = [stored(0), duplicate(first), stored(2), Enqueued::Stored { id: first }, duplicate(batch[2].id()), stored(5)];
    assert_eq!(answers, expected);
}

/// A batch of a few thousand messages is one call.
pub async fn large_batch_is_stored(world: World) {
    let sent = world.enqueue(3_000).await;
    let worker = world.worker().await;
    let claim = worker.claim(3_000).await;
    assert_eq!(ids(&claim), sent);
    world.settle_ok(&claim).await;
}

/// An enqueue whose answer was lost is repeated without a second message.
pub async fn repeated_after_lost_answer_is_stored_once(world: World) {
    let faulty = Faulty::new(world.storage().clone());
    faulty.lose_answers(Op::Enqueue, 1);
    let batch = [checked(keyed("once")), checked(order())];
    let lost = faulty.enqueue(&batch).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Indeterminate);
    let expected: Vec<Enqueued> = batch.iter().map(|message| Enqueued::Stored { id: message.id() }).collect();
    assert_eq!(faulty.enqueue(&batch).await.unwrap(), expected);
    assert_eq!(world.worker().await.claim(10).await.messages.len(), 2);
}

/// The largest values that the limits admit are stored whole.
pub async fn values_at_the_limits_round_trip(world: World) {
    let limits = Limits::default();
    let long = "k".repeat(limits.key_bytes);
    let message = Message::new("t".repeat(255), vec![7; limits.payload_bytes])
        .header("h", "v".repeat(limits.header_bytes - 1))
        .idempotency_key(&long)
        .ordering_key(&long)
        .tenant(&long)
        .organisation(&long)
        .correlation_id(&long)
        .content_type(&long)
        .max_attempts(u16::MAX);
    let new = checked(message);
    world.storage().enqueue(std::slice::from_ref(&new)).await.unwrap();
    let stored = world.record(new.id()).await.stored;
    assert!(shown(&stored) == shown(&new.to_stored(stored.created_at)), "a value at its limit came back changed");
}
