//! Heartbeats: they extend a worker's lease and tell it what it holds.

use std::time::Duration;

use tickr_core::{Admin, ErrorKind, Heartbeat, Message, Storage, WorkerId};

use crate::world::{LEASE, ORDER, World, bits, ids, ok};

/// A heartbeat extends the lease from the moment it arrives.
pub async fn extends_the_lease(world: World) {
    let (worker, claim) = world.claimed(1).await;
    for _ in 0..5 {
        world.advance_secs(20);
        worker.beat().await;
        assert_eq!(world.reclaim().await.condemned, 0);
    }
    world.settle_ok(&claim).await;
}

/// A condemned worker learns of it by its heartbeat.
pub async fn condemned_worker_learns_of_it(world: World) {
    let (worker, _) = world.claimed(1).await;
    world.advance_secs(31);
    world.storage().reclaim(&tickr_core::ReclaimRequest::condemning(0)).await.unwrap();
    assert_eq!(worker.heartbeat().await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

/// A worker that was removed, or never was, learns that it has no lease.
pub async fn unknown_worker_learns_of_it(world: World) {
    let worker = world.worker().await;
    world.crash(&worker).await;
    assert_eq!(worker.heartbeat().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let heartbeat = Heartbeat::new(WorkerId::new(), LEASE);
    assert_eq!(world.storage().heartbeat(&heartbeat).await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

/// An expired worker that nobody condemned lives on with its next heartbeat.
pub async fn expired_worker_recovers_unless_condemned(world: World) {
    let worker = world.worker().await;
    world.enqueue(1).await;
    world.advance_secs(3_600);
    assert_eq!(worker.claim(1).await.members, 0);
    worker.beat().await;
    assert_eq!(worker.claim(1).await.members, 1);
}

/// The answer has every open claim of the worker, with what is settled and revoked of it.
pub async fn answers_with_open_claims(world: World) {
    world.enqueue(10).await;
    let (worker, other) = (world.worker().await, world.worker().await);
    let claims = [worker.claim(4).await, worker.claim(3).await];
    other.claim(2).await;
    world.settle(ok(&claims[0], [1, 2])).await;
    world.kill(&[ids(&claims[0])[3]]).await;
    let mut open = worker.beat().await.open;
    open.sort_by_key(|claim| claim.token != claims[0].token);
    let seen: Vec<_> = open.iter().map(|claim| (claim.token, bits(&claim.settled), bits(&claim.revoked))).collect();
    assert_eq!(seen, [(claims[0].token, vec![1, 2], vec![3]), (claims[1].token, vec![], vec![])]);
    assert_eq!((open[0].settled.len(), open[0].revoked.len()), (4, 4));
}

/// A claim that is closed is not in the answer.
pub async fn closed_claims_are_not_answered(world: World) {
    let (worker, claim) = world.claimed(2).await;
    world.settle_ok(&claim).await;
    assert!(worker.beat().await.open.is_empty());
}

/// A claim whose members were all killed is closed: it is missing from the answer.
pub async fn killed_claim_is_missing_from_the_answer(world: World) {
    let (worker, claim) = world.claimed(2).await;
    world.kill(&ids(&claim)).await;
    assert!(worker.beat().await.open.is_empty());
}

/// Whether a worker sleeps is stored.
pub async fn idle_is_stored(world: World) {
    let worker = world.worker().await;
    for idle in [true, false] {
        let mut heartbeat = Heartbeat::new(worker.id, LEASE);
        heartbeat.idle = idle;
        world.storage().heartbeat(&heartbeat).await.unwrap();
        assert_eq!(world.storage().workers().await.unwrap()[0].idle, idle);
    }
}

/// A heartbeat may shorten the lease, too.
pub async fn takes_the_lease_it_names(world: World) {
    let worker = world.worker_with(Duration::from_secs(3_600)).await;
    world.storage().heartbeat(&Heartbeat::new(worker.id, Duration::from_secs(1))).await.unwrap();
    world.advance_secs(2);
    assert_eq!(world.reclaim().await.condemned, 1);
}

/// A worker is told when a message of its types waits as a suspect, and only then.
pub async fn tells_of_suspects_of_its_types(world: World) {
    let (crashed, _) = world.claimed(2).await;
    let (own, other) = (world.worker_for(&[ORDER], LEASE * 9).await, world.worker_for(&["other"], LEASE * 9).await);
    world.crash(&crashed).await;
    assert_eq!(own.beat().await.suspects, None, "the first crash makes no suspects");
    world.crash_again(2).await;
    assert_eq!((own.beat().await.suspects, other.beat().await.suspects), (Some(2), None));
    for _ in 0..2 {
        world.settle_ok(&own.claim_solo().await).await;
    }
    assert_eq!(own.beat().await.suspects, None);
}

/// A heartbeat reports the crashes of the first suspect of each type, and of these the most.
pub async fn tells_the_most_crashes_of_first_suspects(world: World) {
    let types = ["a", "b"];
    let (own, mut seen) = (world.worker_for(&types, LEASE * 100).await, Vec::new());
    for crashes in 1..=4 {
        let put = if crashes == 3 { vec![Message::new("b", "")] } else { Vec::new() };
        world.enqueue_all(if crashes == 1 { vec![Message::new("a", "")] } else { put }).await;
        let dying = world.worker_for(&types, LEASE).await;
        dying.claim_of(&types, 10).await;
        dying.claim_solo().await;
        world.crash(&dying).await;
        seen.push(own.beat().await.suspects);
    }
    assert_eq!(seen, [None, Some(2), Some(3), Some(4)]);
}
