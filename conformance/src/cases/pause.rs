//! Pauses: a type is not claimed for a while.

use tickr_core::{Admin, Message};

use crate::world::{ORDER, World, each, failed, ids};

/// A paused type is not claimed; other types are.
pub async fn paused_type_is_not_claimed(world: World) {
    world.enqueue(2).await;
    let other = world.put(Message::new("other", "")).await;
    assert!(world.pause(ORDER).await);
    assert_eq!(ids(&world.worker().await.claim_of(&[ORDER, "other"], 10).await), [other]);
}

/// What is leased when its type is paused goes on.
pub async fn leaves_leased(world: World) {
    let (worker, claim) = world.claimed(2).await;
    world.pause(ORDER).await;
    assert_eq!(worker.beat().await.open.len(), 1);
    world.settle_ok(&claim).await;
}

/// A resumed type is claimed again, with what came meanwhile.
pub async fn resume_allows_claims(world: World) {
    world.pause(ORDER).await;
    let sent = world.enqueue(2).await;
    assert!(world.resume(ORDER).await);
    assert_eq!(ids(&world.worker().await.claim(10).await), sent);
}

/// Pausing twice, or resuming what is not paused, says that nothing changed.
pub async fn again_says_so(world: World) {
    assert!(!world.resume(ORDER).await);
    assert_eq!((world.pause(ORDER).await, world.pause(ORDER).await), (true, false));
    assert_eq!((world.resume(ORDER).await, world.resume(ORDER).await), (true, false));
}

/// Paused types are listed by name.
pub async fn paused_types_are_listed_by_name(world: World) {
    for name in ["b", "c", "a"] {
        world.pause(name).await;
    }
    let listed: Vec<String> = world.storage().paused().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(listed, ["a", "b", "c"]);
}

/// A pause is in the database: every handle keeps to it.
pub async fn pause_holds_for_other_handles(world: World) {
    world.enqueue(1).await;
    let worker = world.worker().await.through(world.connect().await);
    world.pause(ORDER).await;
    assert!(worker.claim(10).await.messages.is_empty());
}

/// A message that fails while its type is paused waits for the resume.
pub async fn failed_message_of_paused_type_waits(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.pause(ORDER).await;
    world.settle(each(&claim, &failed("boom"))).await;
    assert!(worker.claim(10).await.messages.is_empty());
    world.resume(ORDER).await;
    assert_eq!(worker.claim(10).await.messages[0].attempt, 2);
}
