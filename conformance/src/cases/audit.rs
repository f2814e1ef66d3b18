//! The audit: what contradicts the invariants is found.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tickr_core::{Admin, Audit, BodyFault, Context, DeadQuery, Finding, ListQuery, MessageId, Status, Storage, Worker};

use crate::harness::Sabotage;
use crate::world::{ORDER, World, dead, each, failed_for, ids, ok, order};

/// A queue in use, with messages in every state, contradicts nothing.
pub async fn queue_in_use_is_clean(world: World) {
    let (_, claim) = world.claimed(5).await;
    world.settle(ok(&claim, [0])).await;
    world.settle(crate::world::with(&claim, 1, failed_for("boom", Duration::from_secs(60)))).await;
    world.kill(&[ids(&claim)[2]]).await;
    world.dead(order()).await;
    world.enqueue(2).await;
    let audit = world.audit().await;
    assert_eq!((audit.messages, audit.claims, audit.findings), (8, 2, vec![]));
}

/// An empty queue contradicts nothing.
pub async fn empty_queue_is_clean(world: World) {
    assert_eq!(world.audit().await, Audit::default());
}

/// A message whose row is lost is found: it has a body, but neither a state nor a success.
pub async fn lost_row_is_reported(world: World) {
    let sent = world.enqueue(3).await;
    world.sabotage(Sabotage::RemoveReady(sent[1])).await;
    assert_eq!(world.audit().await.findings, [Finding::Lost(sent[1])]);
}

/// A message whose row is lost never reads as a success.
pub async fn lost_row_is_no_success(world: World) {
    let sent = world.enqueue(2).await;
    world.sabotage(Sabotage::RemoveReady(sent[1])).await;
    if let Ok(Some(record)) = world.storage().get(sent[1]).await {
        assert_ne!(record.status, Status::Success, "{record:?}");
    }
}

/// A message whose body is lost is found.
pub async fn missing_body_is_reported(world: World) {
    let sent = world.enqueue(3).await;
    world.sabotage(Sabotage::RemoveBody(sent[1])).await;
    assert_eq!(world.audit().await.findings, [Finding::MissingBody(sent[1])]);
}

/// A message without body is claimed and handed out as such, so that it is buried and not dropped.
pub async fn missing_body_is_claimed_and_buried(world: World) {
    let sent = world.enqueue(3).await;
    world.sabotage(Sabotage::RemoveBody(sent[1])).await;
    let worker = world.worker().await;
    let claim = worker.claim(10).await;
    assert_eq!(ids(&claim), sent);
    assert_eq!(claim.messages[1].body, Err(BodyFault::Missing));
    assert!(claim.messages[0].body.is_ok());
    world.settle(crate::world::and(ok(&claim, [0, 2]), &claim, 1, dead("body is missing"))).await;
    let letters = world.storage().list_dead(&tickr_core::DeadQuery::default()).await.unwrap().items;
    assert_eq!(letters.iter().map(|letter| (letter.id, letter.stored.is_none())).collect::<Vec<_>>(), [(sent[1], true)]);
    world.assert_status(&[sent[0], sent[2]], Status::Success).await;
}

/// A message without body whose worker dies is dead, not lost.
pub async fn missing_body_dies_with_its_worker(world: World) {
    let (worker, claim) = world.claimed(2).await;
    world.sabotage(Sabotage::RemoveBody(ids(&claim)[0])).await;
    let reclaimed = world.crash(&worker).await;
    let fates: Vec<_> = reclaimed.messages.iter().map(|message| (message.id, message.dead)).collect();
    assert!(fates.contains(&(ids(&claim)[0], true)) && fates.contains(&(ids(&claim)[1], false)), "{fates:?}");
    assert_eq!(world.storage().list_dead(&tickr_core::DeadQuery::default()).await.unwrap().items.len(), 1);
}

