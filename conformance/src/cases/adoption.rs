//! Adoption: an open claim can be read again.

use tickr_core::{ClaimedMessage, Status, Storage, Token};

use crate::world::{MAX, Worker, World, all_ok, each, failed, ids, ok, order, split};

/// An adopted claim is the claim as it was answered, member for member.
pub async fn answers_the_claim_again(world: World) {
    let (worker, first) = world.claimed(2).await;
    world.settle(each(&first, &failed("boom"))).await;
    let claim = worker.claim(10).await;
    let adopted = world.storage().adopt(claim.token).await.unwrap().unwrap();
    assert_eq!((adopted.token, adopted.members, adopted.solo), (claim.token, claim.members, claim.solo));
    assert_eq!(format!("{:?}", adopted.messages), format!("{:?}", claim.messages));
    assert_eq!(adopted.messages[0].body, claim.messages[0].body);
}

/// Claims two messages that differ in one count: that of the adopted claim is each one's own.
async fn assert_adopted_as_claimed(world: &World, worker: &Worker, count: impl Fn(&ClaimedMessage) -> u16, expected: [u16; 2]) {
    let claim = worker.claim(10).await;
    let mut counts: Vec<u16> = claim.messages.iter().map(&count).collect();
    counts.sort_unstable();
    assert_eq!(counts, expected);
    let adopted = world.storage().adopt(claim.token).await.unwrap().unwrap();
    assert_eq!(format!("{:?}", adopted.messages), format!("{:?}", claim.messages));
    world.settle_ok(&claim).await;
}

/// Members that differ in one count only, of attempts, of crashes, or in their maximum, keep each its own.
pub async fn each_member_keeps_its_own_counts(world: World) {
    let worker = world.immortal().await;
    world.enqueue(1).await;
    world.settle(each(&worker.claim(1).await, &failed("boom"))).await;
    world.enqueue(1).await;
    assert_adopted_as_claimed(&world, &worker, |message| message.attempt, [1, 2]).await;
    world.enqueue(1).await;
    let failing = worker.claim(1).await;
    let (dying, _) = world.claimed(1).await;
    world.crash(&dying).await;
    world.settle(each(&failing, &failed("boom"))).await;
    assert_adopted_as_claimed(&world, &worker, |message| message.crashes, [0, 1]).await;
    world.enqueue_all(vec![order(), order().max_attempts(3)]).await;
    assert_adopted_as_claimed(&world, &worker, |message| message.max_attempts, [3, MAX]).await;
}

/// Members that are settled or revoked are left out; the others keep their index.
pub async fn leaves_out_settled_and_revoked(world: World) {
    let (_, claim) = world.claimed(5).await;
    world.settle(ok(&claim, [0, 3])).await;
    world.kill(&[ids(&claim)[1]]).await;
    let adopted = world.storage().adopt(claim.token).await.unwrap().unwrap();
    assert_eq!(adopted.members, 5);
    let held: Vec<_> = adopted.messages.iter().map(|message| (message.index, message.id)).collect();
    assert_eq!(held, [(2, ids(&claim)[2]), (4, ids(&claim)[4])]);
}

/// What is adopted is settled like any claim.
pub async fn adopted_members_can_be_settled(world: World) {
    let (worker, claim) = world.claimed(4).await;
    world.settle(ok(&claim, [0])).await;
    let adopted = world.storage().adopt(claim.token).await.unwrap().unwrap();
    assert_eq!(split(&world.settle(all_ok(&adopted)).await), (vec![1, 2, 3], vec![], vec![]));
    assert!(worker.beat().await.open.is_empty());
    world.assert_status(&ids(&claim), Status::Success).await;
}

/// A closed claim cannot be adopted.
pub async fn closed_claim_is_none(world: World) {
    let (_, claim) = world.claimed(2).await;
    world.settle_ok(&claim).await;
    assert!(world.storage().adopt(claim.token).await.unwrap().is_none());
}

/// A token that was never claimed cannot be adopted.
pub async fn unknown_token_is_none(world: World) {
    assert!(world.storage().adopt(Token::new()).await.unwrap().is_none());
}

/// A reclaimed claim cannot be adopted.
pub async fn reclaimed_claim_is_none(world: World) {
    let (worker, claim) = world.claimed(2).await;
    world.crash(&worker).await;
    assert!(world.storage().adopt(claim.token).await.unwrap().is_none());
}

/// A solo claim is adopted as one, with the crashes of its member.
pub async fn solo_claim_stays_solo(world: World) {
    world.suspects(1).await;
    let claim = world.worker().await.claim_solo().await;
    let adopted = world.storage().adopt(claim.token).await.unwrap().unwrap();
    assert_eq!((adopted.solo, adopted.messages[0].crashes), (true, 2));
}

/// Another handle can adopt: the claim is in the database, not in the process.
pub async fn works_through_another_handle(world: World) {
    let (_, claim) = world.claimed(2).await;
    let adopted = world.connect().await.adopt(claim.token).await.unwrap().unwrap();
    assert_eq!(ids(&adopted), ids(&claim));
}
