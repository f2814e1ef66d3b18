//! Retention: what has passed it is deleted, and nothing else.

use std::time::Duration;

use tickr_core::{Admin, ErrorKind, Message, MessageId, PurgeRequest, Retention, Selection, Status, Storage};

use crate::world::{ORDER, World, and, dead, each, failed, failed_for, ids, ok, order, skipped, these, with};

const HOUR: Duration = Duration::from_secs(3_600);

/// Everything is old after an hour.
fn hour() -> Retention {
    Retention::default().success(HOUR).dead(Some(HOUR)).history(Some(HOUR))
}

/// Dead letters and the history stay for ever.
fn only_bodies() -> Retention {
    Retention::default().success(HOUR).dead(None).history(None)
}

/// A body is deleted because of a recorded success only: what waits, runs or is dead keeps its own, however old.
pub async fn body_needs_proof(world: World) {
    let (_, claim) = world.claimed(6).await;
    let all = ids(&claim);
    world.settle(and(ok(&claim, [0]), &claim, 1, skipped("nothing to do"))).await;
    world.settle(and(with(&claim, 2, failed("x")), &claim, 3, failed_for("x", 9_999 * HOUR))).await;
    world.settle(with(&claim, 4, dead("x"))).await;
    let ready = world.enqueue(1).await[0];
    world.advance(10 * HOUR);
    assert_eq!(world.purge(only_bodies()).await.bodies, 2);
    let mut left = Vec::new();
    for id in all.iter().chain([&ready]) {
        left.push(world.find(*id).await.map(|record| record.status));
    }
    use Status::{Created, Dead, Handling, Retrying};
    assert_eq!(left, [None, None, Some(Retrying), Some(Retrying), Some(Dead), Some(Handling), Some(Created)]);
}

/// The success retention counts from the success, not from the enqueue.
pub async fn success_retention_counts_from_success(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.advance(10 * HOUR);
    world.settle_ok(&claim).await;
    assert_eq!(world.purge(hour()).await.bodies, 0);
    assert_eq!(world.status(ids(&claim)[0]).await, Status::Success);
    world.advance(HOUR + Duration::from_secs(1));
    assert_eq!(world.purge(hour()).await.bodies, 1);
    assert_eq!(world.find(ids(&claim)[0]).await, None);
}

/// An old failure, skip of a neighbour or snooze is no proof: only the success itself lets the body go.
pub async fn earlier_outcomes_are_no_proof(world: World) {
    let (worker, claim) = world.claimed(2).await;
    let worker = worker.with_lease(100 * HOUR);
    worker.beat().await;
    world.settle(and(with(&claim, 0, failed("x")), &claim, 1, skipped("nothing to do"))).await;
    world.advance(2 * HOUR);
    world.settle_ok(&worker.claim(1).await).await;
    assert_eq!(world.purge(hour()).await.bodies, 1);
    assert_eq!(world.status(ids(&claim)[0]).await, Status::Success);
}

/// Dead letters outlive the success retention.
pub async fn dead_outlive_success_retention(world: World) {
    let id = world.dead(order()).await;
    world.advance(10 * HOUR);
    let purged = world.purge(Retention::default().success(HOUR).dead(Some(20 * HOUR))).await;
    assert_eq!((purged.bodies, purged.dead), (0, 0));
    assert_eq!(world.status(id).await, Status::Dead);
    assert_eq!(world.requeue(&[id]).await.done, [id]);
}

/// A dead letter and its body go together when their retention has passed.
pub async fn dead_goes_with_its_body(world: World) {
    let id = world.dead(order()).await;
    world.advance(2 * HOUR);
    assert_eq!(world.purge(hour()).await.dead, 1);
    assert_eq!(world.find(id).await, None);
    assert!(world.storage().list_dead(&tickr_core::DeadQuery::default()).await.unwrap().items.is_empty());
    assert_eq!(world.requeue(&[id]).await.missing, [id]);
}