/// A message without body does not stop a settle, a retirement or a purge of others.
pub async fn missing_body_stops_nobody(world: World) {
    let (worker, claim) = world.claimed(3).await;
    world.sabotage(Sabotage::RemoveBody(ids(&claim)[0])).await;
    world.settle(each(&claim, &crate::world::failed("boom"))).await;
    let again = worker.claim(10).await;
    assert_eq!(again.messages.len(), 3);
    worker.retire().await;
    world.purge(tickr_core::Retention::default()).await;
    assert_eq!(world.worker().await.claim(10).await.messages.iter().filter(|message| message.body.is_ok()).count(), 2);
}

/// A message whose row cannot be read takes no neighbour along: the worker handles the others and records this one as dead, unrun.
pub async fn unreadable_row_dies_alone(world: World) {
    let sent = world.enqueue(50).await;
    world.sabotage(Sabotage::MakeUnreadable(sent[17])).await;
    let handled: Arc<Mutex<Vec<MessageId>>> = Arc::default();
    let seen = Arc::clone(&handled);
    let note = move |context: Context| {
        seen.lock().unwrap().push(context.message().id);
        async {}
    };
    let worker = Worker::builder(world.storage().clone()).on(ORDER, note).build().unwrap();
    worker.run_until_idle().await.unwrap();
    let others: Vec<MessageId> = sent.iter().copied().filter(|id| *id != sent[17]).collect();
    let mut ran = handled.lock().unwrap().clone();
    ran.sort_unstable();
    assert_eq!(ran, others);
    world.assert_status(&others, Status::Success).await;
    let record = world.record(sent[17]).await;
    assert_eq!(record.status, Status::Dead);
    let why = record.last_error.expect("a reason");
    assert!(why.contains("cannot be read"), "{why}");
    world.assert_clean_audit().await;
}

/// A message whose row cannot be read is in every list, marked, and hides nothing: before it was claimed, and when it is dead.
pub async fn unreadable_row_is_listed(world: World) {
    let sent = world.enqueue(5).await;
    world.sabotage(Sabotage::MakeUnreadable(sent[2])).await;
    let listed = world.storage().list(&ListQuery::default()).await.unwrap().items;
    let marked: Vec<_> = listed.iter().rev().map(|record| (record.stored.id, record.unreadable.is_some())).collect();
    assert_eq!(marked, sent.iter().map(|id| (*id, *id == sent[2])).collect::<Vec<_>>());
    assert!(world.record(sent[2]).await.unreadable.is_some());
    assert_eq!(world.events(sent[2]).await, ["created"]);
    world.kill(&sent).await;
    let letters = world.storage().list_dead(&DeadQuery::default()).await.unwrap().items;
    let marked: Vec<_> = letters.iter().rev().map(|letter| (letter.id, letter.unreadable.is_some())).collect();
    assert_eq!(marked, sent.iter().map(|id| (*id, *id == sent[2])).collect::<Vec<_>>());
    assert_eq!(world.stats().await.total(Status::Dead).n, 5);
    assert_eq!(world.requeue(&sent).await.done.len(), 5);
}

/// A claim with a message whose row cannot be read is adopted: the message is a member like the others, without a body.
pub async fn unreadable_row_is_adopted(world: World) {
    let (_, claim) = world.claimed(3).await;
    world.sabotage(Sabotage::MakeUnreadable(ids(&claim)[1])).await;
    let adopted = world.storage().adopt(claim.token).await.unwrap().expect("an open claim");
    assert_eq!(ids(&adopted), ids(&claim));
    assert!(matches!(adopted.messages[1].body, Err(BodyFault::Unreadable(_))), "{:?}", adopted.messages[1].body);
    assert!(adopted.messages[0].body.is_ok() && adopted.messages[2].body.is_ok());
}

/// A message whose row cannot be read stops neither the reclaim nor the retirement of its worker.
pub async fn unreadable_row_crashes_like_any_other(world: World) {
    let (worker, claim) = world.claimed(3).await;
    world.sabotage(Sabotage::MakeUnreadable(ids(&claim)[0])).await;
    assert_eq!(world.crash(&worker).await.messages.len(), 3);
    assert_eq!(world.crash_again(3).await.messages.len(), 3);
    let other = world.worker().await;
    assert_eq!(other.claim_solo().await.messages.len(), 1);
    other.retire().await;
    assert_eq!(world.storage().workers().await.unwrap(), []);
}
