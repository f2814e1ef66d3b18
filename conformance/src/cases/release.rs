//! Releases: what was not finished is given back, with its attempt.

use tickr_core::{Admin, Status, Storage, WorkerId};

use crate::world::{World, each, failed, ids, ok, released};

/// What was given back runs before the backlog.
pub async fn runs_before_backlog(world: World) {
    let (worker, claim) = world.claimed(2).await;
    world.enqueue(5).await;
    world.settle(each(&claim, &released("shutdown"))).await;
    assert_eq!(ids(&worker.claim(2).await), ids(&claim));
}

/// What was given back has its attempt back and reads CREATED again.
pub async fn attempt_is_given_back(world: World) {
    let (worker, mut claim) = world.claimed(1).await;
    let id = ids(&claim)[0];
    for round in 0..5 {
        assert_eq!((ids(&claim), claim.messages[0].attempt), (vec![id], 1), "round {round}");
        assert_eq!(world.settle(each(&claim, &released("shutdown"))).await.applied.count(), 1);
        assert_eq!(world.state(id).await, (Status::Created, 0), "round {round}");
        claim = worker.claim(1).await;
    }
}

/// A retry that was given back is still the retry that it was.
pub async fn retry_given_back_keeps_earlier_attempts(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.settle(each(&claim, &failed("boom"))).await;
    world.settle(each(&worker.claim(1).await, &released("shutdown"))).await;
    assert_eq!(world.state(ids(&claim)[0]).await, (Status::Retrying, 1));
    let again = worker.claim(1).await;
    assert_eq!((again.messages[0].attempt, again.messages[0].last_error.as_deref()), (2, Some("shutdown")));
}

/// A worker that retires gives back everything it holds, and is gone.
pub async fn retire_releases_everything(world: World) {
    world.enqueue(6).await;
    let worker = world.worker().await;
    let claims = [worker.claim(2).await, worker.claim(4).await];
    world.settle(ok(&claims[1], [0])).await;
    assert_eq!(worker.retire().await, 5);
    assert!(world.storage().workers().await.unwrap().is_empty());
    let next = world.worker().await.claim(10).await;
    assert_eq!(next.messages.len(), 5);
    assert!(next.messages.iter().all(|message| message.attempt == 1), "attempts are given back");
}

/// The reason of a retirement is in the history.
pub async fn retire_says_why(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.storage().retire(worker.id, "deploy of 1.2.3").await.unwrap();
    let history = world.history(ids(&claim)[0]).await;
    let last = history.last().unwrap();
    assert_eq!((last.event, last.to, last.error.as_deref()), ("released", Status::Created, Some("deploy of 1.2.3")));
}

/// Retiring a worker that is unknown, or gone already, is fine.
pub async fn retire_of_unknown_worker_is_fine(world: World) {
    assert_eq!(world.storage().retire(WorkerId::new(), "shutdown").await.unwrap().released, 0);
    let (worker, _) = world.claimed(1).await;
    assert_eq!((worker.retire().await, worker.retire().await), (1, 0));
}

/// A condemned worker whose claims are not yet taken back may still retire, cleanly.
pub async fn condemned_worker_may_retire(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.advance_secs(31);
    world.storage().reclaim(&tickr_core::ReclaimRequest::condemning(0)).await.unwrap();
    assert_eq!(worker.retire().await, 1);
    assert_eq!(world.state(ids(&claim)[0]).await, (Status::Created, 0));
}

/// What other workers hold is not given back with it.
pub async fn retire_leaves_other_workers_alone(world: World) {
    let (worker, _) = world.claimed(1).await;
    let (_, other) = world.claimed(1).await;
    worker.retire().await;
    assert_eq!(world.status(ids(&other)[0]).await, Status::Handling);
}
