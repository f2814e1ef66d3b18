//! Lanes: parts of the queue of a type that are asked for by name.

use tickr_core::protocol::Lane;
use tickr_core::{ErrorKind, Priority, Storage};

use crate::world::{LEASE, ORDER, World, each, group, ids, order, released};

/// Only the lanes that are asked for are looked into.
pub async fn only_asked_lanes_are_looked_into(world: World) {
    world.put(order().priority(Priority::Low)).await;
    let high = world.put(order().priority(Priority::High)).await;
    let worker = world.worker().await;
    let claim = worker.send(&worker.request(vec![group(ORDER, &[Lane::High, Lane::Normal], 10)], 10)).await;
    assert_eq!(ids(&claim), [high]);
}

/// Each priority waits in its own lane.
pub async fn priorities_are_lanes(world: World) {
    let worker = world.worker().await;
    for (priority, lane) in [(Priority::High, Lane::High), (Priority::Normal, Lane::Normal), (Priority::Low, Lane::Low)] {
        let id = world.put(order().priority(priority)).await;
        assert_eq!(ids(&worker.send(&worker.request(vec![group(ORDER, &[lane], 10)], 10)).await), [id]);
    }
}

/// What was given back waits in the lane of its own.
pub async fn released_messages_have_a_lane(world: World) {
    let (worker, claim) = world.claimed(2).await;
    world.settle(each(&claim, &released("shutdown"))).await;
    let returned = worker.send(&worker.request(vec![group(ORDER, &[Lane::Returned], 10)], 10)).await;
    assert_eq!(ids(&returned), ids(&claim));
}

/// An ordinary claim never takes a suspect.
pub async fn ordinary_claim_takes_no_suspect(world: World) {
    world.suspects(1).await;
    assert!(world.worker().await.claim(10).await.messages.is_empty());
}

/// Suspects are asked for one at a time, exclusively or not.
pub async fn suspects_are_refused_to_a_claim_of_several(world: World) {
    world.suspects(2).await;
    let worker = world.worker().await;
    let crowded = worker.request(vec![group(ORDER, &[Lane::Suspect], 2)], 2);
    let mut greedy = crowded.clone();
    greedy.solo = true;
    for request in [crowded, greedy] {
        let refused = world.storage().claim(&request).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config, "{request:?}");
    }
    assert_eq!(worker.claim_solo().await.messages.len(), 1);
}

/// A claim may begin at the low end: lanes are served in the order they are asked for.
pub async fn lanes_are_walked_in_the_order_asked(world: World) {
    let mut sent = Vec::new();
    for priority in [Priority::High, Priority::Normal, Priority::Low] {
        sent.push(world.put(order().priority(priority)).await);
    }
    let worker = world.worker().await;
    let lanes = [Lane::Low, Lane::Normal, Lane::High];
    let claim = worker.send(&worker.request(vec![group(ORDER, &lanes, 2)], 2)).await;
    assert_eq!(ids(&claim), [sent[2], sent[1]]);
}

/// Lanes of one type do not hide those of another.
pub async fn types_do_not_share_lanes(world: World) {
    let orders = world.enqueue(1).await;
    world.put(tickr_core::Message::new("order.paid", "")).await;
    let worker = world.worker_for(&[ORDER], LEASE).await;
    assert_eq!(ids(&worker.claim(10).await), orders);
}
