//! Kills: an operator ends a message, wherever it is.

use std::time::Duration;

use tickr_core::{Admin, ErrorKind, Message, MessageId, REASON_BYTES_MAX, Selection, Status, Storage};

use crate::world::{ORDER, World, all_ok, bits, each, failed, failed_for, ids, ok, order, split};

/// A ready message that is killed is dead and is not claimed.
pub async fn ready_message_dies(world: World) {
    let id = world.enqueue(1).await[0];
    let acted = world.kill(&[id]).await;
    assert_eq!((acted.done, acted.missing), (vec![id], vec![]));
    assert_eq!(world.state(id).await, (Status::Dead, 0));
    assert!(world.worker().await.claim(10).await.messages.is_empty());
}

/// A scheduled message that is killed is dead and is not promoted.
pub async fn scheduled_message_dies(world: World) {
    let id = world.put(order().after(Duration::from_secs(60))).await;
    world.kill(&[id]).await;
    world.advance_secs(61);
    assert_eq!(world.promote().await, 0);
    assert_eq!(world.status(id).await, Status::Dead);
}

/// A leased message that is killed is dead, and its worker's result is refused.
pub async fn claimed_message_is_lost_to_its_worker(world: World) {
    let (worker, claim) = world.claimed(3).await;
    world.kill(&[ids(&claim)[1]]).await;
    assert_eq!(bits(&worker.beat().await.open[0].revoked), [1]);
    assert_eq!(split(&world.settle(all_ok(&claim)).await), (vec![0, 2], vec![], vec![1]));
    assert_eq!(world.status(ids(&claim)[1]).await, Status::Dead);
}

/// A kill of every member closes the claim; a settle that comes later is lost.
pub async fn killing_every_member_closes_the_claim(world: World) {
    let (_, claim) = world.claimed(2).await;
    world.kill(&ids(&claim)).await;
    assert!(world.storage().adopt(claim.token).await.unwrap().is_none());
    assert_eq!(split(&world.settle(all_ok(&claim)).await), (vec![], vec![], vec![0, 1]));
}

/// A kill of the last member that is not settled closes the claim.
pub async fn killing_the_rest_closes_the_claim(world: World) {
    let (worker, claim) = world.claimed(3).await;
    world.settle(ok(&claim, [0, 2])).await;
    world.kill(&[ids(&claim)[1]]).await;
    assert!(worker.beat().await.open.is_empty());
    assert_eq!(split(&world.settle(all_ok(&claim)).await), (vec![], vec![0, 2], vec![1]));
}

/// Unknown ids are reported, and the others are killed.
pub async fn unknown_ids_are_reported(world: World) {
    let (id, unknown) = (world.enqueue(1).await[0], MessageId::new());
    let acted = world.kill(&[unknown, id]).await;
    assert_eq!((acted.done, acted.missing), (vec![id], vec![unknown]));
}

/// What is finished or dead is not killed, and is reported.
pub async fn finished_messages_are_reported(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle_ok(&claim).await;
    let dead = world.dead(order()).await;
    let acted = world.kill(&[ids(&claim)[0], dead]).await;
    assert_eq!((acted.done, acted.missing), (vec![], vec![ids(&claim)[0], dead]));
    assert_eq!((world.status(ids(&claim)[0]).await, world.record(dead).await.last_error.as_deref()), (Status::Success, Some("no use")));
}

/// The reason is with the dead letter and in the history.
pub async fn reason_is_kept(world: World) {
    let (_, claim) = world.claimed(1).await;
    let id = ids(&claim)[0];
    world.kill(&[id]).await;
    assert_eq!(world.record(id).await.last_error.as_deref(), Some("killed: not wanted"));
    let history = world.history(id).await;
    let last = history.last().unwrap();
    assert_eq!((last.event, last.from, last.to, last.attempt), ("killed", Some(Status::Handling), Status::Dead, 1));
    assert_eq!((last.error.as_deref(), last.worker.as_deref()), (Some("not wanted"), Some("host-1")));
}

