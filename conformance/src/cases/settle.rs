//! Settlements: each outcome, in parts, repeated, too late.

use std::time::Duration;

use tickr_core::{ErrorKind, ReclaimRequest, Settled, Status, Storage};

use crate::faults::{Faulty, Op};
use crate::rendezvous::Rendezvous;
use crate::world::{
    World, all_ok, and, dead, each, exhausted, failed, failed_for, ids, ok, order, released, skipped, snoozed, split, with,
};

/// A success is SUCCESS, for good.
pub async fn ok_is_success(world: World) {
    let (worker, claim) = world.claimed(1).await;
    let before = world.now().await;
    world.settle_ok(&claim).await;
    let record = world.record(ids(&claim)[0]).await;
    assert_eq!((record.status, record.attempt), (Status::Success, 1));
    assert!(record.finished_at.is_some_and(|at| at >= before.before(Duration::from_millis(1))), "{record:?}");
    assert!(worker.claim(10).await.messages.is_empty());
}

/// A skip is a success that says why.
pub async fn skipped_is_success_with_a_reason(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle(with(&claim, 0, skipped("nothing to do"))).await;
    let history = world.history(ids(&claim)[0]).await;
    let last = history.last().unwrap();
    assert_eq!((last.to, last.event, last.error.as_deref()), (Status::Success, "skipped", Some("nothing to do")));
    assert_eq!(world.status(ids(&claim)[0]).await, Status::Success);
}

/// A failure keeps its attempt and is due again after its delay.
pub async fn failed_is_retried_after_its_delay(world: World) {
    let (_, claim) = world.claimed(1).await;
    let before = world.now().await;
    world.settle(with(&claim, 0, failed_for("boom", Duration::from_secs(60)))).await;
    let after = world.now().await;
    let record = world.record(ids(&claim)[0]).await;
    assert_eq!((record.status, record.attempt, record.last_error.as_deref()), (Status::Retrying, 1, Some("boom")));
    let due = record.due_at.expect("a due time");
    let minute = Duration::from_secs(60);
    assert!(due >= before.after(minute).before(Duration::from_millis(1)) && due <= after.after(minute), "{due:?}");
}

/// A failure without delay is ready at once.
pub async fn failed_without_delay_is_ready(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.settle(with(&claim, 0, failed("boom"))).await;
    assert_eq!(world.record(ids(&claim)[0]).await.due_at, None);
    assert_eq!(worker.claim(1).await.messages[0].attempt, 2);
}

/// A delay below a second is a delay.
pub async fn sub_second_retry_delay_is_kept(world: World) {
    let (_, claim) = world.claimed(1).await;
    let before = world.now().await;
    world.settle(with(&claim, 0, failed_for("boom", Duration::from_millis(900)))).await;
    let due = world.record(ids(&claim)[0]).await.due_at;
    assert!(due.is_none_or(|due| due >= before.after(Duration::from_millis(899))), "{due:?}");
    assert!(due.is_some(), "the delay was rounded away");
}

/// The last attempt that fails is dead, with its error.
pub async fn exhausted_is_dead(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.settle(with(&claim, 0, exhausted("no more"))).await;
    let record = world.record(ids(&claim)[0]).await;
    assert_eq!((record.status, record.attempt, record.last_error.as_deref()), (Status::Dead, 1, Some("no more")));
    assert!(record.finished_at.is_some());
    assert!(worker.claim(10).await.messages.is_empty());
}

/// A dead letter is dead before its attempts are used up.
pub async fn dead_is_dead(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle(with(&claim, 0, dead("cannot be decoded"))).await;
    let record = world.record(ids(&claim)[0]).await;
    assert_eq!((record.status, record.attempt, record.last_error.as_deref()), (Status::Dead, 1, Some("cannot be decoded")));
    assert_eq!(world.events(ids(&claim)[0]).await, ["created", "claimed", "dead"]);
}

