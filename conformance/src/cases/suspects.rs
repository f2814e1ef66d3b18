//! Crashes: a message that kills its worker dies alone.

use std::time::Duration;

use tickr_core::protocol::Lane;
use tickr_core::{MessageId, PauseRequest, Status, Storage};

use crate::world::{MAX, ORDER, Worker, World, and, each, exhausted, failed, group, ids, order, released, snoozed, with};

/// The first crash only counts: the messages return before the backlog, and are none of them a suspect.
pub async fn first_crash_only_counts(world: World) {
    let (worker, claim) = world.claimed(3).await;
    world.enqueue(3).await;
    let reclaimed = world.crash(&worker).await;
    assert!(reclaimed.messages.iter().all(|message| !message.dead), "{reclaimed:?}");
    assert_eq!(world.stats().await.of(ORDER).expect("orders").suspects.n, 0);
    let again = world.worker().await.claim(3).await;
    assert_eq!(ids(&again), ids(&claim), "before the backlog");
    for message in &again.messages {
        assert_eq!((message.attempt, message.crashes), (2, 1));
    }
}

/// A success, a failure or a snooze after the first crash clears it: a later crash is the first again.
pub async fn crashes_count_within_one_stay(world: World) {
    let (worker, _) = world.claimed(2).await;
    world.crash(&worker).await;
    let worker = world.worker().await;
    let claim = worker.claim(2).await;
    world.settle(and(with(&claim, 0, failed("boom")), &claim, 1, snoozed(Duration::ZERO))).await;
    world.crash_again(2).await;
    assert_eq!(world.stats().await.of(ORDER).expect("orders").suspects.n, 0);
}

/// A message that is given back after its first crash keeps it, and a further crash makes it a suspect.
pub async fn released_message_keeps_its_crash(world: World) {
    let (worker, _) = world.claimed(1).await;
    world.crash(&worker).await;
    let worker = world.worker().await;
    world.settle(each(&worker.claim(1).await, &released("shutdown"))).await;
    world.crash_again(1).await;
    assert_eq!(world.stats().await.of(ORDER).expect("orders").suspects.n, 1);
}

/// So does one whose worker signs off.
pub async fn retired_message_keeps_its_crash(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.crash(&worker).await;
    let worker = world.worker().await;
    worker.claim(1).await;
    worker.retire().await;
    assert_eq!(world.stats().await.of(ORDER).expect("orders").suspects.n, 0);
    world.enqueue(1).await;
    let worker = world.worker().await;
    assert_eq!(ids(&worker.claim(1).await), ids(&claim), "before the backlog");
    world.crash(&worker).await;
    assert_eq!(world.stats().await.of(ORDER).expect("orders").suspects.n, 1);
}

/// A second crash that several messages shared makes each a suspect, and kills none.
pub async fn second_shared_crash_makes_suspects(world: World) {
    let (worker, claim) = world.claimed(3).await;
    world.crash(&worker).await;
    let reclaimed = world.crash_again(3).await;
    assert!(reclaimed.messages.iter().all(|message| !message.dead), "{reclaimed:?}");
    assert_eq!(world.stats().await.of(ORDER).expect("orders").suspects.n, 3);
    for id in ids(&claim) {
        assert_eq!(world.state(id).await, (Status::Retrying, 2));
    }
}

/// Suspects are claimed one at a time.
pub async fn suspects_are_claimed_one_by_one(world: World) {
    let suspects = world.suspects(3).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let solo = world.worker().await.claim_solo().await;
        assert_eq!((solo.members, solo.solo, solo.messages[0].crashes), (1, true, 2));
        seen.extend(ids(&solo));
    }
    seen.sort();
    assert_eq!(seen, suspects);
}

/// A crash while a message ran alone keeps its attempt.
pub async fn solo_crash_keeps_the_attempt(world: World) {
    let suspects = world.suspects(1).await;
    for attempt in 3..5 {
        let solo = world.worker().await;
        let claim = solo.claim_solo().await;
        assert_eq!((claim.messages[0].attempt, claim.messages[0].crashes), (attempt, attempt - 1));
        world.crash(&solo).await;
    }
    assert_eq!(world.state(suspects[0]).await, (Status::Retrying, 4));
}