/// An id that is named twice is killed once.
pub async fn id_named_twice_is_killed_once(world: World) {
    let (_, claim) = world.claimed(1).await;
    let id = ids(&claim)[0];
    assert_eq!(world.kill(&[id, id]).await.done, [id]);
    assert_eq!(world.events(id).await, ["created", "claimed", "killed"]);
}

/// One kill may reach messages in every place.
pub async fn one_kill_reaches_every_place(world: World) {
    let (worker, claim) = world.claimed(3).await;
    world.settle(each(&claim, &failed_for("boom", Duration::from_secs(60)))).await;
    let ready = world.enqueue(2).await;
    let leased = ids(&worker.claim(1).await);
    assert_eq!(leased, ready[..1]);
    let all = [ids(&claim), ready].concat();
    assert_eq!(world.kill(&all).await.done.len(), 5);
    world.assert_status(&all, Status::Dead).await;
}

/// A filter kills the live messages of a type, oldest first, up to its limit.
pub async fn filter_kills_the_oldest_of_a_type(world: World) {
    let other = world.put(Message::new("other", "")).await;
    let (_, claim) = world.claimed(1).await;
    let ready = world.enqueue(2).await;
    let scheduled = world.put(order().after(Duration::from_secs(60))).await;
    let filter = |limit| Selection::event_type(ORDER).limit(limit);
    let mut first = world.storage().kill(&filter(3), "all of it").await.unwrap();
    first.done.sort();
    assert_eq!((first.done, first.missing), (vec![ids(&claim)[0], ready[0], ready[1]], vec![]));
    assert_eq!(world.storage().kill(&filter(3), "all of it").await.unwrap().done, [scheduled]);
    assert_eq!(world.status(other).await, Status::Created);
}

/// A filter by tenant leaves other tenants alone.
pub async fn filter_by_tenant(world: World) {
    let mine = world.put(order().tenant("acme")).await;
    let other = world.put(order().tenant("umbrella")).await;
    let filter = Selection::all().tenant("acme").limit(10);
    assert_eq!(world.storage().kill(&filter, "gone").await.unwrap().done, [mine]);
    assert_eq!(world.status(other).await, Status::Created);
    let leased = world.put(order().tenant("acme")).await;
    assert_eq!(world.worker().await.claim(10).await.members, 2);
    assert_eq!(world.storage().kill(&filter, "gone").await.unwrap().done, [leased]);
    assert_eq!(world.status(other).await, Status::Handling);
}

/// A reason that is too long to be kept with each message is refused, and nothing is killed.
pub async fn too_long_reason_is_refused(world: World) {
    let id = world.enqueue(1).await[0];
    let refused = world.storage().kill(&id.into(), &"x".repeat(REASON_BYTES_MAX + 1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert_eq!(world.status(id).await, Status::Created);
    assert_eq!(world.storage().kill(&id.into(), &"x".repeat(REASON_BYTES_MAX)).await.unwrap().done, [id]);
}

/// A retry that is killed keeps the count of its attempts.
pub async fn killed_retry_keeps_its_attempts(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle(each(&claim, &failed("boom"))).await;
    world.kill(&ids(&claim)).await;
    assert_eq!(world.state(ids(&claim)[0]).await, (Status::Dead, 1));
}

/// A message that is claimed while the kill looks for it is killed all the same: in the end each id is dead.
pub async fn while_claimed_between_looks(world: World) {
    for round in 0..30 {
        let sent = world.enqueue(8).await;
        let worker = world.worker().await.through(world.connect().await);
        let claims = world.spawn(async move {
            for _ in 0..4 {
                worker.claim(2).await;
            }
        });
        let acted = world.kill(&sent).await;
        claims.await.unwrap();
        assert!(acted.missing.is_empty(), "round {round}: not killed although never finished: {:?}", acted.missing);
        world.assert_status(&sent, Status::Dead).await;
    }
}