/// One batch may end every member in another way.
pub async fn every_outcome_in_one_batch(world: World) {
    let (_, claim) = world.claimed(7).await;
    let minute = Duration::from_secs(60);
    let mut settlement = ok(&claim, [0]);
    for (index, outcome) in (1..).zip([skipped("a"), failed_for("b", minute), exhausted("c"), dead("d"), snoozed(minute), released("f")]) {
        settlement = and(settlement, &claim, index, outcome);
    }
    world.settle(settlement).await;
    let mut found = Vec::new();
    for id in ids(&claim) {
        found.push(world.state(id).await);
    }
    use Status::{Created, Dead, Retrying, Success};
    assert_eq!(found, [(Success, 1), (Success, 1), (Retrying, 1), (Dead, 1), (Dead, 1), (Created, 0), (Created, 0)]);
}

/// A part of a claim can be settled; the rest stays leased.
pub async fn part_leaves_the_rest_leased(world: World) {
    let (_, claim) = world.claimed(5).await;
    assert_eq!(split(&world.settle(ok(&claim, [1, 3])).await), (vec![1, 3], vec![], vec![]));
    for (index, id) in ids(&claim).into_iter().enumerate() {
        let expected = if index == 1 || index == 3 { Status::Success } else { Status::Handling };
        assert_eq!(world.status(id).await, expected);
    }
}

/// The part that ends the last member closes the claim.
pub async fn last_part_closes_the_claim(world: World) {
    let (worker, claim) = world.claimed(3).await;
    world.settle(ok(&claim, [2])).await;
    world.settle(with(&claim, 0, failed("boom"))).await;
    assert_eq!(worker.beat().await.open.len(), 1);
    world.settle(ok(&claim, [1])).await;
    assert!(worker.beat().await.open.is_empty());
    assert!(world.storage().adopt(claim.token).await.unwrap().is_none());
}

/// Repeating a settle while the claim is open changes nothing and says so.
pub async fn repeated_before_close_is_already(world: World) {
    let (worker, claim) = world.claimed(3).await;
    world.settle(with(&claim, 1, failed("boom"))).await;
    assert_eq!(split(&world.settle(with(&claim, 1, failed("boom"))).await), (vec![], vec![1], vec![]));
    assert_eq!(worker.claim(10).await.messages.len(), 1, "put back once");
}

/// Repeating a settle after the claim was closed changes nothing and is not taken for a lost lease.
pub async fn repeat_after_close_is_not_lost(world: World) {
    let (worker, claim) = world.claimed(3).await;
    let settlement = and(ok(&claim, [0, 2]), &claim, 1, failed("boom"));
    world.settle(settlement.clone()).await;
    assert_eq!(split(&world.settle(settlement).await), (vec![], vec![0, 1, 2], vec![]));
    assert_eq!(worker.claim(10).await.messages.len(), 1, "put back once");
}

/// A settle whose answer was lost is repeated: it reads as applied before, and happened once.
pub async fn repeated_after_lost_answer_is_applied(world: World) {
    let faulty = Faulty::new(world.storage().clone());
    let (worker, claim) = world.claimed(2).await;
    let batch = [and(ok(&claim, [0]), &claim, 1, failed("boom"))];
    faulty.lose_answers(Op::Settle, 1);
    assert_eq!(faulty.settle(&batch).await.unwrap_err().kind(), ErrorKind::Indeterminate);
    assert_eq!(split(&faulty.settle(&batch).await.unwrap()[0]), (vec![], vec![0, 1], vec![]));
    assert_eq!(world.status(ids(&claim)[0]).await, Status::Success);
    assert_eq!(ids(&worker.claim(10).await), [ids(&claim)[1]]);
}

