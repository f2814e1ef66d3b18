//! Messages enqueued in the caller's own transaction exist if and only if it commits.

use std::time::Duration;

use tickr_core::{Enqueued, ErrorKind, Message, MessageId, NewMessage, Retry, Status};
use tokio::time::timeout;

use crate::harness::{TxReport, TxStep};
use crate::rendezvous::Rendezvous;
use crate::world::{ORDER, World, checked, ids, keyed, order};

fn enqueue(message: Message) -> (MessageId, TxStep) {
    let new: NewMessage = checked(message);
    (new.id(), TxStep::Enqueue(vec![new]))
}

fn business(row: &str) -> TxStep {
    TxStep::Business(row.to_owned())
}

/// Runs a transaction until the database does not refuse it any more.
async fn run_until_accepted(world: &World, steps: impl Fn() -> Vec<TxStep>) -> Vec<TxReport> {
    loop {
        match world.run_tx(steps()).await {
            Ok(reports) => return reports,
            Err(error) => assert_eq!(error.retry(), Retry::Transaction, "{error:?}"),
        }
    }
}

/// A commit keeps the message.
pub async fn commit_keeps(world: World) {
    let (id, step) = enqueue(order());
    let reports = world.run_tx(vec![step, TxStep::Commit]).await.unwrap();
    assert_eq!(reports[0].enqueued(), [Enqueued::Stored { id }]);
    assert_eq!(world.status(id).await, Status::Created);
    assert_eq!(ids(&world.worker().await.claim(10).await), [id]);
}

/// A rollback discards the message.
pub async fn rollback_discards(world: World) {
    let (id, step) = enqueue(order());
    world.run_tx(vec![step, TxStep::Rollback]).await.unwrap();
    assert_eq!(world.find(id).await, None);
    assert!(world.worker().await.claim(10).await.messages.is_empty());
}

/// A transaction that just ends is rolled back.
pub async fn abandoned_transaction_discards(world: World) {
    let (id, step) = enqueue(order());
    world.run_tx(vec![business("row"), step]).await.unwrap();
    assert_eq!(world.find(id).await, None);
    assert!(world.business_rows().await.is_empty());
}

/// The message and the business row of a transaction are both there or both not.
pub async fn message_and_business_row_share_their_fate(world: World) {
    let (kept, keep) = enqueue(order());
    let (lost, lose) = enqueue(order());
    world.run_tx(vec![business("kept"), keep, TxStep::Commit]).await.unwrap();
    world.run_tx(vec![lose, business("lost"), TxStep::Rollback]).await.unwrap();
    assert_eq!(world.business_rows().await, ["kept"]);
    assert_eq!((world.find(kept).await.is_some(), world.find(lost).await.is_some()), (true, false));
}

/// What is enqueued after a savepoint goes when the transaction rolls back to it; the rest stays.
pub async fn savepoint_rollback_discards(world: World) {
    let ((before, a), (inside, b), (after, c)) = (enqueue(order()), enqueue(order()), enqueue(order()));
    world.run_tx(vec![a, TxStep::Savepoint, b, TxStep::RollbackToSavepoint, c, TxStep::Commit]).await.unwrap();
    assert_eq!(world.find(inside).await, None);
    assert_eq!(ids(&world.worker().await.claim(10).await), [before, after]);
}

/// What is enqueued within a released savepoint stays with the transaction.
pub async fn savepoint_release_keeps(world: World) {
    let ((inside, a), (after, b)) = (enqueue(order()), enqueue(order()));
    world.run_tx(vec![TxStep::Savepoint, a, TxStep::ReleaseSavepoint, b, TxStep::Commit]).await.unwrap();
    assert_eq!(ids(&world.worker().await.claim(10).await), [inside, after]);
}

/// A rollback takes the messages of a released savepoint with it.
pub async fn rollback_discards_released_savepoint(world: World) {
    let (id, step) = enqueue(order());
    world.run_tx(vec![TxStep::Savepoint, step, TxStep::ReleaseSavepoint, TxStep::Rollback]).await.unwrap();
    assert_eq!(world.find(id).await, None);
}

