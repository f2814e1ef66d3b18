//! Claims: ready messages are leased to one worker, oldest first.

use std::collections::HashMap;
use std::time::Duration;

use tickr_core::protocol::Lane;
use tickr_core::{Claim, ClaimRequest, Message, Status, Storage};

use crate::world::{ORDER, WithMax, World, each, failed, group, ids, order, ordinary, with};

const PAID: &str = "order.paid";

/// The attempt is counted when the message is claimed, not when it ends.
pub async fn attempt_is_counted(world: World) {
    let (_, claim) = world.claimed(1).await;
    assert_eq!(claim.messages[0].attempt, 1);
    assert_eq!(world.state(ids(&claim)[0]).await, (Status::Handling, 1));
}

/// Each further claim of a message that failed is the next attempt.
pub async fn attempts_go_up(world: World) {
    let (worker, mut claim) = world.claimed(1).await;
    for attempt in 1..5 {
        assert_eq!(claim.messages[0].attempt, attempt);
        world.settle(each(&claim, &failed("boom"))).await;
        claim = worker.claim(1).await;
    }
}

/// A claim that finds nothing writes nothing: it is not open, and its worker holds nothing.
pub async fn empty_claim_writes_nothing(world: World) {
    let worker = world.worker().await;
    let before = world.audit().await;
    let claim = worker.claim(10).await;
    assert_eq!((claim.members, claim.messages.len()), (0, 0));
    assert!(world.storage().adopt(claim.token).await.unwrap().is_none());
    assert!(worker.beat().await.open.is_empty());
    assert_eq!(world.audit().await, before);
}

/// A claim that finds nothing may say for how long nothing that is scheduled becomes due: never longer than it is.
pub async fn empty_claim_knows_what_is_due_next(world: World) {
    let worker = world.worker().await;
    let nothing = worker.claim(10).await.quiet_for;
    assert!(nothing.is_none_or(|quiet| quiet > Duration::from_secs(3_600)), "nothing is scheduled: {nothing:?}");
    world.enqueue_all(vec![order().after(Duration::from_secs(60))]).await;
    let scheduled = worker.claim(10).await.quiet_for;
    assert_eq!(scheduled.is_some(), nothing.is_some(), "who looks, looks always");
    assert!(
        scheduled.is_none_or(|quiet| quiet > Duration::from_secs(30) && quiet <= Duration::from_secs(60)),
        "due in a minute: {scheduled:?}"
    );
    world.advance_secs(61);
    let due = worker.claim(10).await.quiet_for;
    assert!(due.is_none_or(|quiet| quiet.is_zero()), "due already: {due:?}");
}

/// Groups are served in the order of the request.
pub async fn groups_are_walked_in_order(world: World) {
    let orders = world.enqueue(3).await;
    let paid = world.enqueue_all((0..3).map(|_| Message::new(PAID, "")).collect()).await;
    let worker = world.worker().await;
    let groups = vec![group(PAID, &Lane::ORDINARY, 10), group(ORDER, &Lane::ORDINARY, 10)];
    let claim = worker.send(&worker.request(groups, 5)).await;
    assert_eq!(ids(&claim), [&paid[..], &orders[..2]].concat());
}

/// A lane is served oldest first.
pub async fn oldest_comes_first(world: World) {
    let sent = world.enqueue(10).await;
    let worker = world.worker().await;
    assert_eq!(ids(&worker.claim(4).await), sent[..4]);
    assert_eq!(ids(&worker.claim(4).await), sent[4..8]);
    assert_eq!(ids(&worker.claim(4).await), sent[8..]);
}

/// What is leased is not claimed again, by nobody.
pub async fn leased_message_is_not_claimed_again(world: World) {
    let (worker, _) = world.claimed(3).await;
    assert!(worker.claim(10).await.messages.is_empty());
    assert!(world.worker().await.claim(10).await.messages.is_empty());
}

/// A claim answers its own token and how many members its bitmaps have.
pub async fn answer_has_token_and_members(world: World) {
    let (_, claim) = world.claimed(3).await;
    assert_eq!((claim.members, claim.solo), (3, false));
    assert_eq!(claim.messages.iter().map(|message| message.index).collect::<Vec<_>>(), [0, 1, 2]);
}

/// A type that nobody asks for stays queued, whatever else is claimed.
pub async fn unknown_type_stays_queued(world: World) {
    let stranger = world.put(Message::new("nobody.knows", "")).await;
    world.enqueue(2).await;
    let worker = world.worker().await;
    world.settle_ok(&worker.claim(10).await).await;
    assert_eq!(world.state(stranger).await, (Status::Created, 0));
    assert_eq!(worker.claim_of(&["nobody.knows"], 1).await.messages.len(), 1);
}

/// Types are compared byte by byte.
pub async fn types_are_compared_by_bytes(world: World) {
    let names = ["Order", "order", "order ", "orde\u{301}r", "ordér", "ORDER"];
    for name in names {
        world.put(Message::new(name, name)).await;
    }
    let worker = world.worker().await;
    for name in names {
        let claim = worker.claim_of(&[name], 10).await;
        let bodies: Vec<_> = claim.messages.iter().map(|message| message.body.as_ref().unwrap().payload.clone()).collect();
        assert_eq!(bodies, [name.as_bytes()]);
    }
}

