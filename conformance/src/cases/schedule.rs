//! Delays: by the database's clock, and moved to ready when due.

use std::time::Duration;

use tickr_core::{Admin, Client, Due, Limits, Message, MessageId, NewMessage, Priority, Promoted, Status, Storage, Timestamp};

use crate::world::{ORDER, World, checked, each, failed_for, ids, order, these};

const MINUTE: Duration = Duration::from_secs(60);

/// A delayed message is CREATED, knows when it is due, and is not claimed before.
pub async fn delayed_message_waits(world: World) {
    let before = world.now().await;
    let id = world.put(order().after(MINUTE)).await;
    let after = world.now().await;
    let record = world.record(id).await;
    let due = record.due_at.expect("a due time");
    assert!(due >= before.after(MINUTE) && due <= after.after(MINUTE), "{due:?}");
    assert_eq!((record.status, record.stored.scheduled_at), (Status::Created, Some(due)));
    world.advance_secs(58);
    assert_eq!(world.promote().await, 0);
    assert!(world.worker().await.claim(10).await.messages.is_empty());
}

/// A message that is due is promoted and can be claimed.
pub async fn due_message_is_claimed(world: World) {
    let id = world.put(order().after(MINUTE)).await;
    world.advance_secs(61);
    assert_eq!(world.promote().await, 1);
    assert_eq!(world.record(id).await.due_at, None);
    assert_eq!(ids(&world.worker().await.claim(10).await), [id]);
}

/// A moment of the database's clock is kept to the precision of the database.
pub async fn moment_is_kept(world: World) {
    let at = world.now().await.after(MINUTE);
    let id = world.put(order().at(at)).await;
    let due = world.record(id).await.due_at.expect("a due time");
    let distance = due.since(at).max(at.since(due));
    assert!(distance <= world.capabilities().time_precision, "{at:?} {due:?}");
}

/// A moment that has passed is now.
pub async fn past_moment_is_now(world: World) {
    let id = world.put(order().at(world.now().await.before(MINUTE))).await;
    let record = world.record(id).await;
    assert_eq!((record.due_at, record.stored.scheduled_at), (None, None));
    assert_eq!(ids(&world.worker().await.claim(10).await), [id]);
}

/// A delay below a second is a delay.
pub async fn sub_second_delay_is_kept(world: World) {
    let before = world.now().await;
    let id = world.put(order().after(Duration::from_millis(700))).await;
    let due = world.record(id).await.stored.scheduled_at.expect("a due time");
    assert!(due >= before.after(Duration::from_millis(699)), "{before:?} {due:?}");
}

/// Delays count from the database's clock: one that is years away from the client's neither hastens nor hides a message.
pub async fn client_clock_years_off(world: World) {
    world.advance(Duration::from_secs(3 * 366 * 24 * 3_600));
    // Ids that this machine's clock makes are years older than the database's time.
    let delayed = world.put(order().after(MINUTE)).await;
    let ready = world.put(order()).await;
    let worker = world.worker().await;
    assert_eq!(ids(&worker.claim(10).await), [ready]);
    assert_eq!(world.promote().await, 0);
    world.advance_secs(61);
    assert_eq!(world.promote().await, 1);
    let fresh = world.worker().await;
    assert_eq!(ids(&fresh.claim(10).await), [delayed]);
    assert!(world.record(ready).await.stored.created_at > Timestamp::now().after(Duration::from_secs(2 * 366 * 24 * 3_600)));
}

/// A client makes its ids in the database's time, however far off its own clock is: the first of them, alone, in a batch and with a key.
pub async fn client_ids_are_in_database_time(world: World) {
    world.advance(Duration::from_secs(400 * 24 * 3_600));
    let client = Client::new(world.storage().clone());
    let before = world.now().await;
    let mut made = vec![client.enqueue(order()).await.unwrap().id()];
    made.push(client.enqueue(order().idempotency_key("k")).await.unwrap().id());
    made.extend(client.enqueue_all(vec![order(), order()]).await.unwrap().into_iter().map(|stored| stored.id()));
    let after = world.now().await;
    for id in made {
        // The first 48 bits of an id are milliseconds.
        let millis = u64::try_from(id.as_uuid().as_u128() >> 80).unwrap();
        let at = Timestamp::from_micros(i64::try_from(millis * 1_000).unwrap());
        assert!(at >= before.before(MINUTE) && at <= after.after(MINUTE), "{id} was made at {at}, between {before} and {after}");
    }
}

