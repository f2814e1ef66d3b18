//! Bad input: a clear error that names the thing, nothing written, nothing lost.

use std::time::Duration;

use tickr_core::{
    Admin, ErrorKind, EventType, Limits, Message, MessageId, NewMessage, PauseRequest, PurgeRequest, ReclaimRequest, Retention,
    SettleOutcome, Settlement, Stats, Status, Storage,
};

use crate::world::{
    ORDER, World, all_ok, checked, dead, each, failed, failed_for, group, ids, ok, order, released, skipped, snoozed, these,
};

fn refused(message: Message) -> String {
    let error = NewMessage::check(message, MessageId::new(), &Limits::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string()
}

/// A message that breaks a limit is never made: the error names the field, and the storage is not asked.
pub async fn messages_beyond_the_limits_are_never_made(world: World) {
    let long = "k".repeat(256);
    for (message, field) in [
        (Message::new("", ""), "event type"),
        (Message::new("t".repeat(256), ""), "event type"),
        (Message::new("a\u{7}b", ""), "event type"),
        (Message::new("a\u{200b}b", ""), "event type"),
        (Message::new("a\u{202e}b", ""), "event type"),
        (Message::new(ORDER, vec![0; Limits::default().payload_bytes + 1]), "payload"),
        (order().header("h", "v".repeat(64 << 10)), "headers"),
        (order().header("h\0", "v"), "header"),
        (order().idempotency_key(&long), "idempotency key"),
        (order().idempotency_key("a\0b"), "idempotency key"),
        (order().ordering_key(&long), "ordering key"),
        (order().tenant(""), "tenant"),
        (order().organisation(&long), "organisation"),
        (order().correlation_id(&long), "correlation id"),
        (order().content_type(&long), "content type"),
        (order().after(Duration::MAX), "due"),
    ] {
        let text = refused(message);
        assert!(text.contains(field), "{text:?} does not name the {field}");
    }
    assert_eq!(world.stats().await.types, Stats::new(Vec::new(), world.now().await).types);
}

/// Text that means something to a database is text.
pub async fn text_is_never_a_statement(world: World) {
    for nasty in ["'; drop table tickr_messages; --", "\\", "%_", "\"quoted\"", "$1", "?1", ":id", "{}", "[1,2]", "null", "\u{a0}x", "🦀"]
    {
        let id = world.put(Message::new(nasty, "").idempotency_key(nasty).tenant(nasty).header(nasty, nasty)).await;
        let stored = world.record(id).await.stored;
        assert_eq!((stored.event_type.as_str(), stored.tenant.as_deref(), stored.headers.get(nasty)), (nasty, Some(nasty), Some(nasty)));
        world.pause_as(PauseRequest::event_type(nasty).reason(nasty).by(nasty)).await;
        assert_eq!(world.paused().await[0].reason.as_deref(), Some(nasty));
        assert!(world.resume(nasty).await);
        let claim = world.worker_for(&[nasty], Duration::from_secs(30)).await.claim_of(&[nasty], 1).await;
        world.settle(each(&claim, &dead(nasty))).await;
        assert_eq!(world.record(id).await.last_error.as_deref(), Some(nasty));
    }
}

/// An error text with a NUL byte or of a megabyte never stands in the way of its settle.
pub async fn any_error_text_can_be_recorded(world: World) {
    let (worker, claim) = world.claimed(6).await;
    let texts = ["nul \0 in the middle".to_owned(), "e".repeat(1 << 20), String::new(), "line\nline\r\n".to_owned()];
    let mut settlement = ok(&claim, []);
    for (index, text) in (0..).zip(&texts) {
        settlement = crate::world::and(settlement, &claim, index, failed(text));
    }
    settlement = crate::world::and(settlement, &claim, 4, dead("\0"));
    settlement = crate::world::and(settlement, &claim, 5, skipped("s\0s"));
    assert_eq!(world.settle(settlement).await.applied.count(), 6);
    assert_eq!(worker.claim(10).await.messages.len(), 4);
    let told = world.record(ids(&claim)[0]).await.last_error.expect("an error");
    assert!(told.starts_with("nul ") && told.ends_with(" in the middle"), "{told:?}");
    assert!(world.record(ids(&claim)[1]).await.last_error.expect("an error").starts_with("eee"));
}

/// The reason of a kill, a release or a retirement may be any text.
pub async fn any_reason_can_be_recorded(world: World) {
    let (worker, claim) = world.claimed(3).await;
    world.storage().kill(&these(&[ids(&claim)[0]]), "why\0not").await.unwrap();
    world.settle(crate::world::with(&claim, 1, released("a\0b"))).await;
    assert_eq!(world.storage().retire(worker.id, "c\0d").await.unwrap().released, 1);
    assert_eq!(world.status(ids(&claim)[0]).await, Status::Dead);
}

/// An absurd delay never loses a message: it waits, for ever if need be, and can be run now.
pub async fn absurd_delays_lose_nothing(world: World) {
    for outcome in [failed_for("boom", Duration::MAX), snoozed(Duration::MAX), failed_for("boom", Duration::from_secs(1 << 40))] {
        let (worker, claim) = world.claimed(1).await;
        world.settle(each(&claim, &outcome)).await;
        assert_eq!(world.promote().await, 0, "{outcome:?}");
        let id = ids(&claim)[0];
        assert!(world.record(id).await.due_at.is_some(), "{outcome:?}");
        assert_eq!(world.storage().reschedule(&these(&[id]), tickr_core::Due::Now).await.unwrap().done, [id]);
        world.settle_ok(&worker.claim(1).await).await;
    }
}

/// The shortest delay is no reason to lose a message either.
pub async fn tiny_delays_lose_nothing(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle(each(&claim, &failed_for("boom", Duration::from_nanos(1)))).await;
    world.advance_secs(1);
    world.promote().await;
    assert_eq!(world.immortal().await.claim(1).await.messages.len(), 1);
}

/// A lease or a lock that is held for ever is held for very long.
pub async fn absurd_leases_are_long(world: World) {
    let worker = world.worker_with(Duration::MAX).await;
    worker.beat().await;
    world.enqueue(1).await;
    assert_eq!(worker.claim(1).await.members, 1);
    let lock = world.storage().acquire_lock("promote", worker.id, Duration::MAX).await.unwrap().expect("a free lock");
    assert!(world.storage().renew_lock(&lock, Duration::MAX).await.unwrap());
    world.advance(Duration::from_secs(40 * 366 * 24 * 3_600));
    assert_eq!(world.reclaim().await.condemned, 0);
}

/// Retentions of any length are retentions.
pub async fn absurd_retentions_delete_nothing(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle_ok(&claim).await;
    let dead = world.dead(order()).await;
    let retention = Retention::default().success(Duration::MAX).dead(Some(Duration::MAX)).history(Some(Duration::MAX));
    world.advance_secs(1_000_000);
    let purged = world.storage().purge(&PurgeRequest::default().retention(retention).limit(100)).await.unwrap();
    assert_eq!((purged.bodies, purged.dead, purged.journal), (0, 0, 0));
    world.assert_status(&[dead], Status::Dead).await;
}

/// Operations on no ids do nothing.
pub async fn empty_selections_do_nothing(world: World) {
    let id = world.enqueue(1).await[0];
    let none = these(&[]);
    let storage = world.storage();
    for acted in [
        storage.kill(&none, "why").await.unwrap(),
        storage.requeue(&none, tickr_core::Due::Now).await.unwrap(),
        storage.discard(&none).await.unwrap(),
        storage.reschedule(&none, tickr_core::Due::Now).await.unwrap(),
    ] {
        assert_eq!((acted.done, acted.missing), (vec![], vec![]));
    }
    assert_eq!(world.status(id).await, Status::Created);
}

/// Operations on many ids do not run into a limit of the database's parameters.
pub async fn many_ids_are_one_operation(world: World) {
    let sent = world.enqueue(2_000).await;
    let unknown: Vec<MessageId> = (0..2_000).map(|_| MessageId::new()).collect();
    let all = [&sent[..], &unknown[..]].concat();
    let killed = world.kill(&all).await;
    assert_eq!((killed.done.len(), killed.missing.len()), (2_000, 2_000));
    assert_eq!(world.requeue(&all).await.done.len(), 2_000);
    let later = tickr_core::Due::After(Duration::from_secs(60));
    assert_eq!(world.storage().reschedule(&these(&all), later).await.unwrap().done.len(), 2_000);
    world.kill(&all).await;
    assert_eq!(world.storage().discard(&these(&all)).await.unwrap().done.len(), 2_000);
}

/// A member that its claim does not have is a mistake of the caller, and nothing of the batch is written.
pub async fn foreign_members_are_refused(world: World) {
    let (_, claim) = world.claimed(2).await;
    let (_, other) = world.claimed(2).await;
    let boom = failed("boom");
    let mut beyond = each(&claim, &boom);
    beyond.others[1].index = 7;
    // As many members as it says itself, but not as its claim has: only the storage can know.
    let mut longer = Settlement::new(claim.token, 3);
    longer.succeeded.insert(2);
    let mut shorter = Settlement::new(claim.token, 1);
    shorter.succeeded.insert(0);
    for wrong in [beyond, longer, shorter] {
        for batch in [vec![wrong.clone()], vec![all_ok(&other), wrong.clone()], vec![wrong.clone(), all_ok(&other)]] {
            assert_eq!(world.storage().settle(&batch).await.unwrap_err().kind(), ErrorKind::Config, "{batch:?}");
        }
    }
    world.assert_status(&ids(&claim), Status::Handling).await;
    world.assert_status(&ids(&other), Status::Handling).await;
    world.settle_ok(&claim).await;
    world.settle_ok(&other).await;
}

/// A member that names another message than its claim has in that place is a mistake of the caller, and nothing of the batch is written.
pub async fn members_with_foreign_ids_are_refused(world: World) {
    let (_, claim) = world.claimed(2).await;
    let (_, other) = world.claimed(1).await;
    let ready = world.enqueue(1).await[0];
    let (mine, boom) = (ids(&claim), failed("boom"));
    // A message that waits, one of another claim, the neighbour in the same claim, and one that nobody knows.
    for stranger in [ready, ids(&other)[0], mine[1], MessageId::new()] {
        for outcome in [&boom, &dead("no use"), &released("shutdown"), &skipped("nothing to do")] {
            let mut wrong = crate::world::with(&claim, 0, outcome.clone());
            wrong.others[0].id = stranger;
            let batch = [all_ok(&other), wrong];
            assert_eq!(world.storage().settle(&batch).await.unwrap_err().kind(), ErrorKind::Config, "{batch:?}");
        }
    }
    world.assert_status(&mine, Status::Handling).await;
    world.assert_status(&ids(&other), Status::Handling).await;
    assert_eq!(world.state(ready).await, (Status::Created, 0));
    world.settle_ok(&claim).await;
    world.settle_ok(&other).await;
}

/// A member that one batch settles twice is a mistake of the caller, and nothing of the batch is written.
pub async fn member_settled_twice_in_one_batch_is_refused(world: World) {
    let (_, claim) = world.claimed(2).await;
    let twice = crate::world::and(ok(&claim, [0]), &claim, 0, dead("both"));
    assert_eq!(world.storage().settle(&[twice]).await.unwrap_err().kind(), ErrorKind::Config);
    let split = [ok(&claim, [0, 1]), ok(&claim, [1])];
    assert_eq!(world.storage().settle(&split).await.unwrap_err().kind(), ErrorKind::Config);
    world.assert_status(&ids(&claim), Status::Handling).await;
}

/// One lane that a claim names twice is a mistake of the caller.
pub async fn lane_named_twice_is_refused(world: World) {
    world.enqueue(2).await;
    let worker = world.worker().await;
    let lanes = tickr_core::protocol::Lane::ORDINARY;
    let request = worker.request(vec![group(ORDER, &lanes, 1), group(ORDER, &lanes, 1)], 2);
    assert_eq!(world.storage().claim(&request).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(worker.claim(10).await.messages.len(), 2);
}

/// Limits of nothing are taken for what they say.
pub async fn limits_of_zero_move_nothing(world: World) {
    world.put(order().after(Duration::from_secs(1))).await;
    world.advance_secs(2);
    assert_eq!(world.storage().promote(0).await.unwrap().moved, 0);
    let reclaimed = world.storage().reclaim(&ReclaimRequest::new(0)).await.unwrap();
    assert_eq!((reclaimed.claims, reclaimed.condemned), (0, 0));
}

/// The largest limits are limits like others.
pub async fn huge_limits_are_limits(world: World) {
    world.enqueue(3).await;
    let worker = world.worker().await;
    let claim = worker.claim(u32::MAX).await;
    assert_eq!(claim.messages.len(), 3);
    world.storage().promote(u32::MAX).await.unwrap();
    world.storage().reclaim(&ReclaimRequest::condemning(u32::MAX)).await.unwrap();
    world.storage().purge(&PurgeRequest::default().limit(u32::MAX)).await.unwrap();
    world.storage().stats(&tickr_core::StatsRequest::default().count_max(u32::MAX)).await.unwrap();
}

/// An error never shows the payload.
pub async fn errors_do_not_show_payloads(world: World) {
    let secret = "4111-1111-1111-1111";
    let new = checked(Message::new(ORDER, secret).header("card", secret));
    let error = world.storage().enqueue(&[new.clone(), new.clone()]).await.unwrap_err();
    let shown = format!("{error} {error:#?} {new:?} {:?}", world.storage());
    assert!(!shown.contains(secret), "{shown}");
}

/// Whatever the outcome's text, its word in the journal is one of the known.
pub async fn every_outcome_is_recorded_by_its_word(world: World) {
    let zero = Duration::ZERO;
    for (outcome, word) in [
        (skipped("x"), "skipped"),
        (SettleOutcome::Failed { error: "x".to_owned(), delay: zero }, "failed"),
        (SettleOutcome::Exhausted { error: "x".to_owned() }, "exhausted"),
        (SettleOutcome::Dead { error: "x".to_owned() }, "dead"),
        (SettleOutcome::Snoozed { delay: zero }, "snoozed"),
        (SettleOutcome::Released { reason: "x".to_owned() }, "released"),
    ] {
        let name = EventType::new(word).unwrap();
        let id = world.put(Message::new(word, "")).await;
        let claim = world.worker().await.claim_of(&[&name], 1).await;
        world.settle(each(&claim, &outcome)).await;
        assert_eq!(world.events(id).await[2], word);
    }
}
