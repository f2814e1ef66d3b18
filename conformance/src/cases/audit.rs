//! The audit: what contradicts the invariants is found.

use std::time::Duration;

use tickr_core::{Admin, Audit, Finding, Status};

use crate::harness::Sabotage;
use crate::world::{World, dead, each, failed_for, ids, ok, order};

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
    assert!(claim.messages[1].body.is_none() && claim.messages[0].body.is_some());
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
    assert_eq!(world.worker().await.claim(10).await.messages.iter().filter(|message| message.body.is_some()).count(), 2);
}
