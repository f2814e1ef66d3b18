//! Leases: who is registered and alive may claim; expiry only decides when others may take over.

use std::sync::Arc;
use std::time::Duration;

use tickr_core::{Admin, ErrorKind, Heartbeat, ReclaimRequest, Registration, Status, Storage, WorkerId, WorkerRecord};
use tokio::sync::Barrier;

use crate::faults::{Faulty, Op};
use crate::rendezvous::Rendezvous;
use crate::world::{LEASE, ORDER, Worker, World, each, ids, ordinary, released};

async fn show(world: &World, worker: &Worker) -> Option<WorkerRecord> {
    let workers = world.storage().workers().await.unwrap();
    workers.into_iter().find(|record| record.id == worker.id)
}

/// A registered worker is listed with its name, its types and its lease.
pub async fn registered_worker_is_listed(world: World) {
    let before = world.now().await;
    let worker = world.worker_for(&[ORDER, "order.paid"], LEASE).await;
    let after = world.now().await;
    let record = show(&world, &worker).await.expect("a worker");
    let mut types: Vec<&str> = record.event_types.iter().map(|event_type| event_type.as_str()).collect();
    types.sort_unstable();
    assert_eq!(
        (record.name.as_str(), types, record.lost, record.idle, record.open_claims),
        ("host-1", vec![ORDER, "order.paid"], false, false, 0)
    );
    assert!(record.started_at >= before.before(Duration::from_millis(1)) && record.started_at <= after, "{record:?}");
    assert!(
        record.expires_at >= before.after(LEASE).before(Duration::from_millis(1)) && record.expires_at <= after.after(LEASE),
        "{record:?}"
    );
}

/// Workers are listed oldest first, each with what it holds.
pub async fn workers_are_listed_oldest_first(world: World) {
    let (first, _) = world.claimed(2).await;
    world.advance_secs(1);
    let second = world.worker().await;
    let listed: Vec<_> = world.storage().workers().await.unwrap().into_iter().map(|record| (record.id, record.open_claims)).collect();
    assert_eq!(listed, [(first.id, 1), (second.id, 0)]);
}

/// A lease below a second is a lease.
pub async fn sub_second_lease_works(world: World) {
    let before = world.now().await;
    let lease = Duration::from_millis(900);
    let worker = world.worker_with(lease).await;
    let expires_at = show(&world, &worker).await.expect("a worker").expires_at;
    assert!(expires_at >= before.after(lease).before(Duration::from_millis(1)), "{before:?} {expires_at:?}");
    assert!(expires_at <= world.now().await.after(lease), "{expires_at:?}");
    world.enqueue(1).await;
    world.advance(Duration::from_millis(901));
    assert!(worker.claim(1).await.messages.is_empty(), "expired");
}

/// Registering again extends the lease.
pub async fn register_again_extends(world: World) {
    let worker = world.worker().await;
    let first = show(&world, &worker).await.expect("a worker").expires_at;
    world.advance_secs(10);
    worker.register().await.unwrap();
    let second = show(&world, &worker).await.expect("a worker").expires_at;
    assert!(second >= first.after(Duration::from_secs(10)), "{first:?} {second:?}");
    assert_eq!(world.storage().workers().await.unwrap().len(), 1);
}