/// A key that was given up with a savepoint is free again in the same transaction.
pub async fn key_of_discarded_savepoint_is_free(world: World) {
    let ((_, a), (second, b)) = (enqueue(keyed("k")), enqueue(keyed("k")));
    let steps = vec![TxStep::Savepoint, a, TxStep::RollbackToSavepoint, b, TxStep::Commit];
    let reports = world.run_tx(steps).await.unwrap();
    assert_eq!(reports[1].enqueued(), [Enqueued::Stored { id: second }]);
}

/// A duplicate in a transaction is a value: what the transaction does before and after it commits.
pub async fn duplicate_leaves_transaction_usable(world: World) {
    let first = world.put(keyed("k")).await;
    let ((_, duplicate), (id, step)) = (enqueue(keyed("k")), enqueue(order()));
    let reports = world.run_tx(vec![business("before"), duplicate, step, business("after"), TxStep::Commit]).await.unwrap();
    assert_eq!(reports[0].enqueued(), [Enqueued::Duplicate { existing: first }]);
    assert_eq!(reports[1].enqueued(), [Enqueued::Stored { id }]);
    assert_eq!(world.business_rows().await, ["after", "before"]);
    assert_eq!(ids(&world.worker().await.claim(10).await), [first, id]);
}

/// Two calls of one transaction with one key: the second is a duplicate of the first.
pub async fn duplicate_of_own_transaction_is_seen(world: World) {
    let ((first, a), (_, b)) = (enqueue(keyed("k")), enqueue(keyed("k")));
    let reports = world.run_tx(vec![a, b, TxStep::Commit]).await.unwrap();
    assert_eq!(reports[1].enqueued(), [Enqueued::Duplicate { existing: first }]);
    assert_eq!(ids(&world.worker().await.claim(10).await), [first]);
}

/// The same id twice in one transaction is one message.
pub async fn same_id_again_in_transaction_changes_nothing(world: World) {
    let (id, step) = enqueue(order());
    let reports = world.run_tx(vec![step.clone(), step, TxStep::Commit]).await.unwrap();
    assert_eq!(reports[1].enqueued(), [Enqueued::Stored { id }]);
    assert_eq!(ids(&world.worker().await.claim(10).await), [id]);
}

