//! The fence: only the holder of the newest lease can change a message.

use tickr_core::{Bits, Claim, ErrorKind, Settlement, Status, Storage, Token};

use crate::world::{LEASE, ORDER, Worker, World, all_ok, each, exhausted, failed, ids, released, split};

/// One message, claimed by a worker that then dies, and claimed again by another.
async fn handed_over(world: &World) -> (Claim, Worker, Claim) {
    let (zombie, old) = world.claimed(1).await;
    world.crash(&zombie).await;
    let heir = world.immortal().await;
    let new = heir.claim(1).await;
    assert_eq!(ids(&new), ids(&old));
    (old, heir, new)
}

/// A worker that comes back after its lease was taken changes nothing, and learns that it lost.
pub async fn zombie_changes_nothing(world: World) {
    let (old, _, new) = handed_over(&world).await;
    for settlement in [all_ok(&old), each(&old, &exhausted("late")), each(&old, &failed("late"))] {
        assert_eq!(split(&world.settle(settlement).await), (vec![], vec![], vec![0]));
    }
    assert_eq!(world.state(ids(&new)[0]).await, (Status::Handling, 2));
    world.settle_ok(&new).await;
}

/// The new holder's result stands, whoever comes later.
pub async fn result_of_the_holder_stands(world: World) {
    let (old, _, new) = handed_over(&world).await;
    world.settle_ok(&new).await;
    world.settle(each(&old, &exhausted("late"))).await;
    assert_eq!(world.status(ids(&new)[0]).await, Status::Success);
    assert_eq!(world.events(ids(&new)[0]).await, ["created", "claimed", "reclaimed", "claimed", "ok"]);
}

/// The token is the fence, not the attempt: after a release the attempt's number is used again, and the old token is not.
pub async fn released_attempt_number_is_no_lease(world: World) {
    let (worker, old) = world.claimed(1).await;
    world.settle(each(&old, &released("shutdown"))).await;
    let new = worker.claim(1).await;
    assert_eq!((old.messages[0].attempt, new.messages[0].attempt), (1, 1));
    let late = world.settle(each(&old, &exhausted("late"))).await;
    assert!(late.applied.is_empty(), "{late:?}");
    assert_eq!(world.state(ids(&new)[0]).await, (Status::Handling, 1));
    world.settle_ok(&new).await;
}

/// A requeued message is not touched by the token that killed it the first time.
pub async fn token_of_an_earlier_life_changes_nothing(world: World) {
    let (worker, old) = world.claimed(1).await;
    world.settle(each(&old, &exhausted("first life"))).await;
    world.requeue(&ids(&old)).await;
    let new = worker.claim(1).await;
    assert_eq!((old.messages[0].attempt, new.messages[0].attempt), (1, 1));
    assert!(world.settle(all_ok(&old)).await.applied.is_empty());
    assert_eq!(world.status(ids(&new)[0]).await, Status::Handling);
}

/// The incarnation is the holder, not the name: two workers of one name hold their own claims.
pub async fn equal_names_are_two_workers(world: World) {
    let (first, claim) = world.claimed(1).await;
    let second = world.worker_for(&[ORDER], LEASE * 100).await;
    assert_eq!(first.name, second.name);
    assert!(second.beat().await.open.is_empty());
    world.crash(&first).await;
    second.beat().await;
    assert_eq!(split(&world.settle(all_ok(&claim)).await), (vec![], vec![], vec![0]));
}

/// A token that was never claimed is lost, not an error: its claim may have been swept away.
pub async fn unknown_token_is_lost(world: World) {
    let mut settlement = Settlement::new(Token::new(), 3);
    settlement.succeeded = Bits::full(3);
    assert_eq!(split(&world.settle(settlement).await), (vec![], vec![], vec![0, 1, 2]));
}

/// A settlement that does not fit its claim is a mistake of the caller, and writes nothing.
pub async fn mask_of_another_length_is_refused(world: World) {
    let (_, claim) = world.claimed(3).await;
    let mut settlement = Settlement::new(claim.token, 2);
    settlement.succeeded = Bits::full(2);
    let refused = world.storage().settle(&[settlement]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    world.assert_status(&ids(&claim), Status::Handling).await;
}

/// Nobody holds a message twice: after a hand-over the old worker's heartbeat shows nothing.
pub async fn lease_moves_whole(world: World) {
    let (old, heir, new) = handed_over(&world).await;
    assert!(world.storage().adopt(old.token).await.unwrap().is_none());
    let open = heir.beat().await.open;
    assert_eq!(open.iter().map(|claim| claim.token).collect::<Vec<_>>(), [new.token]);
}
