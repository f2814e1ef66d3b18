//! A pair of event type and idempotency key stands for one message.

use std::time::Duration;

use tickr_core::{Admin, Due, Enqueued, Message, MessageId, PurgeRequest, Retention, Status, Storage};

use crate::world::{ORDER, World, all_ok, checked, ids, keyed, these, with};

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

/// The same key of another event type is another message, and a duplicate names the one of its type.
pub async fn key_belongs_to_its_type(world: World) {
    let paid = || Message::new("order.paid", "{}").idempotency_key("k");
    let first = world.put(keyed("k")).await;
    let second = world.put(paid()).await;
    assert_eq!((existing(&world, keyed("k")).await, existing(&world, paid()).await), (Some(first), Some(second)));
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

/// The key of a message that still waits, runs or is dead never expires.
pub async fn key_of_live_message_is_kept(world: World) {
    let worker = world.worker_with(100 * DAY).await;
    let (leased, dead) = (world.put(keyed("leased")).await, world.put(keyed("dead")).await);
    let claim = worker.claim(2).await;
    assert_eq!(ids(&claim), [leased, dead]);
    world.settle(with(&claim, 1, crate::world::dead("no use"))).await;
    let ready = world.put(keyed("ready")).await;
    let scheduled = world.put(keyed("scheduled").after(20 * DAY)).await;
    let live = [("leased", leased), ("dead", dead), ("ready", ready), ("scheduled", scheduled)];
    world.advance(40 * DAY);
    assert_eq!(world.purge(Retention::default().dead(None)).await.keys, 0);
    for (key, id) in live {
        assert_eq!(existing(&world, keyed(key)).await, Some(id), "{key}");
    }
    let states = [world.status(leased).await, world.status(dead).await, world.status(ready).await, world.status(scheduled).await];
    assert_eq!(states, [Status::Handling, Status::Dead, Status::Created, Status::Created]);
}

/// A message that is moved to a later time, or brought back to one, keeps its key for as long after that as any other.
pub async fn key_follows_a_later_due_time(world: World) {
    let moved = world.put(keyed("moved").after(DAY)).await;
    let dead = world.dead(keyed("dead")).await;
    assert_eq!(world.storage().reschedule(&these(&[moved]), Due::After(30 * DAY)).await.unwrap().done, [moved]);
    assert_eq!(world.storage().requeue(&these(&[dead]), Due::After(30 * DAY)).await.unwrap().done, [dead]);
    world.advance(31 * DAY);
    world.promote().await;
    let worker = world.worker().await;
    world.settle_ok(&worker.claim(2).await).await;
    world.advance(5 * DAY);
    assert_eq!(world.purge(Retention::default()).await.keys, 0, "six days after they were due");
    assert_eq!(existing(&world, keyed("moved")).await, Some(moved));
    assert_eq!(existing(&world, keyed("dead")).await, Some(dead));
    world.advance(2 * DAY);
    assert_eq!(world.purge(Retention::default()).await.keys, 2);
}

/// A message that is brought forward keeps its key for as long as it would have.
pub async fn key_is_not_shortened_by_an_earlier_due_time(world: World) {
    let first = world.put(keyed("k").after(30 * DAY)).await;
    assert_eq!(world.storage().reschedule(&these(&[first]), Due::Now).await.unwrap().done, [first]);
    world.settle_ok(&world.worker().await.claim(1).await).await;
    world.advance(36 * DAY);
    assert_eq!(world.purge(Retention::default()).await.keys, 0);
    assert_eq!(existing(&world, keyed("k")).await, Some(first));
}

/// Keys of messages that live never hide expired ones behind them, however small the portions.
pub async fn purge_passes_over_keys_in_use(world: World) {
    let (worker, done) = (world.worker_with(100 * DAY).await, world.put(keyed("done")).await);
    world.settle_ok(&worker.claim(1).await).await;
    for n in 0..5 {
        world.put(keyed(&format!("live {n}"))).await;
    }
    world.advance(10 * DAY);
    let mut keys = 0;
    for _ in 0..10 {
        keys += world.storage().purge(&PurgeRequest::default().limit(2)).await.unwrap().keys;
    }
    assert_eq!(keys, 1);
    assert!(existing(&world, keyed("live 3")).await.is_some());
    assert_eq!(existing(&world, keyed("done")).await, None, "{done} is forgotten");
}

/// A duplicate costs its batch nothing: the others are stored.
pub async fn duplicate_does_not_stop_its_batch(world: World) {
    world.put(keyed("k")).await;
    world.try_enqueue((0..10).map(|n| if n == 5 { keyed("k") } else { Message::new(ORDER, "{}") }).collect()).await.unwrap();
    assert_eq!(world.worker().await.claim(20).await.messages.len(), 10);
}
