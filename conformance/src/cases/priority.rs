//! Priorities: strict among the messages of a type, and kept for life.

use std::time::Duration;

use tickr_core::protocol::Lane;
use tickr_core::{MessageId, Priority};

use crate::world::{ORDER, World, each, failed, failed_for, group, ids, order, snoozed};

/// One message per priority, the low one first.
async fn three(world: &World) -> [MessageId; 3] {
    let low = world.put(order().priority(Priority::Low)).await;
    let normal = world.put(order().priority(Priority::Normal)).await;
    let high = world.put(order().priority(Priority::High)).await;
    [high, normal, low]
}

/// High runs before normal, and normal before low, whatever is older.
pub async fn high_before_normal_before_low(world: World) {
    let sent = three(&world).await;
    assert_eq!(ids(&world.worker().await.claim(10).await), sent);
}

/// Priority is strict: older messages of a lower priority wait while there are higher ones.
pub async fn priority_is_strict(world: World) {
    world.enqueue(5).await;
    let high = world.enqueue_all((0..3).map(|_| order().priority(Priority::High)).collect()).await;
    assert_eq!(ids(&world.worker().await.claim(3).await), high);
}

/// A message keeps its priority over a failed attempt.
pub async fn failed_message_keeps_its_priority(world: World) {
    let sent = three(&world).await;
    let worker = world.worker().await;
    let claim = worker.claim(10).await;
    world.settle(each(&claim, &failed("boom"))).await;
    assert_eq!(ids(&worker.claim(10).await), sent);
}

/// A message keeps its priority over a delayed retry.
pub async fn delayed_retry_keeps_its_priority(world: World) {
    let sent = three(&world).await;
    let worker = world.immortal().await;
    let claim = worker.claim(10).await;
    world.settle(each(&claim, &failed_for("boom", Duration::from_secs(5)))).await;
    world.advance_secs(6);
    world.promote().await;
    assert_eq!(ids(&worker.claim(10).await), sent);
}

/// A snoozed message keeps its priority.
pub async fn snoozed_message_keeps_its_priority(world: World) {
    let sent = three(&world).await;
    let worker = world.immortal().await;
    let claim = worker.claim(10).await;
    world.settle(each(&claim, &snoozed(Duration::from_secs(5)))).await;
    world.advance_secs(6);
    world.promote().await;
    assert_eq!(ids(&worker.claim(10).await), sent);
}

/// A requeued message has its own priority again.
pub async fn requeued_message_keeps_its_priority(world: World) {
    let sent = three(&world).await;
    world.kill(&sent).await;
    world.requeue(&sent).await;
    assert_eq!(ids(&world.worker().await.claim(10).await), sent);
}

/// A delayed message waits in the lane of its priority once it is due.
pub async fn delayed_message_keeps_its_priority(world: World) {
    let low = world.put(order().priority(Priority::Low).after(Duration::from_secs(1))).await;
    let high = world.put(order().priority(Priority::High).after(Duration::from_secs(2))).await;
    world.advance_secs(3);
    world.promote().await;
    assert_eq!(ids(&world.worker().await.claim(10).await), [high, low]);
}

/// A claim that begins at the low end gets the low one first: nothing starves when some claims do so.
pub async fn low_end_can_be_claimed_first(world: World) {
    world.enqueue(3).await;
    let low = world.put(order().priority(Priority::Low)).await;
    let worker = world.worker().await;
    let groups = [Lane::Low, Lane::Normal, Lane::High].map(|lane| group(ORDER, &[lane], 1)).to_vec();
    assert_eq!(ids(&worker.send(&worker.request(groups, 1)).await), [low]);
}