/// Dead letters without retention are kept for ever.
pub async fn dead_can_be_kept_for_ever(world: World) {
    let id = world.dead(order()).await;
    world.advance(100_000 * HOUR);
    assert_eq!(world.purge(only_bodies()).await.dead, 0);
    assert_eq!(world.status(id).await, Status::Dead);
}

/// A dead letter that was brought back is kept like any live message.
pub async fn requeued_message_is_kept(world: World) {
    let id = world.dead(order()).await;
    world.advance(2 * HOUR);
    world.requeue(&[id]).await;
    assert_eq!(world.purge(hour()).await.dead, 0);
    assert_eq!(world.status(id).await, Status::Created);
}

/// The history outlives the body for its own retention, and then goes too.
pub async fn history_outlives_the_body(world: World) {
    let (_, claim) = world.claimed(1).await;
    let id = ids(&claim)[0];
    world.settle_ok(&claim).await;
    world.advance(2 * HOUR);
    world.purge(Retention::default().success(HOUR).dead(Some(HOUR)).history(Some(10 * HOUR))).await;
    assert_eq!((world.find(id).await, world.events(id).await), (None, vec!["claimed", "ok"]));
    world.advance(10 * HOUR);
    assert!(world.purge(Retention::default().success(HOUR).history(Some(10 * HOUR))).await.journal > 0);
    assert!(world.events(id).await.is_empty());
}

/// Failed attempts and their errors outlive the body as the rest of the history does.
pub async fn failures_outlive_the_body(world: World) {
    let (worker, claim) = world.claimed(1).await;
    let id = ids(&claim)[0];
    world.settle(each(&claim, &failed("boom"))).await;
    world.settle_ok(&worker.claim(1).await).await;
    let keep = || Retention::default().success(HOUR).dead(Some(HOUR)).history(Some(10 * HOUR));
    world.advance(2 * HOUR);
    assert_eq!(world.purge(keep()).await.bodies, 1);
    let steps: Vec<_> = world.history(id).await.into_iter().map(|step| (step.event, step.error)).collect();
    let boom = Some("boom".to_owned());
    assert_eq!(steps, [("claimed", None), ("failed", boom), ("retrying", None), ("claimed", None), ("ok", None)]);
    world.advance(10 * HOUR);
    world.purge(keep()).await;
    assert!(world.events(id).await.is_empty());
}

/// The journal of an open claim is kept, however old: it can be adopted and settled.
pub async fn journal_purge_never_touches_open_claims(world: World) {
    let (worker, claim) = world.claimed(3).await;
    let worker = worker.with_lease(10_000 * HOUR);
    worker.beat().await;
    world.settle(and(ok(&claim, [0]), &claim, 1, failed("x"))).await;
    world.advance(1_000 * HOUR);
    world.purge(hour()).await;
    world.assert_clean_audit().await;
    let adopted = world.storage().adopt(claim.token).await.unwrap().expect("an open claim");
    assert_eq!(ids(&adopted), [ids(&claim)[2]]);
    world.settle_ok(&adopted).await;
}

/// The proof of a success is not purged before the body that needs it, however small the portions.
pub async fn proof_is_kept_until_its_body_is_gone(world: World) {
    world.enqueue(12).await;
    let worker = world.immortal().await;
    for size in [3, 1, 5, 3] {
        world.settle_ok(&worker.claim(size).await).await;
    }
    world.advance(2 * HOUR);
    let mut bodies = 0;
    for _ in 0..60 {
        let purged = world.storage().purge(&PurgeRequest::default().retention(hour()).limit(1)).await.unwrap();
        assert!(purged.bodies <= 1, "{purged:?}");
        bodies += purged.bodies;
        world.assert_clean_audit().await;
    }
    assert_eq!(bodies, 12);
}

/// A purge deletes no more of a kind than it is told, and says that there is more.
pub async fn purge_keeps_to_its_limit(world: World) {
    let (_, claim) = world.claimed(10).await;
    world.settle_ok(&claim).await;
    world.advance(2 * HOUR);
    let first = world.storage().purge(&PurgeRequest::default().retention(only_bodies()).limit(4)).await.unwrap();
    assert!(first.bodies <= 4 && first.more, "{first:?}");
    assert_eq!(first.bodies + world.purge(only_bodies()).await.bodies, 10);
}