/// What is due is promoted in the order it was due, not in the order it was enqueued.
pub async fn promote_moves_due_in_order(world: World) {
    let mut sent: Vec<MessageId> = Vec::new();
    for secs in [50, 40, 30, 20, 10] {
        sent.push(world.put(order().after(Duration::from_secs(secs))).await);
    }
    world.advance_secs(35);
    assert_eq!(world.promote().await, 3);
    assert_eq!(ids(&world.worker().await.claim(10).await), [sent[4], sent[3], sent[2]]);
}

/// Promote says how long it is until the next message is due.
pub async fn promote_reports_next_due(world: World) {
    assert_eq!(world.storage().promote(10).await.unwrap(), Promoted::new(0));
    world.put(order().after(MINUTE)).await;
    world.put(order().after(10 * MINUTE)).await;
    let next = world.storage().promote(10).await.unwrap().next_due.expect("a next due time");
    assert!(next <= MINUTE && next > Duration::from_secs(20), "{next:?}");
    world.advance_secs(61);
    let promoted = world.storage().promote(10).await.unwrap();
    assert_eq!(promoted.moved, 1);
    let next = promoted.next_due.expect("a next due time");
    assert!(next <= 9 * MINUTE && next > 8 * MINUTE, "{next:?}");
}

/// Promote moves no more than it is told, and says when more are due already.
pub async fn promote_keeps_to_its_limit(world: World) {
    world.enqueue_all((0..5).map(|_| order().after(MINUTE)).collect()).await;
    world.advance_secs(61);
    let mut promoted = Promoted::new(3);
    promoted.next_due = Some(Duration::ZERO);
    assert_eq!(world.storage().promote(3).await.unwrap(), promoted);
    assert_eq!(world.storage().promote(3).await.unwrap(), Promoted::new(2));
}

/// A message that is scheduled behind a later one is promoted when it is due.
pub async fn earlier_message_scheduled_later_is_promoted(world: World) {
    world.put(order().after(10 * MINUTE)).await;
    world.storage().promote(10).await.unwrap();
    let soon = world.put(order().after(MINUTE)).await;
    world.advance_secs(61);
    world.promote().await;
    assert_eq!(ids(&world.worker().await.claim(10).await), [soon]);
}

/// A failed attempt is retried when its delay has passed, and not before.
pub async fn retry_waits_for_its_delay(world: World) {
    let (worker, claim) = world.claimed(1).await;
    let worker = worker.with_lease(Duration::from_secs(3_600));
    worker.register().await.unwrap();
    world.settle(each(&claim, &failed_for("boom", MINUTE))).await;
    world.advance_secs(58);
    assert_eq!((world.promote().await, worker.claim(10).await.messages.len()), (0, 0));
    world.advance_secs(3);
    assert_eq!((world.promote().await, worker.claim(10).await.messages[0].attempt), (1, 2));
}

/// Rescheduling moves a ready message to later and a scheduled one to now; attempt and lane stay.
pub async fn reschedule_moves_both_ways(world: World) {
    let id = world.put(order().priority(Priority::High)).await;
    let acted = world.storage().reschedule(&these(&[id]), Due::After(MINUTE)).await.unwrap();
    assert_eq!((acted.done, acted.missing), (vec![id], vec![]));
    assert!(world.record(id).await.due_at.is_some());
    assert!(world.worker().await.claim(10).await.messages.is_empty());
    world.enqueue(1).await;
    world.storage().reschedule(&these(&[id]), Due::Now).await.unwrap();
    assert_eq!(world.record(id).await.due_at, None);
    assert_eq!(ids(&world.worker().await.claim(10).await)[0], id);
}