/// A worker that was condemned cannot come back under the same incarnation.
pub async fn condemned_worker_cannot_register_again(world: World) {
    let (worker, _) = world.claimed(2).await;
    world.advance_secs(31);
    // Condemned, but it still holds a claim: its row is there.
    world.storage().reclaim(&ReclaimRequest::condemning(0)).await.unwrap();
    assert_eq!(worker.register().await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

/// A worker that was removed takes nothing, and gets an empty claim.
pub async fn claim_by_removed_worker_takes_nothing(world: World) {
    let worker = world.worker().await;
    world.crash(&worker).await;
    let id = world.enqueue(1).await[0];
    assert_eq!(worker.claim(10).await.members, 0);
    assert_eq!(world.state(id).await, (Status::Created, 0));
}

/// A worker that was never registered takes nothing.
pub async fn claim_by_unknown_worker_takes_nothing(world: World) {
    let id = world.enqueue(1).await[0];
    let worker = world.worker().await;
    let mut request = worker.request(ordinary(&[ORDER], 1), 1);
    request.worker = WorkerId::new();
    assert_eq!(worker.send(&request).await.members, 0);
    assert_eq!(world.state(id).await, (Status::Created, 0));
}

/// A worker whose lease has run out takes nothing more.
pub async fn claim_by_expired_worker_takes_nothing(world: World) {
    let worker = world.worker().await;
    world.enqueue(1).await;
    world.advance_secs(31);
    assert_eq!(worker.claim(10).await.members, 0);
}

/// A condemned worker takes nothing, even while it still holds a claim.
pub async fn claim_by_condemned_worker_takes_nothing(world: World) {
    let (worker, _) = world.claimed(1).await;
    world.advance_secs(31);
    world.storage().reclaim(&ReclaimRequest::condemning(0)).await.unwrap();
    world.enqueue(1).await;
    assert_eq!(worker.claim(10).await.members, 0);
}

/// A worker with an open claim is not removed until the claim was taken back.
pub async fn worker_with_open_claim_cannot_be_removed(world: World) {
    let (worker, claim) = world.claimed(1).await;
    let second = worker.send(&worker.request(ordinary(&[ORDER], 1), 1)).await;
    assert!(second.messages.is_empty());
    world.advance_secs(31);
    let condemned = world.storage().reclaim(&ReclaimRequest::condemning(0)).await.unwrap();
    assert_eq!((condemned.condemned, condemned.claims), (1, 0));
    let record = show(&world, &worker).await.expect("a condemned worker with an open claim stays");
    assert_eq!((record.lost, record.open_claims), (true, 1));
    assert!(world.storage().adopt(claim.token).await.unwrap().is_some());
    world.reclaim().await;
    assert_eq!(show(&world, &worker).await, None);
}

/// A claim whose answer was lost is known to the next heartbeat, and adopting it gives its messages.
pub async fn claim_with_lost_answer_is_recovered_by_heartbeat(world: World) {
    let faulty = Faulty::new(world.storage().clone());
    let worker = world.worker().await;
    let sent = world.enqueue(3).await;
    faulty.lose_answers(Op::Claim, 1);
    let request = worker.request(ordinary(&[ORDER], 3), 3);
    assert_eq!(faulty.claim(&request).await.unwrap_err().kind(), ErrorKind::Indeterminate);
    let open = worker.beat().await.open;
    assert_eq!(open.iter().map(|claim| claim.token).collect::<Vec<_>>(), [request.token]);
    let claim = world.storage().adopt(request.token).await.unwrap().expect("an open claim");
    assert_eq!(ids(&claim), sent);
    world.settle_ok(&claim).await;
    world.assert_status(&sent, Status::Success).await;
}

/// A claim that was given up and commits late is found by the heartbeat, and its messages go back with their attempts.
pub async fn late_commit_of_abandoned_claim_is_released(world: World) {
    let (worker, point) = (world.worker().await, Rendezvous::new());
    let sent = world.enqueue(2).await;
    let faulty = Faulty::new(world.storage().clone());
    faulty.hold(Op::Claim, &point);
    let request = worker.request(ordinary(&[ORDER], 2), 2);
    let late = world.spawn({
        let request = request.clone();
        async move { faulty.claim(&request).await }
    });
    point.arrived().await;
    assert!(worker.beat().await.open.is_empty(), "not there yet");
    point.send_on();
    late.await.unwrap().unwrap();
    let open = worker.beat().await.open;
    assert_eq!(open[0].token, request.token);
    let claim = world.storage().adopt(request.token).await.unwrap().expect("an open claim");
    world.settle(each(&claim, &released("nobody waits for it"))).await;
    for id in &sent {
        assert_eq!(world.state(*id).await, (Status::Created, 0));
    }
    assert_eq!(ids(&worker.claim(10).await), sent);
}

/// A claim that commits after its worker was retired takes nothing.
pub async fn late_claim_of_retired_worker_takes_nothing(world: World) {
    let (worker, point) = (world.worker().await, Rendezvous::new());
    let id = world.enqueue(1).await[0];
    let faulty = Faulty::new(world.storage().clone());
    faulty.hold(Op::Claim, &point);
    let request = worker.request(ordinary(&[ORDER], 1), 1);
    let late = world.spawn(async move { faulty.claim(&request).await });
    point.arrived().await;
    worker.retire().await;
    point.send_on();
    assert_eq!(late.await.unwrap().unwrap().members, 0);
    assert_eq!(world.state(id).await, (Status::Created, 0));
}

/// A claim that races the retirement of its worker takes nothing, or what it took is given back: nothing stays with a worker that is gone.
pub async fn claim_racing_retirement_leaves_nothing_leased(world: World) {
    for _ in 0..20 {
        let id = world.enqueue(1).await[0];
        let worker = world.worker().await;
        let (claiming, barrier) = (worker.through(world.connect().await), Arc::new(Barrier::new(2)));
        let meet = Arc::clone(&barrier);
        let claim = world.spawn(async move {
            meet.wait().await;
            claiming.claim(1).await.members
        });
        barrier.wait().await;
        let released = worker.retire().await;
        // A claim that came first was given back; one that came second took nothing.
        let taken = claim.await.unwrap();
        assert_eq!(taken, released);
        assert_eq!(world.state(id).await, (Status::Created, 0));
        let next = world.worker().await;
        world.settle_ok(&next.claim(1).await).await;
        next.retire().await;
    }
}

/// After an outage that was longer than every lease, nobody is dead: reclaimers that were cut off themselves condemn nobody.
pub async fn outage_longer_than_lease_makes_no_dead(world: World) {
    let (worker, claim) = world.claimed(3).await;
    let other = world.worker().await;
    world.advance_secs(3_600);
    let reclaimed = world.storage().reclaim(&ReclaimRequest::new(100)).await.unwrap();
    assert_eq!((reclaimed.condemned, reclaimed.claims), (0, 0));
    worker.beat().await;
    other.beat().await;
    assert_eq!(world.reclaim().await.condemned, 0);
    world.settle_ok(&claim).await;
    world.assert_status(&ids(&claim), Status::Success).await;
}

/// After the database's clock was set back, a dead worker's lease ends within one lease, and a live worker keeps its own.
pub async fn clock_set_back_does_not_lengthen_a_lease(world: World) {
    let (dead, claim) = world.claimed(1).await;
    let live = world.worker().await;
    world.set_back(Duration::from_secs(3_600));
    assert_eq!(world.reclaim().await.condemned, 0, "nobody can tell yet who is dead");
    world.advance(LEASE / 2);
    live.beat().await;
    assert_eq!(world.reclaim().await.condemned, 0, "half a lease later");
    world.advance(LEASE / 2);
    let reclaimed = world.reclaim().await;
    assert_eq!((reclaimed.condemned, reclaimed.claims), (1, 1), "a whole lease later");
    assert!(show(&world, &dead).await.is_none() && show(&world, &live).await.is_some());
    assert_eq!(ids(&live.claim(1).await), ids(&claim));
}

/// A lease that is too short to be kept is refused, and nobody is registered by it.
pub async fn too_short_lease_is_refused(world: World) {
    let worker = WorkerId::new();
    for lease in [Duration::ZERO, Duration::from_millis(99)] {
        let registration = Registration::new(worker, "w", Vec::new(), lease);
        assert_eq!(world.storage().register(&registration).await.unwrap_err().kind(), ErrorKind::Config);
    }
    assert!(world.storage().workers().await.unwrap().is_empty());
    let known = world.worker().await;
    let beat = world.storage().heartbeat(&Heartbeat::new(known.id, Duration::ZERO)).await;
    assert_eq!(beat.unwrap_err().kind(), ErrorKind::Config);
}
