//! Histories: every transition of a message, oldest first.

use std::time::Duration;

use tickr_core::{MessageId, Status, Uuid};

use crate::world::{LEASE, ORDER, World, and, dead, each, exhausted, failed, ids, ok, order, released, skipped, snoozed, with};

use Status::{Created, Dead, Failed, Handling, Retrying, Success};

async fn path(world: &World, id: MessageId) -> Vec<Status> {
    world.history(id).await.into_iter().map(|step| step.to).collect()
}

/// A message that just succeeded was created, claimed and done.
pub async fn success_reads_created_handling_success(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle_ok(&claim).await;
    assert_eq!(path(&world, ids(&claim)[0]).await, [Created, Handling, Success]);
    assert_eq!(world.events(ids(&claim)[0]).await, ["created", "claimed", "ok"]);
}

/// A failed attempt reads FAILED and RETRYING; the last one FAILED and DEAD.
pub async fn failures_read_failed_and_what_follows(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.settle(with(&claim, 0, failed("first"))).await;
    let claim = worker.claim(1).await;
    world.settle(with(&claim, 0, exhausted("second"))).await;
    let history = world.history(ids(&claim)[0]).await;
    let path: Vec<_> = history.iter().map(|step| (step.to, step.attempt, step.error.as_deref())).collect();
    let expected = [
        (Created, 0, None),
        (Handling, 1, None),
        (Failed, 1, Some("first")),
        (Retrying, 1, None),
        (Handling, 2, None),
        (Failed, 2, Some("second")),
        (Dead, 2, Some("second")),
    ];
    assert_eq!(path, expected);
}

/// A dead letter goes from HANDLING to DEAD at once.
pub async fn dead_letter_reads_dead(world: World) {
    let (_, claim) = world.claimed(1).await;
    world.settle(with(&claim, 0, dead("cannot be decoded"))).await;
    let history = world.history(ids(&claim)[0]).await;
    let last = history.last().unwrap();
    assert_eq!((last.from, last.to, last.error.as_deref()), (Some(Handling), Dead, Some("cannot be decoded")));
}

/// A skip, a snooze and a release are told by name.
pub async fn rare_outcomes_are_told_by_name(world: World) {
    let (worker, claim) = world.claimed(3).await;
    let settlement = and(with(&claim, 0, skipped("old news")), &claim, 1, snoozed(Duration::from_secs(1)));
    world.settle(and(settlement, &claim, 2, released("shutdown"))).await;
    let mut last = Vec::new();
    for id in ids(&claim) {
        let history = world.history(id).await;
        let step = history.last().unwrap();
        last.push((step.event, step.to, step.error.clone()));
    }
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(last, [("skipped", Success, text("old news")), ("snoozed", Created, None), ("released", Created, text("shutdown"))]);
    drop(worker);
}

/// A reclaim and a crash are told by name, with the worker that died.
pub async fn crashes_name_the_worker(world: World) {
    let id = world.put(order().max_attempts(1)).await;
    for name in ["host-a", "host-b", "host-c"] {
        let mut worker = world.worker().await;
        name.clone_into(&mut worker.name);
        worker.register().await.unwrap();
        if worker.claim(1).await.messages.is_empty() {
            worker.claim_solo().await;
        }
        world.crash(&worker).await;
    }
    let history = world.history(id).await;
    let told: Vec<_> = history.iter().map(|step| (step.event, step.to, step.worker.as_deref())).collect();
    let expected = [
        ("created", Created, None),
        ("claimed", Handling, Some("host-a")),
        ("reclaimed", Retrying, Some("host-a")),
        ("claimed", Handling, Some("host-b")),
        ("reclaimed", Retrying, Some("host-b")),
        ("claimed", Handling, Some("host-c")),
        ("crashed", Dead, Some("host-c")),
    ];
    assert_eq!(told, expected);
}

