//! The end of exclusivity: a worker says that it is about to claim other work beside a suspect.

use tickr_core::{Claim, MessageId, ReclaimRequest, Status, Storage, Token};

use crate::world::{Worker, World, all_ok, ids, order};

/// A suspect at its last attempt, claimed exclusively.
async fn last_attempt(world: &World) -> (Worker, Claim, MessageId) {
    let id = world.put(order().max_attempts(1)).await;
    for _ in 0..2 {
        world.crash_again(1).await;
    }
    let worker = world.worker().await;
    let claim = worker.claim_solo().await;
    assert_eq!((ids(&claim), claim.solo, claim.messages[0].attempt), (vec![id], true, 1));
    (worker, claim, id)
}

async fn end(world: &World, token: Token) -> bool {
    world.storage().end_exclusive(token).await.unwrap()
}

/// A claim stays exclusive until its end is recorded.
pub async fn crash_before_the_end_may_kill(world: World) {
    let (worker, _, id) = last_attempt(&world).await;
    world.crash(&worker).await;
    assert_eq!(world.state(id).await, (Status::Dead, 1));
}

/// After the end a crash is shared: it does not kill, and leaves room for one attempt.
pub async fn crash_after_the_end_is_shared(world: World) {
    let (worker, claim, id) = last_attempt(&world).await;
    assert!(end(&world, claim.token).await);
    assert!(!world.storage().adopt(claim.token).await.unwrap().unwrap().solo);
    world.crash(&worker).await;
    assert_eq!(world.state(id).await, (Status::Retrying, 0));
}

/// Its answer may have been lost: it is sent again. A claim that never was exclusive has no other end.
pub async fn end_may_be_repeated(world: World) {
    let (worker, claim, id) = last_attempt(&world).await;
    assert_eq!((end(&world, claim.token).await, end(&world, claim.token).await), (true, true));
    world.enqueue(2).await;
    assert!(end(&world, worker.claim(2).await.token).await);
    world.crash(&worker).await;
    assert_eq!(world.status(id).await, Status::Retrying);
}

/// The worker goes on holding the claim, and its outcome is recorded.
pub async fn end_changes_nothing_else(world: World) {
    let (worker, claim, id) = last_attempt(&world).await;
    assert!(end(&world, claim.token).await);
    assert_eq!(worker.beat().await.open.iter().map(|open| open.token).collect::<Vec<_>>(), [claim.token]);
    assert_eq!(world.status(id).await, Status::Handling);
    assert!(!world.settle(all_ok(&claim)).await.applied.is_empty());
    assert_eq!(world.state(id).await, (Status::Success, 1));
}

/// A claim that is closed, or never was, has nothing to end.
pub async fn closed_claim_has_no_end(world: World) {
    let (_, claim, _) = last_attempt(&world).await;
    world.settle_ok(&claim).await;
    assert_eq!((end(&world, claim.token).await, end(&world, Token::new()).await), (false, false));
}

/// A worker that was condemned has crashed as it was.
pub async fn condemned_worker_cannot_end_it(world: World) {
    let (worker, claim, id) = last_attempt(&world).await;
    world.advance(worker.lease * 2);
    world.storage().reclaim(&ReclaimRequest::condemning(0)).await.unwrap();
    assert!(!end(&world, claim.token).await);
    world.reclaim().await;
    assert_eq!(world.state(id).await, (Status::Dead, 1));
}

/// Where the end and a reclaim meet, the answer says which came first, and the message's fate agrees.
pub async fn end_races_reclaim(world: World) {
    let other = world.through(world.connect().await);
    for _ in 0..20 {
        let (worker, claim, id) = last_attempt(&world).await;
        world.advance(worker.lease * 2);
        let ending = other.clone();
        let ended = world.spawn(async move { end(&ending, claim.token).await });
        world.reclaim().await;
        let ended = ended.await.unwrap();
        world.reclaim().await;
        assert_eq!(world.status(id).await, if ended { Status::Retrying } else { Status::Dead });
        // Out of the way of the next round.
        world.kill(&[id]).await;
    }
}