/// A crash while a message ran alone at its last attempt is its death, and says so.
pub async fn solo_crash_at_the_maximum_is_dead(world: World) {
    let id = world.put(order().max_attempts(3)).await;
    for _ in 0..3 {
        let worker = world.worker().await;
        if worker.claim(1).await.messages.is_empty() {
            worker.claim_solo().await;
        }
        world.crash(&worker).await;
    }
    let record = world.record(id).await;
    assert_eq!((record.status, record.attempt, record.last_error.as_deref()), (Status::Dead, 3, Some("crashed")));
    assert_eq!(world.events(id).await, ["created", "claimed", "reclaimed", "claimed", "reclaimed", "claimed", "crashed"]);
}

/// Lets workers run suspects until none are left; `poison` kills its worker, all others succeed.
async fn run_suspects(world: &World, poison: MessageId, max: u16) {
    for _ in 0..200 {
        let worker: Worker = world.worker().await;
        let claim = worker.claim_solo_max(max).await;
        match claim.messages.first() {
            None => return,
            Some(message) if message.id == poison => {
                world.crash(&worker).await;
            }
            Some(_) => world.settle_ok(&claim).await,
        }
    }
    panic!("suspects do not end");
}

/// A message that kills its worker takes none of its 63 neighbours with it, and is dead in the end.
pub async fn poison_with_63_neighbours_dies_alone(world: World) {
    let sent = world.enqueue(64).await;
    let poison = sent[31];
    let worker = world.worker().await;
    let groups = vec![group(ORDER, &Lane::ORDINARY, 64)];
    assert_eq!(worker.send(&worker.request(groups, 64)).await.messages.len(), 64);
    world.crash(&worker).await;
    assert_eq!(world.crash_again(64).await.messages.len(), 64);
    run_suspects(&world, poison, MAX).await;
    for id in sent {
        let expected = if id == poison { Status::Dead } else { Status::Success };
        assert_eq!(world.status(id).await, expected);
    }
    assert_eq!(world.record(poison).await.last_error.as_deref(), Some("crashed"));
}

/// A message at its last attempt survives crashes that it shared: it gets that attempt again, in the end exclusively.
pub async fn neighbour_at_last_attempt_survives_shared_crash(world: World) {
    let last = world.put(order().max_attempts(2)).await;
    let worker = world.worker().await;
    world.settle(each(&worker.claim(1).await, &failed("boom"))).await;
    world.enqueue(3).await;
    for _ in 0..2 {
        let reclaimed = world.crash_again(4).await;
        assert!(reclaimed.messages.iter().all(|message| !message.dead), "{reclaimed:?}");
        assert_eq!(world.state(last).await, (Status::Retrying, 1));
    }
    for _ in 0..4 {
        let solo = world.worker().await.claim_solo().await;
        if ids(&solo) == [last] {
            assert_eq!(solo.messages[0].attempt, 2);
        }
        world.settle_ok(&solo).await;
    }
    assert_eq!(world.status(last).await, Status::Success);
}

/// Many shared crashes in a row never kill: each leaves room for one attempt more.
pub async fn shared_crashes_never_kill(world: World) {
    let id = world.put(order().max_attempts(3)).await;
    for _ in 0..8 {
        let worker = world.worker().await;
        let claim = worker.claim_solo().await;
        if !claim.messages.is_empty() {
            // Returned to an ordinary lane: a snooze clears the suspicion.
            world.settle(with(&claim, 0, snoozed(Duration::ZERO))).await;
        }
        assert_eq!(worker.claim(1).await.messages.len(), 1);
        world.crash(&worker).await;
        assert_eq!(world.status(id).await, Status::Retrying);
    }
}

/// A suspect that is given back stays one, with its crashes.
pub async fn released_suspect_stays_one(world: World) {
    world.suspects(1).await;
    let worker = world.worker().await;
    let claim = worker.claim_solo().await;
    world.settle(each(&claim, &released("shutdown"))).await;
    assert!(worker.claim(10).await.messages.is_empty());
    let again = worker.claim_solo().await;
    assert_eq!((again.messages[0].attempt, again.messages[0].crashes), (3, 2));
}

/// A suspect whose worker retires stays one.
pub async fn retired_suspect_stays_one(world: World) {
    world.suspects(1).await;
    let solo = world.worker().await;
    solo.claim_solo().await;
    solo.retire().await;
    let next = world.worker().await;
    assert!(next.claim(10).await.messages.is_empty());
    assert_eq!(next.claim_solo().await.messages[0].crashes, 2);
}

