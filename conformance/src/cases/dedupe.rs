//! A pair of event type and idempotency key stands for one message.

use std::time::Duration;

use tickr_core::{Enqueued, Message, MessageId, Retention, Status};

use crate::world::{ORDER, World, all_ok, checked, keyed};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Enqueues one message with a key; `None` when it is stored, else what it is a duplicate of.
async fn existing(world: &World, message: Message) -> Option<MessageId> {
    match world.try_enqueue(vec![message]).await.unwrap()[0] {
        Enqueued::Stored { .. } => None,
        Enqueued::Duplicate { existing } => Some(existing),
    }
}

/// A second message with the same type and key is a value that names the first, and nothing of it is stored.
pub async fn duplicate_is_a_value_naming_the_first(world: World) {
    let first = world.put(keyed("k")).await;
    let second = checked(keyed("k"));
    let answers = tickr_core::Storage::enqueue(world.storage(), std::slice::from_ref(&second)).await.unwrap();
    assert_eq!(answers, [Enqueued::Duplicate { existing: first }]);
    assert_eq!(world.find(second.id()).await, None);
    assert_eq!(world.worker().await.claim(10).await.messages.len(), 1);
}

/// Duplicates within one batch share the id of the first of them.
pub async fn duplicates_in_one_batch_share_id(world: World) {
    let answers = world.try_enqueue(vec![keyed("k"), keyed("k"), keyed("k")]).await.unwrap();
    assert!(!answers[0].is_duplicate() && answers[1].is_duplicate() && answers[2].is_duplicate(), "{answers:?}");
    assert!(answers.iter().all(|answer| answer.id() == answers[0].id()), "{answers:?}");
    assert_eq!(world.worker().await.claim(10).await.messages.len(), 1);
}

/// The first of a batch wins a key, also where its id would sort last.
pub async fn first_of_the_batch_wins(world: World) {
    let (earlier, later) = (MessageId::new(), MessageId::new());
    let answers = world.try_enqueue(vec![keyed("k").id(later), keyed("k").id(earlier)]).await.unwrap();
    assert_eq!(answers, [Enqueued::Stored { id: later }, Enqueued::Duplicate { existing: later }]);
}

/// The same key of another event type is another message.
pub async fn key_belongs_to_its_type(world: World) {
    world.put(keyed("k")).await;
    assert_eq!(existing(&world, Message::new("order.paid", "{}").idempotency_key("k")).await, None);
}

/// Messages without a key are never duplicates.
pub async fn no_key_is_no_duplicate(world: World) {
    assert_eq!(world.enqueue(5).await.len(), 5);
}

/// A message that is sent again with its own id and key is stored, not a duplicate of itself.
pub async fn own_key_again_is_stored(world: World) {
    let id = world.put(keyed("k")).await;
    assert_eq!(world.try_enqueue(vec![keyed("k").id(id)]).await.unwrap(), [Enqueued::Stored { id }]);
}

/// Keys are compared byte by byte: neither case nor accents nor blanks are folded.
pub async fn keys_are_compared_by_bytes(world: World) {
    for key in ["straße", "STRASSE", "Straße", "strasse", "strasse ", " strasse", "e\u{301}", "\u{e9}", "1", "01", "1.0"] {
        assert_eq!(existing(&world, keyed(key)).await, None, "{key:?} passes for another key");
    }
}

/// A key still stands for its message after that succeeded.
pub async fn duplicate_of_finished_message_is_seen(world: World) {
    let first = world.put(keyed("k")).await;
    let claim = world.worker().await.claim(1).await;
    world.settle_ok(&claim).await;
    assert_eq!(existing(&world, keyed("k")).await, Some(first));
}

/// The idempotency window is not the success retention: a key outlives the body of its message.
pub async fn key_outlives_the_body(world: World) {
    let first = world.put(keyed("k")).await;
    let claim = world.worker().await.claim(1).await;
    world.settle(all_ok(&claim)).await;
    world.advance(2 * DAY);
    world.purge(Retention::default()).await;
    assert_eq!(world.find(first).await, None, "the body is purged");
    assert_eq!(existing(&world, keyed("k")).await, Some(first));
}

/// After its window, the key of a finished message is free again.
pub async fn expired_key_is_free_after_purge(world: World) {
    let first = world.put(keyed("k")).await;
    let claim = world.worker().await.claim(1).await;
    world.settle(all_ok(&claim)).await;
    world.advance(8 * DAY);
    assert_eq!(world.purge(Retention::default()).await.keys, 1);
    assert_eq!(existing(&world, keyed("k")).await, None);
    assert_eq!(world.find(first).await, None);
}

/// The window of a key counts from when its message was due: one that is scheduled far ahead is not sent twice.
pub async fn dedupe_outlives_scheduled_message(world: World) {
    let first = world.put(keyed("k").after(30 * DAY)).await;
    world.advance(29 * DAY);
    world.purge(Retention::default()).await;
    assert_eq!(existing(&world, keyed("k")).await, Some(first));
    world.advance(2 * DAY);
    world.promote().await;
    let worker = world.worker().await;
    world.settle_ok(&worker.claim(1).await).await;
    world.purge(Retention::default()).await;
    assert_eq!(existing(&world, keyed("k")).await, Some(first), "a day after it ran");
}

/// The key of a message that still waits never expires.
pub async fn key_of_live_message_is_kept(world: World) {
    let first = world.put(keyed("k")).await;
    world.advance(30 * DAY);
    assert_eq!(world.purge(Retention::default()).await.keys, 0);
    assert_eq!(existing(&world, keyed("k")).await, Some(first));
    assert_eq!(world.status(first).await, Status::Created);
}

/// A duplicate costs its batch nothing: the others are stored.
pub async fn duplicate_does_not_stop_its_batch(world: World) {
    world.put(keyed("k")).await;
    world.try_enqueue((0..10).map(|n| if n == 5 { keyed("k") } else { Message::new(ORDER, "{}") }).collect()).await.unwrap();
    assert_eq!(world.worker().await.claim(20).await.messages.len(), 10);
}
