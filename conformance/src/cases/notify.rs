//! Wake-ups: hints that make things fast. Without them only latency changes.

use std::time::Duration;

use tickr_core::{Admin, Due, Heartbeat, Hint, Message, Storage, Wakeups};
use tokio::time::timeout;

use crate::harness::TxStep;
use crate::world::{LEASE, ORDER, World, checked, event_type, keyed, order, these};

fn subscribe(world: &World) -> Wakeups {
    world.storage().wakeups().subscribe([&event_type(ORDER)])
}

/// The hint that an operation gives, at once or a little later.
async fn hint(wakeups: &Wakeups) -> Hint {
    timeout(Duration::from_secs(10), wakeups.next()).await.expect("a hint")
}

/// An enqueue wakes the workers of its type in this process.
pub async fn enqueue_wakes_in_process(world: World) {
    let wakeups = subscribe(&world);
    world.enqueue(1).await;
    assert_eq!(hint(&wakeups).await, Hint::Ready);
}

/// An enqueue wakes nobody of another type.
pub async fn enqueue_wakes_its_type_only(world: World) {
    let wakeups = subscribe(&world);
    world.put(Message::new("other", "")).await;
    assert_eq!(wakeups.take(), None);
}

/// What is due later wakes nobody now.
pub async fn delayed_enqueue_wakes_nobody(world: World) {
    let wakeups = subscribe(&world);
    world.put(order().after(Duration::from_secs(60))).await;
    assert_eq!(wakeups.take(), None);
}

/// A duplicate makes nothing ready and wakes nobody.
pub async fn duplicate_wakes_nobody(world: World) {
    world.put(keyed("k")).await;
    let wakeups = subscribe(&world);
    world.try_enqueue(vec![keyed("k")]).await.unwrap();
    assert_eq!(wakeups.take(), None);
}

/// An enqueue in the caller's transaction cannot see the commit: it starts a burst of polls.
pub async fn enqueue_in_starts_a_burst(world: World) {
    let wakeups = subscribe(&world);
    world.run_tx(vec![TxStep::Enqueue(vec![checked(order())]), TxStep::Commit]).await.unwrap();
    assert_eq!(hint(&wakeups).await, Hint::Soon);
}

/// A promotion wakes the types that it made ready.
pub async fn promote_wakes(world: World) {
    world.put(order().after(Duration::from_secs(60))).await;
    let wakeups = subscribe(&world);
    assert_eq!((world.promote().await, wakeups.take()), (0, None));
    world.advance_secs(61);
    world.promote().await;
    assert_eq!(hint(&wakeups).await, Hint::Ready);
}

/// A requeue wakes the types that it made ready.
pub async fn requeue_wakes(world: World) {
    let id = world.dead(order()).await;
    let wakeups = subscribe(&world);
    world.requeue(&[id]).await;
    assert_eq!(hint(&wakeups).await, Hint::Ready);
}

/// Running a scheduled message now wakes its type.
pub async fn run_now_wakes(world: World) {
    let id = world.put(order().after(Duration::from_secs(60))).await;
    let wakeups = subscribe(&world);
    world.storage().reschedule(&these(&[id]), Due::Now).await.unwrap();
    assert_eq!(hint(&wakeups).await, Hint::Ready);
}

/// Hints through any handle of the process reach the subscriber.
pub async fn handles_of_one_process_share_the_hub(world: World) {
    let wakeups = subscribe(&world);
    let clone = world.through(world.storage().clone());
    clone.enqueue(1).await;
    assert_eq!(hint(&wakeups).await, Hint::Ready);
}

/// An enqueue through one handle wakes a worker that listens and sleeps through another.
pub async fn other_handles_are_woken(world: World) {
    let other = world.connect().await;
    let notifier = other.notifier().expect("a notifier");
    let worker = world.worker().await;
    let mut heartbeat = Heartbeat::new(worker.id, LEASE);
    heartbeat.idle = true;
    other.heartbeat(&heartbeat).await.unwrap();
    let mut listener = notifier.listen(&[event_type(ORDER)]).await.unwrap();
    world.enqueue(1).await;
    timeout(Duration::from_secs(10), listener.next()).await.expect("a hint").unwrap();
    listener.close().await.unwrap();
    listener.close().await.unwrap();
}