/// A suspect that fails by itself is cleared: it waits in the lane of its priority again.
pub async fn failed_suspect_is_cleared(world: World) {
    world.suspects(1).await;
    let worker = world.worker().await;
    world.settle(each(&worker.claim_solo().await, &failed("boom"))).await;
    let claim = worker.claim(1).await;
    assert_eq!((claim.messages[0].attempt, claim.messages[0].crashes), (4, 0));
}

/// A suspect that snoozes is cleared.
pub async fn snoozed_suspect_is_cleared(world: World) {
    world.suspects(1).await;
    let worker = world.worker().await;
    world.settle(each(&worker.claim_solo().await, &snoozed(Duration::ZERO))).await;
    let claim = worker.claim(1).await;
    assert_eq!((claim.messages[0].attempt, claim.messages[0].crashes), (3, 0));
}

/// A suspect that is brought back from the dead is none any more.
pub async fn requeued_suspect_is_cleared(world: World) {
    world.suspects(1).await;
    let worker = world.worker().await;
    let claim = worker.claim_solo().await;
    world.settle(each(&claim, &exhausted("boom"))).await;
    world.requeue(&ids(&claim)).await;
    let claim = worker.claim(1).await;
    assert_eq!((claim.messages[0].attempt, claim.messages[0].crashes), (1, 0));
}

/// A suspect can be moved to another time and is still one when it is due.
pub async fn rescheduled_suspect_stays_one(world: World) {
    let suspects = world.suspects(1).await;
    let later = tickr_core::Due::After(Duration::from_secs(60));
    tickr_core::Admin::reschedule(world.storage(), &crate::world::these(&suspects), later).await.unwrap();
    let worker = world.immortal().await;
    assert!(worker.claim_solo().await.messages.is_empty());
    world.advance_secs(61);
    world.promote().await;
    assert!(worker.claim(10).await.messages.is_empty());
    assert_eq!(worker.claim_solo().await.messages[0].crashes, 2);
}

/// The type of a suspect can be paused like any other.
pub async fn paused_suspect_waits(world: World) {
    world.suspects(1).await;
    world.pause(ORDER).await;
    let worker = world.worker().await;
    assert!(worker.claim_solo().await.messages.is_empty());
    assert_eq!(worker.beat().await.suspects, None, "no worker is closed for what cannot be claimed");
    world.resume(ORDER).await;
    world.pause_as(PauseRequest::everything()).await;
    assert!(worker.claim_solo().await.messages.is_empty());
    assert_eq!(worker.beat().await.suspects, None, "nor for what is paused with everything");
    world.resume_everything().await;
    assert_eq!(worker.beat().await.suspects, Some(2));
    world.pause_as(PauseRequest::event_type(ORDER).until(Duration::from_secs(1))).await;
    world.advance_secs(2);
    assert_eq!(worker.beat().await.suspects, Some(2), "the pause is over");
    assert_eq!(worker.claim_solo().await.messages.len(), 1);
}

/// A suspect may be claimed beside ordinary work; then its crash is shared, whatever attempt it is at.
pub async fn suspect_claimed_beside_others_survives_its_crash(world: World) {
    let id = world.put(order().max_attempts(1)).await;
    for _ in 0..2 {
        world.crash_again(1).await;
    }
    for crashes in 2..6 {
        let worker = world.worker().await;
        let claim = worker.send(&worker.request(vec![group(ORDER, &[Lane::Suspect], 1)], 1)).await;
        assert_eq!((claim.solo, claim.messages[0].attempt, claim.messages[0].crashes), (false, 1, crashes));
        assert!(!world.crash(&worker).await.messages[0].dead);
    }
    let worker = world.worker().await;
    worker.claim_solo().await;
    world.crash(&worker).await;
    assert_eq!(world.state(id).await, (Status::Dead, 1));
}

/// Two solo claims of one member each never have the same member.
pub async fn suspect_is_not_claimed_twice(world: World) {
    world.suspects(1).await;
    assert_eq!(world.worker().await.claim_solo().await.messages.len(), 1);
    let second = world.worker().await;
    assert!(second.claim_solo().await.messages.is_empty());
    assert!(world.storage().adopt(tickr_core::Token::new()).await.unwrap().is_none());
}
