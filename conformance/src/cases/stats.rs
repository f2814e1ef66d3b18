//! Statistics: what waits, runs and is dead.

use std::time::Duration;

use tickr_core::{Admin, Count, Due, Message, Priority, Stats, StatsRequest, Status, Storage};

use crate::world::{LEASE, ORDER, World, all_ok, and, dead, each, failed, failed_for, ids, ok, order, these, with};

fn counts(stats: &Stats, name: &str) -> [u64; 4] {
    let of = stats.of(name).unwrap_or_else(|| panic!("no statistics of {name}"));
    [of.created.n, of.retrying.n, of.handling.n, of.dead.n]
}

/// Each type is counted by status: waiting, retrying, leased, dead; ready or scheduled alike.
pub async fn counts_by_type_and_status(world: World) {
    let (worker, claim) = world.claimed(6).await;
    let minute = Duration::from_secs(60);
    world.settle(and(and(ok(&claim, [0]), &claim, 1, failed("x")), &claim, 2, failed_for("x", minute))).await;
    world.settle(and(ok(&claim, []), &claim, 3, dead("x"))).await;
    world.enqueue(3).await;
    world.put(order().after(minute)).await;
    world.put(Message::new("other", "")).await;
    let stats = world.stats().await;
    assert_eq!(counts(&stats, ORDER), [4, 2, 2, 1]);
    assert_eq!(counts(&stats, "other"), [1, 0, 0, 0]);
    assert_eq!(stats.total(Status::Created).n, 5);
    drop(worker);
}