/// A settle that never arrived is repeated and applied.
pub async fn repeated_after_refusal_is_applied(world: World) {
    let faulty = Faulty::new(world.storage().clone());
    let (_, claim) = world.claimed(2).await;
    faulty.refuse(Op::Settle, 1);
    assert_eq!(faulty.settle(&[all_ok(&claim)]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    world.assert_status(&ids(&claim), Status::Handling).await;
    assert_eq!(split(&faulty.settle(&[all_ok(&claim)]).await.unwrap()[0]), (vec![0, 1], vec![], vec![]));
}

/// A repeat with another outcome does not change the first one.
pub async fn first_outcome_stands(world: World) {
    let (_, claim) = world.claimed(2).await;
    world.settle(ok(&claim, [0])).await;
    assert_eq!(split(&world.settle(with(&claim, 0, exhausted("changed my mind"))).await), (vec![], vec![0], vec![]));
    assert_eq!(world.status(ids(&claim)[0]).await, Status::Success);
}

/// A repeat that also brings news: what is old is already, what is new is applied.
pub async fn repeat_with_news_is_split(world: World) {
    let (_, claim) = world.claimed(4).await;
    world.settle(ok(&claim, [0, 1])).await;
    assert_eq!(split(&world.settle(ok(&claim, [1, 2])).await), (vec![2], vec![1], vec![]));
    assert_eq!(split(&world.settle(all_ok(&claim)).await), (vec![3], vec![0, 1, 2], vec![]));
}

/// After the claim was reclaimed, its old holder's settle is lost and writes nothing.
pub async fn after_reclaim_reports_lost(world: World) {
    let (worker, claim) = world.claimed(3).await;
    world.settle(ok(&claim, [0])).await;
    world.crash(&worker).await;
    assert_eq!(split(&world.settle(all_ok(&claim)).await), (vec![], vec![0], vec![1, 2]));
    assert_eq!(world.status(ids(&claim)[0]).await, Status::Success);
    world.assert_status(&ids(&claim)[1..], Status::Retrying).await;
}

/// Expired is not reclaimed: until others take over, the holder's settle counts.
pub async fn by_expired_unreclaimed_worker_succeeds(world: World) {
    let (_, claim) = world.claimed(2).await;
    world.advance_secs(3_600);
    assert_eq!(split(&world.settle(all_ok(&claim)).await), (vec![0, 1], vec![], vec![]));
    world.assert_status(&ids(&claim), Status::Success).await;
}

/// A condemned worker whose claim is not yet taken back can still settle it.
pub async fn by_condemned_unreclaimed_worker_succeeds(world: World) {
    let (_, claim) = world.claimed(2).await;
    world.advance_secs(31);
    world.storage().reclaim(&ReclaimRequest::condemning(0)).await.unwrap();
    assert_eq!(split(&world.settle(all_ok(&claim)).await), (vec![0, 1], vec![], vec![]));
    assert!(world.reclaim().await.messages.is_empty());
}

/// The last part of a claim with a killed member closes it.
pub async fn final_part_with_killed_member_closes_claim(world: World) {
    let (worker, claim) = world.claimed(3).await;
    world.kill(&[ids(&claim)[1]]).await;
    assert_eq!(split(&world.settle(all_ok(&claim)).await), (vec![0, 2], vec![], vec![1]));
    assert!(worker.beat().await.open.is_empty());
    assert_eq!(world.status(ids(&claim)[1]).await, Status::Dead);
}

/// One batch may settle several claims; the answers are parallel to it.
pub async fn several_claims_in_one_batch(world: World) {
    world.enqueue(6).await;
    let worker = world.worker().await;
    let claims = [worker.claim(1).await, worker.claim(2).await, worker.claim(3).await];
    world.kill(&[ids(&claims[1])[0]]).await;
    let batch = [all_ok(&claims[2]), all_ok(&claims[0]), all_ok(&claims[1])];
    let answers: Vec<_> = world.settle_all(&batch).await.iter().map(split).collect();
    assert_eq!(answers, [(vec![0, 1, 2], vec![], vec![]), (vec![0], vec![], vec![]), (vec![1], vec![], vec![0])]);
    assert!(worker.beat().await.open.is_empty());
}

/// One batch may bring several parts of one claim.
pub async fn one_claim_twice_in_one_batch(world: World) {
    let (worker, claim) = world.claimed(4).await;
    let batch = [ok(&claim, [0, 1]), with(&claim, 2, failed("boom")), ok(&claim, [3])];
    let answers: Vec<_> = world.settle_all(&batch).await.iter().map(|answer| split(answer).0).collect();
    assert_eq!(answers, [vec![0, 1], vec![2], vec![3]]);
    assert!(worker.beat().await.open.is_empty());
    assert_eq!(ids(&worker.claim(10).await), [ids(&claim)[2]]);
}

/// An empty batch, or a settlement of nothing, does nothing.
pub async fn empty_settlement_does_nothing(world: World) {
    let (_, claim) = world.claimed(2).await;
    assert_eq!(world.storage().settle(&[]).await.unwrap(), Vec::<Settled>::new());
    assert_eq!(split(&world.settle(ok(&claim, [])).await), (vec![], vec![], vec![]));
    world.assert_status(&ids(&claim), Status::Handling).await;
}

/// Members beyond the first machine words are settled like the others.
pub async fn every_bit_of_a_large_claim_counts(world: World) {
    let (worker, claim) = world.claimed(300).await;
    let picked = [0, 1, 7, 8, 31, 32, 63, 64, 65, 127, 128, 255, 256, 299];
    world.settle(ok(&claim, picked)).await;
    let open = worker.beat().await.open.remove(0);
    assert_eq!(crate::world::bits(&open.settled), picked);
    for (index, id) in (0..).zip(ids(&claim)) {
        let expected = if picked.contains(&index) { Status::Success } else { Status::Handling };
        assert_eq!(world.status(id).await, expected, "member {index}");
    }
}

/// What returns keeps the order it was claimed in.
pub async fn returning_members_keep_their_order(world: World) {
    let (worker, claim) = world.claimed(5).await;
    world.settle(each(&claim, &failed("boom"))).await;
    assert_eq!(ids(&worker.claim(10).await), ids(&claim));
}

/// A settle that arrived before the reclaim is what the reclaim sees: only the rest is taken back.
pub async fn waits_then_reclaim_sees_new_bits(world: World) {
    let (worker, claim) = world.claimed(4).await;
    let (faulty, point) = (Faulty::new(world.storage().clone()), Rendezvous::new());
    world.advance(worker.lease + Duration::from_secs(1));
    faulty.hold(Op::Reclaim, &point);
    let reclaim = world.spawn(async move { faulty.reclaim(&ReclaimRequest::condemning(10)).await });
    point.arrived().await;
    assert_eq!(split(&world.settle(ok(&claim, [0, 2])).await).0, [0, 2]);
    point.send_on();
    let taken: Vec<_> = reclaim.await.unwrap().unwrap().messages.into_iter().map(|message| message.id).collect();
    assert_eq!(taken, [ids(&claim)[1], ids(&claim)[3]]);
}

/// While a part is settled and the claim is reclaimed at the same moment, each member ends in exactly one way.
pub async fn part_races_reclaim_no_member_twice(world: World) {
    for round in 0..40 {
        let (worker, claim) = world.claimed(8).await;
        let settler = world.connect().await;
        let batch = [and(ok(&claim, [0, 1, 2]), &claim, 3, failed("boom"))];
        world.advance(worker.lease + Duration::from_secs(1));
        let settle = world.spawn(async move { settler.settle(&batch).await });
        let mut taken = world.reclaim().await;
        let settled = settle.await.unwrap().unwrap().remove(0);
        // A claim that is being settled may have been passed over.
        taken.messages.extend(world.reclaim().await.messages);
        assert_eq!(settled.applied.count() + settled.lost.count(), 4, "round {round}: {settled:?}");
        for index in 0..8 {
            let id = ids(&claim)[index as usize];
            let reclaimed = taken.messages.iter().any(|message| message.id == id);
            assert_ne!(reclaimed, settled.applied.contains(index), "round {round}, member {index} ended twice or not at all");
        }
        world.assert_clean_audit().await;
        world.kill(&ids(&claim)).await;
    }
}

/// A settled message of high attempts keeps its count exactly.
pub async fn attempts_of_many_failures_add_up(world: World) {
    let id = world.put(order()).await;
    let worker = world.worker().await;
    for attempt in 1..=40 {
        let claim = worker.claim(1).await;
        assert_eq!(claim.messages[0].attempt, attempt);
        world.settle(each(&claim, &failed("boom"))).await;
        assert_eq!(world.state(id).await, (Status::Retrying, attempt));
    }
}