/// A purge that its limit stopped says that there is more, however few successes were recorded at a time.
pub async fn purge_says_that_there_is_more(world: World) {
    world.enqueue(5).await;
    let worker = world.immortal().await;
    for _ in 0..5 {
        world.settle_ok(&worker.claim(1).await).await;
    }
    world.advance(2 * HOUR);
    let mut bodies = 0;
    loop {
        let purged = world.storage().purge(&PurgeRequest::default().retention(only_bodies()).limit(2)).await.unwrap();
        bodies += purged.bodies;
        if !purged.more {
            break;
        }
    }
    assert_eq!(bodies, 5);
}

/// A purge that finds nothing deletes nothing.
pub async fn purge_of_nothing(world: World) {
    let purged = world.purge(hour()).await;
    assert_eq!((purged.bodies, purged.dead, purged.journal, purged.keys, purged.more), (0, 0, 0, 0, false));
}

/// A history that is kept for a shorter time than the successes that it proves is refused, and nothing is deleted.
pub async fn history_shorter_than_success_is_refused(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle_ok(&claim).await;
    world.advance(10 * HOUR);
    let retention = Retention::default().success(2 * HOUR).history(Some(HOUR));
    let refused = world.storage().purge(&PurgeRequest::default().retention(retention).limit(10)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert_eq!(world.events(ids(&claim)[0]).await, ["created", "claimed", "ok"]);
}

/// The last error of a message that still lives is kept, however old the history.
pub async fn last_error_of_live_message_is_kept(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle(each(&claim, &failed("boom"))).await;
    world.advance(1_000 * HOUR);
    world.purge(hour()).await;
    assert_eq!(world.record(ids(&claim)[0]).await.last_error.as_deref(), Some("boom"));
}

/// Discarding deletes dead letters with their bodies.
pub async fn discard_deletes_dead_and_body(world: World) {
    let id = world.dead(order()).await;
    let acted = world.storage().discard(&these(&[id])).await.unwrap();
    assert_eq!((acted.done, acted.missing), (vec![id], vec![]));
    assert_eq!(world.find(id).await, None);
    assert_eq!(world.requeue(&[id]).await.missing, [id]);
}

/// What is unknown or not dead is not discarded, and is reported.
pub async fn discard_reports_what_is_not_dead(world: World) {
    let (_, claim) = world.claimed(1).await;
    let ready = world.enqueue(1).await[0];
    let asked = [ids(&claim)[0], ready, MessageId::new()];
    let acted = world.storage().discard(&these(&asked)).await.unwrap();
    assert_eq!((acted.done, acted.missing), (vec![], asked.to_vec()));
    assert_eq!(world.status(ready).await, Status::Created);
}

/// A filter discards the dead of a type, oldest first, up to its limit.
pub async fn discard_by_filter(world: World) {
    let dead = [world.dead(order()).await, world.dead(order()).await];
    let other = world.dead(Message::new("other", "")).await;
    let filter = Selection::event_type(ORDER).limit(1);
    assert_eq!(world.storage().discard(&filter).await.unwrap().done, dead[..1]);
    world.assert_status(&[dead[1], other], Status::Dead).await;
}

/// An id whose body was purged is new again: it does not inherit what was recorded before.
pub async fn purged_id_begins_anew(world: World) {
    let (worker, claim) = world.claimed(1).await;
    let id = ids(&claim)[0];
    world.settle_ok(&claim).await;
    world.advance(2 * HOUR);
    world.purge(only_bodies()).await;
    world.put(order().id(id)).await;
    assert_eq!(world.state(id).await, (Status::Created, 0));
    world.assert_clean_audit().await;
    world.purge(only_bodies()).await;
    assert_eq!(world.status(id).await, Status::Created, "an old success is no proof for a new body");
    drop(worker);
}