/// The maximum of attempts is the message's own where it has one, else that of the claimer.
pub async fn own_maximum_goes_before_the_groups(world: World) {
    world.put(order().max_attempts(3)).await;
    world.put(order()).await;
    let worker = world.worker().await;
    let claim = worker.send(&worker.request(vec![group(ORDER, &Lane::ORDINARY, 10).max(25)], 10)).await;
    assert_eq!(claim.messages.iter().map(|message| message.max_attempts).collect::<Vec<_>>(), [3, 25]);
}

/// A message whose attempt is above a maximum that was lowered meanwhile says so: it is settled dead, unrun.
pub async fn attempt_above_lowered_max_is_visible(world: World) {
    let (worker, mut claim) = world.claimed(1).await;
    for _ in 0..2 {
        world.settle(each(&claim, &failed("boom"))).await;
        claim = worker.send(&worker.request(vec![group(ORDER, &Lane::ORDINARY, 1).max(2)], 1)).await;
    }
    assert_eq!((claim.messages[0].attempt, claim.messages[0].max_attempts), (3, 2));
    world.settle(each(&claim, &crate::world::exhausted("attempt 3 of 2"))).await;
    assert_eq!(world.status(ids(&claim)[0]).await, Status::Dead);
}

/// The first attempt has no last error; later ones have the newest.
pub async fn last_error_comes_with_later_attempts(world: World) {
    let (worker, claim) = world.claimed(1).await;
    assert_eq!(claim.messages[0].last_error, None);
    world.settle(each(&claim, &failed("first"))).await;
    let claim = worker.claim(1).await;
    assert_eq!(claim.messages[0].last_error.as_deref(), Some("first"));
    world.settle(each(&claim, &failed("second"))).await;
    assert_eq!(worker.claim(1).await.messages[0].last_error.as_deref(), Some("second"));
}

/// The last error that comes with a message is its own, whatever happened to others since.
pub async fn last_error_is_the_messages_own(world: World) {
    let (worker, first) = world.claimed(2).await;
    world.settle(with(&first, 0, failed("earlier"))).await;
    world.settle(with(&first, 1, failed("later"))).await;
    let claim = worker.claim(2).await;
    let adopted = world.storage().adopt(claim.token).await.unwrap().unwrap();
    for messages in [&claim.messages, &adopted.messages] {
        let errors: HashMap<_, _> = messages.iter().map(|message| (message.id, message.last_error.as_deref())).collect();
        assert_eq!(errors, HashMap::from([(ids(&first)[0], Some("earlier")), (ids(&first)[1], Some("later"))]));
    }
}

/// A claim without groups, or of nothing, is empty.
pub async fn claim_of_nothing_is_empty(world: World) {
    world.enqueue(1).await;
    let worker = world.worker().await;
    for request in [worker.request(Vec::new(), 5), worker.request(ordinary(&[ORDER], 5), 0), worker.request(ordinary(&[ORDER], 0), 5)] {
        assert_eq!(worker.send(&request).await.messages.len(), 0);
    }
}

/// After the queue ran empty, what is enqueued next is found: positions are not used again.
pub async fn seq_never_reused_after_drain(world: World) {
    let worker = world.worker().await;
    for _ in 0..5 {
        let sent = world.enqueue(3).await;
        let claim = worker.claim(10).await;
        assert_eq!(ids(&claim), sent);
        world.settle_ok(&claim).await;
        assert!(worker.claim(10).await.messages.is_empty());
    }
}

/// Rows that return are found, although later ones were claimed long ago.
pub async fn returned_rows_are_found_behind_floor(world: World) {
    let worker = world.immortal().await;
    world.enqueue(1).await;
    let early = worker.claim(1).await;
    for _ in 0..5 {
        world.enqueue(50).await;
        world.settle_ok(&worker.claim(50).await).await;
        world.advance_secs(10);
    }
    world.settle(each(&early, &failed("late"))).await;
    assert_eq!(ids(&worker.claim(10).await), ids(&early));
}

/// A claim of many messages is one claim.
pub async fn large_claim_is_one_claim(world: World) {
    let (_, claim) = world.claimed(1_000).await;
    assert_eq!(claim.members, 1_000);
    let again: Claim = world.storage().adopt(claim.token).await.unwrap().unwrap();
    assert_eq!(ids(&again), ids(&claim));
}

/// A token is used once: a claim that is sent twice does not take anything the second time.
pub async fn token_is_used_once(world: World) {
    world.enqueue(4).await;
    let worker = world.worker().await;
    let request: ClaimRequest = worker.request(ordinary(&[ORDER], 2), 2);
    let first = worker.send(&request).await;
    let _refused_or_empty = world.storage().claim(&request).await;
    assert_eq!(ids(&world.storage().adopt(first.token).await.unwrap().unwrap()), ids(&first));
    assert_eq!(worker.claim(10).await.messages.len(), 2);
}
