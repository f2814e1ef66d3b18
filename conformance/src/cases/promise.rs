//! The promises of the design, as far as a storage alone can keep them. Each is told whole; the other groups take it apart.

use std::collections::HashSet;
use std::time::Duration;

use tickr_core::{AnyAdmin, ErrorKind, MessageId, ReclaimRequest, Retention, Settlement, Status, Storage};

use crate::faults::{Faulty, Op};
use crate::world::{LEASE, ORDER, Worker, World, all_ok, dead, each, failed, ids, keyed, order, released, snoozed};

/// What a call answered with Ok is in the database: a handle that is opened afterwards sees all of it.
pub async fn committed_messages_survive_reopen(world: World) {
    let (worker, claim) = world.claimed(3).await;
    world.settle(crate::world::with(&claim, 0, failed("boom"))).await;
    let scheduled = world.put(order().after(Duration::from_secs(60))).await;
    let dead = world.dead(tickr_core::Message::new("other", "")).await;
    let reopened = world.through(world.connect().await);
    assert_eq!(reopened.state(ids(&claim)[0]).await, (Status::Retrying, 1));
    assert_eq!(reopened.status(ids(&claim)[1]).await, Status::Handling);
    assert_eq!((reopened.status(scheduled).await, reopened.status(dead).await), (Status::Created, Status::Dead));
    assert_eq!(worker.through(reopened.storage().clone()).beat().await.open.len(), 1);
}

/// Promise 2: a duplicate is a value that names the first message, and the call it came in succeeds.
pub async fn duplicate_is_a_value_not_an_error(world: World) {
    let first = world.put(keyed("k")).await;
    let answers = world.try_enqueue(vec![order(), keyed("k"), order()]).await.unwrap();
    assert_eq!((answers[0].is_duplicate(), answers[1].id(), answers[2].is_duplicate()), (false, first, false));
}

/// Promise 3: whatever dies and whichever answer is lost, every message is delivered until its success is recorded.
pub async fn every_message_is_delivered_at_least_once(world: World) {
    let sent = world.enqueue(40).await;
    let faulty = Faulty::new(world.storage().clone());
    let mut delivered: HashSet<MessageId> = HashSet::new();
    for round in 0..300 {
        let worker = world.worker().await.through(AnyAdmin::new(faulty.clone()));
        let mut claim = if round % 3 == 0 { worker.claim(7).await } else { worker.claim_solo().await };
        if claim.messages.is_empty() {
            claim = worker.claim(3).await;
        }
        delivered.extend(ids(&claim));
        match round % 5 {
            // The worker dies with all it holds.
            0 => drop(world.crash(&worker).await),
            // The answer to the settle is lost, and the settle is repeated.
            1 => {
                faulty.lose_answers(Op::Settle, 1);
                assert_eq!(faulty.settle(&[all_ok(&claim)]).await.unwrap_err().kind(), ErrorKind::Indeterminate);
                faulty.settle(&[all_ok(&claim)]).await.unwrap();
            }
            // The settle never arrives, and then the worker dies.
            2 => {
                faulty.refuse(Op::Settle, 1);
                faulty.settle(&[all_ok(&claim)]).await.unwrap_err();
                world.crash(&worker).await;
            }
            3 => drop(worker.retire().await),
            _ => world.settle_ok(&claim).await,
        }
        world.assert_clean_audit().await;
        if world.stats().await.types.is_empty() {
            assert_eq!(delivered, sent.iter().copied().collect());
            return world.assert_status(&sent, Status::Success).await;
        }
    }
    panic!("not everything was done in 300 rounds");
}

/// Promise 4: no message is leased to two workers at once, and one result is recorded per lease.
pub async fn one_lease_and_one_result(world: World) {
    let (worker, claim) = world.claimed(4).await;
    let rival = world.immortal().await;
    assert!(rival.claim(10).await.messages.is_empty());
    world.crash(&worker).await;
    let mut heirs = Vec::new();
    for _ in 0..4 {
        heirs.push(rival.claim(1).await);
    }
    assert!(world.settle(all_ok(&claim)).await.applied.is_empty(), "the lease is gone");
    for heir in &heirs {
        world.settle_ok(heir).await;
        assert!(world.settle(each(heir, &dead("again"))).await.applied.is_empty(), "one result is recorded");
    }
    for id in ids(&claim) {
        assert_eq!(world.events(id).await, ["created", "claimed", "reclaimed", "claimed", "ok"]);
    }
}

