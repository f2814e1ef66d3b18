//! Requeues: the dead come back.

use std::time::Duration;

use tickr_core::{Admin, Due, Message, MessageId, Selection, Status};

use crate::world::{ORDER, World, each, exhausted, failed, ids, order, these};

/// A dead message that is requeued is CREATED with attempt 0, and runs.
pub async fn dead_runs_again_from_attempt_zero(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.settle(each(&claim, &failed("boom"))).await;
    world.settle(each(&worker.claim(1).await, &exhausted("boom"))).await;
    let id = ids(&claim)[0];
    let acted = world.requeue(&[id]).await;
    assert_eq!((acted.done, acted.missing), (vec![id], vec![]));
    assert_eq!(world.state(id).await, (Status::Created, 0));
    let again = worker.claim(1).await;
    assert_eq!(again.messages[0].attempt, 1);
    world.settle_ok(&again).await;
    assert_eq!(world.status(id).await, Status::Success);
}

/// A requeued message still has its body.
pub async fn dead_has_body(world: World) {
    let id = world.dead(Message::new(ORDER, "the body")).await;
    world.requeue(&[id]).await;
    let claim = world.worker().await.claim(1).await;
    assert_eq!(&claim.messages[0].body.as_ref().expect("a body").payload[..], b"the body");
}

/// Unknown ids are reported, and the others are requeued.
pub async fn unknown_ids_are_reported(world: World) {
    let (id, unknown) = (world.dead(order()).await, MessageId::new());
    let acted = world.requeue(&[unknown, id]).await;
    assert_eq!((acted.done, acted.missing), (vec![id], vec![unknown]));
}

/// What is not dead is not requeued, and is reported.
pub async fn live_messages_are_reported(world: World) {
    let (_, claim) = world.claimed(2).await;
    world.settle(crate::world::ok(&claim, [0])).await;
    let ready = world.enqueue(1).await[0];
    let asked = [ids(&claim)[0], ids(&claim)[1], ready];
    let acted = world.requeue(&asked).await;
    assert_eq!((acted.done, acted.missing), (vec![], asked.to_vec()));
    assert_eq!(world.status(asked[0]).await, Status::Success);
}

/// A message is requeued once, however often it is asked for.
pub async fn again_is_reported(world: World) {
    let id = world.dead(order()).await;
    assert_eq!(world.requeue(&[id, id]).await.done, [id]);
    assert_eq!(world.requeue(&[id]).await.missing, [id]);
    assert_eq!(world.worker().await.claim(10).await.messages.len(), 1);
}

/// A message can be requeued for later.
pub async fn for_later_is_scheduled(world: World) {
    let id = world.dead(order()).await;
    world.storage().requeue(&these(&[id]), Due::After(Duration::from_secs(60))).await.unwrap();
    let record = world.record(id).await;
    assert_eq!((record.status, record.due_at.is_some()), (Status::Created, true));
    world.advance_secs(61);
    assert_eq!(world.promote().await, 1);
}

/// A filter requeues the dead of a type, oldest first, up to its limit.
pub async fn filter_takes_the_oldest_of_a_type(world: World) {
    let mut dead = Vec::new();
    for _ in 0..3 {
        dead.push(world.dead(order()).await);
    }
    let other = world.dead(Message::new("other", "")).await;
    let filter = Selection::event_type(ORDER).limit(2);
    let acted = world.storage().requeue(&filter, Due::Now).await.unwrap();
    assert_eq!((acted.done, acted.missing), (dead[..2].to_vec(), vec![]));
    world.assert_status(&[dead[2], other], Status::Dead).await;
}

/// A filter by tenant leaves other tenants alone.
pub async fn filter_by_tenant(world: World) {
    let mine = world.dead(order().tenant("acme")).await;
    let other = world.dead(order().tenant("umbrella")).await;
    let filter = Selection::all().tenant("acme").limit(10);
    assert_eq!(world.storage().requeue(&filter, Due::Now).await.unwrap().done, [mine]);
    assert_eq!(world.status(other).await, Status::Dead);
}

/// A filter without limits of its own takes every dead message.
pub async fn filter_of_all_takes_all(world: World) {
    let dead = [world.dead(order()).await, world.dead(Message::new("other", "")).await];
    let filter = Selection::all();
    assert_eq!(world.storage().requeue(&filter, Due::Now).await.unwrap().done, dead);
}

/// A killed message can be requeued.
pub async fn killed_message_comes_back(world: World) {
    let id = world.enqueue(1).await[0];
    world.kill(&[id]).await;
    world.requeue(&[id]).await;
    let claim = world.worker().await.claim(1).await;
    world.settle_ok(&claim).await;
    assert_eq!(world.events(id).await, ["created", "killed", "requeued", "claimed", "ok"]);
}

/// A dead letter is gone from the dead once it is requeued.
pub async fn leaves_the_dead(world: World) {
    let id = world.dead(order()).await;
    assert_eq!(world.storage().list_dead(&tickr_core::DeadQuery::default()).await.unwrap().items.len(), 1);
    world.requeue(&[id]).await;
    assert!(world.storage().list_dead(&tickr_core::DeadQuery::default()).await.unwrap().items.is_empty());
}
