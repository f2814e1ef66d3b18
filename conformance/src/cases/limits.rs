//! Limits of a claim: per group and over all.

use tickr_core::protocol::Lane;
use tickr_core::{Message, Priority};

use crate::world::{ORDER, World, each, group, ids, order, released};

const PAID: &str = "order.paid";

/// The cap of a type holds over all its lanes.
pub async fn cap_holds_over_lanes(world: World) {
    for priority in [Priority::Low, Priority::Normal, Priority::High] {
        world.enqueue_all((0..3).map(|_| order().priority(priority)).collect()).await;
    }
    let worker = world.worker().await;
    let claim = worker.send(&worker.request(vec![group(ORDER, &Lane::ORDINARY, 4)], 100)).await;
    assert_eq!(claim.messages.len(), 4);
}

/// The total holds over all groups.
pub async fn total_holds_over_groups(world: World) {
    world.enqueue(5).await;
    world.enqueue_all((0..5).map(|_| Message::new(PAID, "")).collect()).await;
    let worker = world.worker().await;
    let groups = vec![group(ORDER, &Lane::ORDINARY, 4), group(PAID, &Lane::ORDINARY, 4)];
    let claim = worker.send(&worker.request(groups, 6)).await;
    let orders = claim.messages.iter().filter(|message| message.event_type.as_str() == ORDER).count();
    assert_eq!((orders, claim.messages.len()), (4, 6));
}

/// A type at its cap does not stop another one.
pub async fn type_at_its_cap_does_not_stop_others(world: World) {
    world.enqueue(5).await;
    let paid = world.put(Message::new(PAID, "")).await;
    let worker = world.worker().await;
    let groups = vec![group(ORDER, &Lane::ORDINARY, 0), group(PAID, &Lane::ORDINARY, 5)];
    assert_eq!(ids(&worker.send(&worker.request(groups, 5)).await), [paid]);
}

/// Groups of one type with different lanes each have their own limit.
pub async fn groups_of_one_type_have_own_limits(world: World) {
    let high = world.enqueue_all((0..3).map(|_| order().priority(Priority::High)).collect()).await;
    let normal = world.enqueue(3).await;
    let worker = world.worker().await;
    let groups = vec![group(ORDER, &[Lane::High], 2), group(ORDER, &[Lane::Normal], 1)];
    assert_eq!(ids(&worker.send(&worker.request(groups, 10)).await), [high[0], high[1], normal[0]]);
}

/// Within a cap the lanes are still served in their order, whatever is older.
pub async fn cap_is_filled_lane_by_lane(world: World) {
    let (worker, claim) = world.claimed(1).await;
    let normal = world.enqueue(3).await;
    let high = world.enqueue_all((0..3).map(|_| order().priority(Priority::High)).collect()).await;
    world.settle(each(&claim, &released("shutdown"))).await;
    let capped = worker.send(&worker.request(vec![group(ORDER, &Lane::ORDINARY, 5)], 10)).await;
    assert_eq!(ids(&capped), [&ids(&claim)[..], &high[..], &normal[..1]].concat());
}
