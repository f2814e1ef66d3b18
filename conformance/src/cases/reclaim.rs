//! Reclaim: what a dead worker held comes back.

use std::time::Duration;

use tickr_core::protocol::Lane;
use tickr_core::{Admin, ReclaimRequest, Status, Storage};

use crate::world::{LEASE, ORDER, WithMax, World, each, failed, group, ids, ok, order};

/// The messages of a worker that died come back, and are said to.
pub async fn messages_of_dead_worker_come_back(world: World) {
    let (worker, claim) = world.claimed(3).await;
    let reclaimed = world.crash(&worker).await;
    assert_eq!((reclaimed.condemned, reclaimed.claims), (1, 1));
    let mut told: Vec<_> =
        reclaimed.messages.iter().map(|message| (message.id, message.event_type.to_string(), message.attempt, message.dead)).collect();
    told.sort();
    let expected: Vec<_> = ids(&claim).into_iter().map(|id| (id, ORDER.to_owned(), 1, false)).collect();
    assert_eq!(told, expected);
    world.assert_status(&ids(&claim), Status::Retrying).await;
}

/// A worker that is alive keeps what it holds.
pub async fn live_worker_is_left_alone(world: World) {
    let (dying, _) = world.claimed(1).await;
    world.enqueue(2).await;
    let alive = world.worker_with(LEASE * 9).await;
    let claim = alive.claim(10).await;
    assert_eq!(world.crash(&dying).await.claims, 1);
    world.assert_status(&ids(&claim), Status::Handling).await;
    assert_eq!(alive.beat().await.open.len(), 1);
}

/// Without being asked to condemn, nobody is condemned; what condemned ones hold is taken back.
pub async fn condemns_only_when_asked(world: World) {
    let (worker, _) = world.claimed(1).await;
    world.advance(worker.lease * 2);
    let quiet = ReclaimRequest::new(10);
    let reclaimed = world.storage().reclaim(&quiet).await.unwrap();
    assert_eq!((reclaimed.condemned, reclaimed.claims), (0, 0));
    world.storage().reclaim(&ReclaimRequest::condemning(0)).await.unwrap();
    assert_eq!(world.storage().reclaim(&quiet).await.unwrap().claims, 1);
}

/// The limit counts claims; the rest is taken by the next calls, which condemn nobody again, and the worker goes last.
pub async fn limit_counts_claims(world: World) {
    world.enqueue(10).await;
    let worker = world.worker().await;
    for _ in 0..5 {
        worker.claim(2).await;
    }
    world.advance(worker.lease * 2);
    let mut done = Vec::new();
    for _ in 0..4 {
        let reclaimed = world.storage().reclaim(&ReclaimRequest::condemning(2)).await.unwrap();
        done.push((reclaimed.condemned, reclaimed.claims));
    }
    assert_eq!(done, [(1, 2), (0, 2), (0, 1), (0, 0)]);
    assert!(world.storage().workers().await.unwrap().is_empty());
}

/// What was settled before the crash stays as it was settled.
pub async fn settled_members_stay_settled(world: World) {
    let (worker, claim) = world.claimed(4).await;
    world.settle(ok(&claim, [0, 1])).await;
    world.kill(&[ids(&claim)[2]]).await;
    let reclaimed = world.crash(&worker).await;
    assert_eq!(reclaimed.messages.iter().map(|message| message.id).collect::<Vec<_>>(), [ids(&claim)[3]]);
    world.assert_status(&ids(&claim)[..2], Status::Success).await;
    assert_eq!(world.status(ids(&claim)[2]).await, Status::Dead);
}

/// The maximum that counts is the one of the claimer, as it was when it claimed.
pub async fn uses_handler_max_of_claimer(world: World) {
    let id = world.enqueue(1).await[0];
    let worker = world.worker().await;
    // A shared crash leaves room for one attempt more of two, not of the default ten.
    let lanes = vec![group(ORDER, &Lane::ORDINARY, 1).max(2)];
    let claim = worker.send(&worker.request(lanes.clone(), 1)).await;
    world.settle(each(&claim, &failed("boom"))).await;
    for _ in 0..2 {
        let worker = world.worker().await;
        worker.send(&worker.request(lanes.clone(), 1)).await;
        world.crash(&worker).await;
        assert_eq!(world.state(id).await, (Status::Retrying, 1));
    }
    let solo = world.worker().await;
    assert_eq!(solo.claim_solo_max(2).await.messages[0].attempt, 2);
    let reclaimed = world.crash(&solo).await;
    assert!(reclaimed.messages[0].dead, "{reclaimed:?}");
}

/// A message's own maximum goes before the claimer's.
pub async fn own_maximum_decides(world: World) {
    let id = world.put(order().max_attempts(1)).await;
    for _ in 0..2 {
        world.crash_again(1).await;
        assert_eq!(world.state(id).await, (Status::Retrying, 0), "a shared crash leaves room for one attempt");
    }
    let solo = world.worker().await;
    solo.claim_solo().await;
    world.crash(&solo).await;
    assert_eq!(world.state(id).await, (Status::Dead, 1));
}

/// Taking back happens once, however often it is asked for.
pub async fn again_is_a_no_op(world: World) {
    let (worker, claim) = world.claimed(2).await;
    world.crash(&worker).await;
    let again = world.reclaim().await;
    assert_eq!((again.condemned, again.claims, again.messages.len()), (0, 0, 0));
    assert_eq!(world.events(ids(&claim)[0]).await, ["created", "claimed", "reclaimed"]);
}

/// A worker that holds nothing is just removed.
pub async fn idle_worker_is_removed(world: World) {
    let worker = world.worker().await;
    assert_eq!(world.crash(&worker).await.condemned, 1);
    assert!(world.storage().workers().await.unwrap().is_empty());
}

/// Many dead workers are taken back in pages, whatever is in front.
pub async fn every_page_makes_progress(world: World) {
    world.enqueue(30).await;
    for _ in 0..10 {
        world.worker().await.claim(3).await;
    }
    world.advance(LEASE * 2);
    let mut taken = 0;
    for _ in 0..4 {
        taken += world.storage().reclaim(&ReclaimRequest::condemning(3)).await.unwrap().messages.len();
    }
    assert_eq!(taken, 30);
    assert!(world.storage().workers().await.unwrap().is_empty());
}

/// A message that was taken back runs again, and its success counts.
pub async fn message_runs_again_and_succeeds(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.crash(&worker).await;
    let second = world.worker().await.claim(1).await;
    assert_eq!((second.messages[0].attempt, second.messages[0].crashes), (2, 1));
    world.settle_ok(&second).await;
    assert_eq!(world.state(ids(&claim)[0]).await, (Status::Success, 2));
}

/// A worker whose lease runs to the very moment is dead; one microsecond is enough to live.
pub async fn expiry_is_a_moment_of_the_database(world: World) {
    let worker = world.worker_with(Duration::from_secs(10)).await;
    world.advance_secs(5);
    assert_eq!(world.reclaim().await.condemned, 0);
    world.advance_secs(5);
    assert_eq!(world.reclaim().await.condemned, 1);
    drop(worker);
}