/// A batch that contradicts itself fails with Config, and nothing of its transaction stays.
pub async fn refused_batch_is_named(world: World) {
    let new = checked(order());
    let error = world.run_tx(vec![TxStep::Enqueue(vec![new.clone(), new.clone()]), TxStep::Commit]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(world.find(new.id()).await, None);
}

/// Until the transaction commits nobody else sees its messages.
pub async fn open_transaction_is_invisible(world: World) {
    let (id, step) = enqueue(order());
    let (open, point) = hold_open(&world, vec![step]);
    point.arrived().await;
    assert_eq!(world.find(id).await, None);
    point.send_on();
    open.await.unwrap().unwrap();
    assert_eq!(world.status(id).await, Status::Created);
}

/// The transaction itself sees what it enqueued.
pub async fn transaction_sees_its_own_messages(world: World) {
    let (id, step) = enqueue(order());
    let seen = world.run_tx(vec![step, TxStep::Inspect(ORDER.to_owned()), TxStep::Rollback]).await.unwrap();
    let TxReport::Seen(messages) = &seen[1] else { panic!("an inspection answers what it saw") };
    assert_eq!(messages.iter().map(|message| message.id).collect::<Vec<_>>(), [id]);
}

/// A delay within a transaction schedules the message.
pub async fn delayed_message_is_scheduled(world: World) {
    let (id, step) = enqueue(order().after(Duration::from_secs(60)));
    world.run_tx(vec![step, TxStep::Commit]).await.unwrap();
    assert!(world.record(id).await.due_at.is_some());
    assert!(world.worker().await.claim(10).await.messages.is_empty());
}

/// Starts a transaction that does `steps` and then waits at the point before it commits.
fn hold_open(world: &World, mut steps: Vec<TxStep>) -> (tokio::task::JoinHandle<tickr_core::Result<Vec<TxReport>>>, Rendezvous) {
    let point = Rendezvous::new();
    steps.extend([TxStep::Pause(point.clone()), TxStep::Commit]);
    let world = world.clone();
    (world.clone().spawn(async move { world.run_tx(steps).await }), point)
}

/// While the first message with a key is not committed, a second one is not answered; then it is a duplicate of the first.
pub async fn duplicate_waits_for_open_first(world: World) {
    let (first, step) = enqueue(keyed("k"));
    let (open, point) = hold_open(&world, vec![step]);
    point.arrived().await;
    let second = {
        let world = world.clone();
        world.clone().spawn(async move { run_until_accepted(&world, || vec![enqueue(keyed("k")).1, TxStep::Commit]).await })
    };
    let mut second = second;
    // An answer now would be one that the first could still prove wrong.
    assert!(timeout(Duration::from_millis(50), &mut second).await.is_err(), "answered before the first was decided");
    point.send_on();
    open.await.unwrap().unwrap();
    assert_eq!(second.await.unwrap()[0].enqueued(), [Enqueued::Duplicate { existing: first }]);
}

/// When the first message with a key is rolled back, the second one that waited for it is stored.
pub async fn duplicate_after_first_rolled_back_inserts(world: World) {
    let point = Rendezvous::new();
    let steps = vec![enqueue(keyed("k")).1, TxStep::Pause(point.clone()), TxStep::Rollback];
    let first = world.spawn({
        let world = world.clone();
        async move { world.run_tx(steps).await }
    });
    point.arrived().await;
    let second = world.spawn({
        let world = world.clone();
        async move { run_until_accepted(&world, || vec![enqueue(keyed("k")).1, TxStep::Commit]).await }
    });
    point.send_on();
    first.await.unwrap().unwrap();
    assert!(!second.await.unwrap()[0].enqueued()[0].is_duplicate());
    assert_eq!(world.worker().await.claim(10).await.messages.len(), 1);
}

/// A transaction that another one blocks for too long is refused, and the error says to run the whole transaction again.
pub async fn refusal_says_retry_transaction(world: World) {
    let (first, step) = enqueue(keyed("k"));
    let (open, point) = hold_open(&world, vec![step]);
    point.arrived().await;
    let refused = world.run_tx(vec![enqueue(keyed("k")).1, TxStep::Commit]).await.unwrap_err();
    assert_eq!(refused.retry(), Retry::Transaction, "{refused:?}");
    point.send_on();
    open.await.unwrap().unwrap();
    let again = world.run_tx(vec![enqueue(keyed("k")).1, TxStep::Commit]).await.unwrap();
    assert_eq!(again[0].enqueued(), [Enqueued::Duplicate { existing: first }]);
}

/// A message that commits after later ones were claimed is found by a claim within the rungs of the ladder.
pub async fn late_commit_found_within_rung(world: World) {
    let worker = world.immortal().await;
    let (late, step) = enqueue(order());
    let (open, point) = hold_open(&world, vec![step]);
    point.arrived().await;
    // Where writers take turns nothing can overtake the open transaction.
    if world.capabilities().concurrent_writers {
        let overtaking = world.enqueue(3).await;
        assert_eq!(ids(&worker.claim(10).await), overtaking);
    }
    point.send_on();
    open.await.unwrap().unwrap();
    for _ in 0..70 {
        let claim = worker.claim(10).await;
        if ids(&claim) == [late] {
            return;
        }
        world.advance_secs(1);
    }
    panic!("a message that committed late was not found in 70 claims over 70 seconds");
}

/// A queue of its own transaction keeps the order of its calls.
pub async fn order_of_calls_is_kept(world: World) {
    let (first, second): (Vec<_>, Vec<_>) = ((0..3).map(|_| checked(order())).collect(), (0..3).map(|_| checked(order())).collect());
    let sent: Vec<MessageId> = first.iter().chain(&second).map(NewMessage::id).collect();
    world.run_tx(vec![TxStep::Enqueue(first), TxStep::Enqueue(second), TxStep::Commit]).await.unwrap();
    assert_eq!(ids(&world.worker().await.claim(10).await), sent);
}