/// Promise 5: an attempt is counted when claimed, given back when nothing was tried, and kept by what ran alone.
pub async fn attempts_count_what_was_tried(world: World) {
    let (worker, claim) = world.claimed(1).await;
    let id = ids(&claim)[0];
    let mut seen = vec![world.state(id).await.1];
    world.settle(each(&claim, &released("shutdown"))).await;
    seen.push(world.state(id).await.1);
    world.settle(each(&worker.claim(1).await, &snoozed(Duration::ZERO))).await;
    seen.push(world.state(id).await.1);
    world.settle(each(&worker.claim(1).await, &failed("boom"))).await;
    seen.push(world.state(id).await.1);
    worker.claim(1).await;
    worker.retire().await;
    seen.push(world.state(id).await.1);
    assert_eq!(seen, [1, 0, 0, 1, 1]);
}

/// Promise 6: a message that kills its worker dies alone.
pub async fn poison_dies_alone(world: World) {
    let sent = world.enqueue(5).await;
    for _ in 0..40 {
        let worker = world.worker().await;
        let mut claim = worker.claim(10).await;
        if claim.messages.is_empty() {
            claim = worker.claim_solo().await;
        }
        if ids(&claim).contains(&sent[2]) {
            world.crash(&worker).await;
        } else {
            world.settle_ok(&claim).await;
        }
    }
    let mut ends = Vec::new();
    for id in &sent {
        ends.push(world.status(*id).await);
    }
    use Status::{Dead, Success};
    assert_eq!(ends, [Success, Success, Dead, Success, Success]);
}

/// Promise 7: nothing is lost silently: unknown types are visible, the dead outlive successes, bodies go with proof.
pub async fn nothing_is_lost_silently(world: World) {
    let stranger = world.put(tickr_core::Message::new("nobody.knows", "")).await;
    let dead = world.dead(order()).await;
    let (_, claim) = world.claimed(1).await;
    world.settle_ok(&claim).await;
    assert!(world.stats().await.of("nobody.knows").unwrap().unserved);
    world.advance(Duration::from_secs(2 * 24 * 3_600));
    world.purge(Retention::default()).await;
    assert_eq!((world.status(stranger).await, world.status(dead).await), (Status::Created, Status::Dead));
    assert_eq!((world.find(ids(&claim)[0]).await, world.events(ids(&claim)[0]).await), (None, vec!["claimed", "ok"]));
}

/// Promise 8: times that decide come from the database's clock.
pub async fn database_clock_decides(world: World) {
    let delayed = world.put(order().after(Duration::from_secs(3_600))).await;
    let worker = world.worker().await;
    world.advance(Duration::from_secs(3_601));
    assert_eq!(world.promote().await, 1, "due by the database's clock, whatever the client's says");
    assert_eq!(worker.claim(1).await.members, 0, "expired by the database's clock");
    assert_eq!(ids(&world.worker().await.claim(1).await), [delayed]);
}

/// Promise 10: no operation needs a session: each may go through a handle of its own.
pub async fn no_session_state_is_needed(world: World) {
    async fn fresh(world: &World) -> World {
        world.through(world.connect().await)
    }
    let ready = fresh(&world).await.enqueue(2).await;
    let worker: Worker = fresh(&world).await.worker_for(&[ORDER], LEASE).await;
    let claim = worker.through(world.connect().await).claim(2).await;
    assert_eq!(ids(&claim), ready);
    worker.through(world.connect().await).beat().await;
    let adopted = world.connect().await.adopt(claim.token).await.unwrap().unwrap();
    let part: Settlement = crate::world::ok(&adopted, [0]);
    fresh(&world).await.settle(part).await;
    let lock = world.connect().await.acquire_lock("purge", worker.id, LEASE).await.unwrap().unwrap();
    assert!(world.connect().await.renew_lock(&lock, LEASE).await.unwrap());
    world.advance(LEASE * 2);
    let request = ReclaimRequest::condemning(10);
    assert_eq!(world.connect().await.reclaim(&request).await.unwrap().messages.len(), 1);
    assert_eq!(fresh(&world).await.status(ready[0]).await, Status::Success);
}