/// Steps are numbered from 1 without gaps, and each begins where the one before ended.
pub async fn steps_are_a_chain(world: World) {
    let (worker, claim) = world.claimed(1).await;
    let id = ids(&claim)[0];
    world.settle(each(&claim, &failed("boom"))).await;
    world.kill(&[id]).await;
    world.requeue(&[id]).await;
    world.settle_ok(&worker.claim(1).await).await;
    let history = world.history(id).await;
    let numbers: Vec<u32> = history.iter().map(|step| step.seq).collect();
    assert_eq!(numbers, (1..=u32::try_from(history.len()).unwrap()).collect::<Vec<_>>());
    assert_eq!(history[0].from, None);
    for pair in history.windows(2) {
        assert_eq!(pair[1].from, Some(pair[0].to));
        assert!(pair[1].at >= pair[0].at, "{pair:?}");
        assert_eq!(pair[1].message, id);
    }
}

/// A message that was handled in one claim with others has its own history only.
pub async fn neighbours_do_not_mix(world: World) {
    let (_, claim) = world.claimed(3).await;
    world.settle(and(ok(&claim, [0]), &claim, 1, dead("only this one"))).await;
    assert_eq!(world.events(ids(&claim)[0]).await, ["created", "claimed", "ok"]);
    assert_eq!(world.events(ids(&claim)[1]).await, ["created", "claimed", "dead"]);
    assert_eq!(world.events(ids(&claim)[2]).await, ["created", "claimed"]);
}

/// A message that nobody knows has no history.
pub async fn unknown_message_has_none(world: World) {
    assert!(world.history(MessageId::new()).await.is_empty());
}

/// A repeated settle is one step of the history.
pub async fn repeats_are_told_once(world: World) {
    let (_, claim) = world.claimed(1).await;
    for _ in 0..3 {
        world.settle(with(&claim, 0, exhausted("boom"))).await;
    }
    assert_eq!(world.events(ids(&claim)[0]).await, ["created", "claimed", "exhausted", "dead"]);
}

/// What a zombie tried to record is not in the history.
pub async fn refused_settles_are_not_told(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.crash(&worker).await;
    world.settle(with(&claim, 0, exhausted("late"))).await;
    assert_eq!(world.events(ids(&claim)[0]).await, ["created", "claimed", "reclaimed"]);
}

/// The times of a history are those of the database.
pub async fn times_are_the_databases(world: World) {
    world.advance(Duration::from_secs(1_000_000));
    let before = world.now().await.before(Duration::from_millis(1));
    let worker = world.worker_for(&[ORDER], LEASE).await;
    world.enqueue(1).await;
    let claim = worker.claim(1).await;
    world.settle_ok(&claim).await;
    let after = world.now().await;
    for step in world.history(ids(&claim)[0]).await {
        assert!(step.at >= before && step.at <= after.after(Duration::from_millis(1)), "{step:?}");
    }
}

/// However far apart the ids of a claim are, each finds it: its success, its history, and nothing of others.
pub async fn ids_far_apart_in_one_claim(world: World) {
    // The beginning and the end of time, and around now: a day, an hour, milliseconds, and the same millisecond.
    let now = MessageId::new().as_uuid().as_u128() >> 80 << 80;
    let millis = |apart: i128| now.wrapping_add_signed(apart << 80);
    let at =
        [0, 1 << 80, millis(-86_400_000), millis(-3_600_000), millis(-1), now, now + 1, millis(1), millis(17), u128::MAX - 1, u128::MAX];
    let worker = world.worker().await;
    // All in one claim; each in one of its own; two and two.
    for (round, members) in [(0, at.len()), (1, 1), (2, 2)] {
        // The same times under other ids.
        let far: Vec<MessageId> = at.into_iter().map(|id| MessageId::from_uuid(Uuid::from_u128(id ^ round << 8))).collect();
        for members in far.chunks(members) {
            world.enqueue_all(members.iter().map(|id| order().id(*id)).collect()).await;
            let claim = worker.claim(20).await;
            assert_eq!(claim.messages.len(), members.len());
            world.settle_ok(&claim).await;
        }
        for id in far {
            assert_eq!((world.status(id).await, path(&world, id).await), (Success, vec![Created, Handling, Success]), "{id}");
        }
    }
}