/// Types are listed by name.
pub async fn types_are_listed_by_name(world: World) {
    for name in ["b", "a", "c"] {
        world.put(Message::new(name, "")).await;
    }
    let names: Vec<String> = world.stats().await.types.iter().map(|stats| stats.event_type.to_string()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

/// Counting stops at the cap, and says so.
pub async fn counts_are_capped(world: World) {
    world.enqueue(10).await;
    for (cap, n, capped) in [(9, 9, true), (10, 10, false), (11, 10, false)] {
        let stats = world.storage().stats(&StatsRequest::default().count_max(cap)).await.unwrap();
        let created = stats.of(ORDER).unwrap().created;
        assert_eq!((created.n, created.capped), (n, capped), "cap {cap}");
    }
}

/// A type whose messages are all done is not listed: success is no depth.
pub async fn successes_are_no_depth(world: World) {
    let (_, claim) = world.claimed(3).await;
    world.settle(all_ok(&claim)).await;
    let stats = world.stats().await;
    assert!(stats.of(ORDER).is_none(), "{stats:?}");
    assert_eq!(stats.total(Status::Success).n, 0);
}

/// A type that no live worker handles is reported as unserved while messages wait.
pub async fn unserved_types_are_reported(world: World) {
    world.enqueue(1).await;
    assert!(world.stats().await.of(ORDER).unwrap().unserved);
    let other = world.worker_for(&["other"], LEASE).await;
    assert!(world.stats().await.of(ORDER).unwrap().unserved);
    let worker = world.worker().await;
    assert!(!world.stats().await.of(ORDER).unwrap().unserved);
    worker.retire().await;
    assert!(world.stats().await.of(ORDER).unwrap().unserved);
    drop(other);
}

/// A worker whose lease has run out serves nothing.
pub async fn expired_worker_serves_nothing(world: World) {
    world.enqueue(1).await;
    world.worker().await;
    world.advance_secs(31);
    assert!(world.stats().await.of(ORDER).unwrap().unserved);
}

/// A type of which nothing waits lacks no worker: what is leased has one, what is dead needs none.
pub async fn only_waiting_messages_lack_a_worker(world: World) {
    let (_worker, claim) = world.claimed(2).await;
    world.settle(with(&claim, 0, dead("for good"))).await;
    world.advance_secs(31);
    let stats = world.stats().await;
    let of = stats.of(ORDER).unwrap();
    assert_eq!((of.handling.n, of.dead.n, of.unserved), (1, 1, false));
}

/// The age of the oldest ready message is counted by the database's clock.
pub async fn oldest_ready_has_an_age(world: World) {
    world.enqueue(1).await;
    world.advance_secs(100);
    world.enqueue(1).await;
    let age = world.stats().await.of(ORDER).unwrap().oldest_ready.expect("an age");
    assert!(age >= Duration::from_secs(100) && age < Duration::from_secs(160), "{age:?}");
}

async fn oldest_ready(world: &World) -> Duration {
    world.stats().await.of(ORDER).unwrap().oldest_ready.expect("an age")
}

/// A delayed message waits since it was due, not since it was enqueued; one that was brought forward since it was enqueued.
pub async fn oldest_ready_counts_from_the_due_time(world: World) {
    let hour = Duration::from_secs(3_600);
    world.put(order().after(hour)).await;
    world.advance_secs(3_600 + 100);
    world.promote().await;
    let age = oldest_ready(&world).await;
    assert!(age >= Duration::from_secs(99) && age < Duration::from_secs(160), "{age:?}");
    let claim = world.worker().await.claim(1).await;
    world.settle_ok(&claim).await;
    let early = world.put(order().after(hour)).await;
    world.advance_secs(100);
    world.storage().reschedule(&these(&[early]), Due::Now).await.unwrap();
    world.advance_secs(100);
    let age = oldest_ready(&world).await;
    assert!(age >= Duration::from_secs(200) && age < Duration::from_secs(260), "{age:?}");
}

/// A message that failed, or was requeued, waits since then.
pub async fn oldest_ready_counts_from_the_return(world: World) {
    world.enqueue(1).await;
    world.advance_secs(1_000);
    let worker = world.immortal().await;
    let claim = worker.claim(1).await;
    world.settle(each(&claim, &failed("once"))).await;
    world.advance_secs(100);
    let age = oldest_ready(&world).await;
    assert!(age >= Duration::from_secs(100) && age < Duration::from_secs(160), "{age:?}");
    let claim = worker.claim(1).await;
    world.settle(each(&claim, &dead("for good"))).await;
    world.advance_secs(1_000);
    world.requeue(&ids(&claim)).await;
    let age = oldest_ready(&world).await;
    assert!(age < Duration::from_secs(60), "{age:?}");
}

/// The oldest ready message may be in any lane, and became ready in any order.
pub async fn oldest_ready_is_the_oldest_of_all_lanes(world: World) {
    world.put(order().priority(Priority::High).after(Duration::from_secs(10))).await;
    world.advance_secs(110);
    world.put(order().priority(Priority::Normal)).await;
    world.put(order().priority(Priority::Low)).await;
    world.promote().await;
    let age = oldest_ready(&world).await;
    assert!(age >= Duration::from_secs(99) && age < Duration::from_secs(160), "{age:?}");
}

/// What happened to an earlier message of the same id does not count.
pub async fn oldest_ready_forgets_an_earlier_life(world: World) {
    let id = world.dead(order()).await;
    world.storage().discard(&these(&[id])).await.unwrap();
    world.advance_secs(1_000);
    world.put(order().id(id)).await;
    world.advance_secs(100);
    let age = oldest_ready(&world).await;
    assert!(age >= Duration::from_secs(100) && age < Duration::from_secs(160), "{age:?}");
}

/// What is not ready has no age: neither the scheduled nor the leased.
pub async fn only_ready_messages_have_an_age(world: World) {
    world.put(order().after(Duration::from_secs(60))).await;
    let (_worker, _claim) = world.claimed(1).await;
    assert_eq!(world.stats().await.of(ORDER).unwrap().oldest_ready, None);
}

/// What is ready is told from what is scheduled, whether it was tried or not.
pub async fn ready_is_told_from_scheduled(world: World) {
    let minute = Duration::from_secs(60);
    let (_worker, claim) = world.claimed(5).await;
    world.settle(and(and(with(&claim, 0, failed("x")), &claim, 1, failed_for("x", minute)), &claim, 2, failed_for("x", minute))).await;
    world.enqueue(1).await;
    world.enqueue_all(vec![order().after(minute), order().after(minute), order().after(minute)]).await;
    let stats = world.stats().await;
    let of = stats.of(ORDER).unwrap();
    assert_eq!((of.ready.n, of.created.n, of.retrying.n), (2, 4, 3));
    let capped = world.storage().stats(&StatsRequest::default().count_max(1)).await.unwrap();
    assert_eq!(capped.of(ORDER).unwrap().ready, Count::cut(2, 1));
}

/// Suspects are counted among those retrying.
pub async fn suspects_are_counted(world: World) {
    world.suspects(3).await;
    let stats = world.stats().await;
    let of = stats.of(ORDER).unwrap();
    assert_eq!((of.suspects.n, of.retrying.n, of.created.n), (3, 3, 0));
}

/// Statistics are of a moment of the database.
pub async fn moment_is_the_databases(world: World) {
    world.advance(Duration::from_secs(1_000_000));
    let before = world.now().await;
    let sampled_at = world.stats().await.sampled_at;
    assert!(sampled_at >= before.before(Duration::from_millis(1)) && sampled_at <= world.now().await, "{sampled_at:?}");
}

/// An empty queue has no statistics.
pub async fn empty_queue_has_none(world: World) {
    assert!(world.stats().await.types.is_empty());
}