/// What is ready already and shall run now keeps its place, and counts as done.
pub async fn ready_message_rescheduled_to_now_keeps_its_place(world: World) {
    let sent = world.enqueue(3).await;
    for id in [sent[2], sent[0]] {
        let acted = world.storage().reschedule(&these(&[id]), Due::Now).await.unwrap();
        assert_eq!((acted.done, acted.missing), (vec![id], vec![]));
    }
    assert_eq!(ids(&world.worker().await.claim(10).await), sent);
}

/// Running a retry now keeps its attempt.
pub async fn run_now_keeps_the_attempt(world: World) {
    let (worker, claim) = world.claimed(1).await;
    world.settle(each(&claim, &failed_for("boom", MINUTE))).await;
    let id = ids(&claim)[0];
    world.storage().reschedule(&these(&[id]), Due::Now).await.unwrap();
    assert_eq!(world.state(id).await, (Status::Retrying, 1));
    assert_eq!(worker.claim(1).await.messages[0].attempt, 2);
}

/// A scheduled message can be moved to another moment.
pub async fn reschedule_changes_the_moment(world: World) {
    let id = world.put(order().after(MINUTE)).await;
    world.storage().reschedule(&these(&[id]), Due::After(10 * MINUTE)).await.unwrap();
    world.advance_secs(61);
    assert_eq!(world.promote().await, 0);
    world.advance_secs(540);
    assert_eq!(world.promote().await, 1);
}

/// Rescheduling a leased, finished, dead or unknown message does nothing and says so.
pub async fn reschedule_reports_what_does_not_wait(world: World) {
    let (worker, claim) = world.claimed(2).await;
    let leased = ids(&claim);
    world.settle(crate::world::ok(&claim, [0])).await;
    let dead = world.dead(order()).await;
    let asked = [leased[0], leased[1], dead, MessageId::new()];
    let acted = world.storage().reschedule(&these(&asked), Due::Now).await.unwrap();
    assert_eq!((acted.done, acted.missing), (vec![], asked.to_vec()));
    assert!(worker.claim(10).await.messages.is_empty());
}

/// A filter reschedules what is scheduled, oldest first.
pub async fn reschedule_by_filter_takes_the_scheduled(world: World) {
    let sent = world.enqueue_all((0..3).map(|_| order().after(MINUTE)).collect()).await;
    let other = world.put(Message::new("other", "").after(MINUTE)).await;
    let filter = tickr_core::Selection::event_type(ORDER).limit(2);
    let acted = world.storage().reschedule(&filter, Due::Now).await.unwrap();
    assert_eq!((acted.done, acted.missing), (sent[..2].to_vec(), vec![]));
    assert!(world.record(sent[2]).await.due_at.is_some() && world.record(other).await.due_at.is_some());
}

/// A filter of no type reschedules the oldest of all types first.
pub async fn reschedule_by_filter_takes_the_oldest_of_all_types(world: World) {
    let later = |name: &str| Message::new(name, "").after(MINUTE);
    let sent = world.enqueue_all(vec![later("b"), later("b"), later("a"), later("a")]).await;
    let acted = world.storage().reschedule(&tickr_core::Selection::all().limit(2), Due::Now).await.unwrap();
    assert_eq!(acted.done, sent[..2]);
}

/// A batch may mix messages for now and for later.
pub async fn batch_mixes_now_and_later(world: World) {
    let sent = world.enqueue_all(vec![order(), order().after(MINUTE), order()]).await;
    assert_eq!(ids(&world.worker().await.claim(10).await), [sent[0], sent[2]]);
}

/// A message may be due years ahead.
pub async fn far_future_is_kept(world: World) {
    let years = Duration::from_secs(9 * 366 * 24 * 3_600);
    let id = world.put(order().after(years)).await;
    assert!(world.record(id).await.due_at.expect("a due time") > world.now().await.after(years - MINUTE));
    let limits = Limits::default();
    assert!(NewMessage::check(order().after(2 * years), MessageId::new(), &limits).is_err(), "beyond the limit nothing is made");
    let _within = checked(order().after(years));
}
