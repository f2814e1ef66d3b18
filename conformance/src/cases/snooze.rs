//! Snoozes: a handler asks to be called later, at no cost.

use std::time::Duration;

use tickr_core::Status;

use crate::world::{World, each, failed, ids, snoozed};

/// A snoozed message is due later, with its attempt given back.
pub async fn attempt_is_given_back(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle(each(&claim, &snoozed(Duration::from_secs(60)))).await;
    let record = world.record(ids(&claim)[0]).await;
    assert_eq!((record.status, record.attempt), (Status::Created, 0));
    assert!(record.due_at.is_some());
}

/// A snoozed message is not claimed before its time.
pub async fn waits_for_its_delay(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle(each(&claim, &snoozed(Duration::from_secs(60)))).await;
    let worker = world.immortal().await;
    world.advance_secs(58);
    assert_eq!((world.promote().await, worker.claim(1).await.messages.len()), (0, 0));
    world.advance_secs(3);
    assert_eq!((world.promote().await, worker.claim(1).await.messages[0].attempt), (1, 1));
}

/// A retry that snoozes is still the retry that it was.
pub async fn retry_keeps_earlier_attempts(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.settle(each(&claim, &failed("boom"))).await;
    world.settle(each(&worker.claim(1).await, &snoozed(Duration::from_secs(1)))).await;
    assert_eq!(world.state(ids(&claim)[0]).await, (Status::Retrying, 1));
}

/// Snoozing never uses up the attempts.
pub async fn never_exhausts(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.settle(each(&claim, &snoozed(Duration::ZERO))).await;
    for _ in 0..30 {
        let claim = worker.claim(1).await;
        assert_eq!(claim.messages[0].attempt, 1);
        world.settle(each(&claim, &snoozed(Duration::ZERO))).await;
    }
}

/// A snooze is in the history.
pub async fn is_in_the_history(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle(each(&claim, &snoozed(Duration::from_secs(1)))).await;
    assert_eq!(world.events(ids(&claim)[0]).await, ["created", "claimed", "snoozed"]);
}
