//! The trickiest rules; the conformance suite checks all of them.

use std::time::Duration;

use super::*;
use crate::bits::Bits;
use crate::door::Random;
use crate::error::{ErrorKind, Retry};
use crate::event_type::EventType;
use crate::limits::Limits;
use crate::message::{Due, Message};
use crate::protocol::Lane;
use crate::status::Status;
use crate::storage::{
    Admin, BodyFault, ClaimedMessage, EnqueueIn, Finding, InspectIn, LaneRequest, ListQuery, Retention, Selection, SettleOutcome,
    SettledMember,
};

const LEASE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3_600);

fn new(message: Message) -> NewMessage {
    NewMessage::check(message, MessageId::new(), &Limits::default()).unwrap()
}

fn keyed(key: &str) -> NewMessage {
    new(Message::new("a", "x").idempotency_key(key))
}

fn event_type() -> EventType {
    EventType::new("a").unwrap()
}

async fn worker(storage: &MemoryStorage) -> WorkerId {
    let worker = WorkerId::new();
    let registration = Registration::new(worker, "w", vec![event_type()], LEASE);
    storage.register(&registration).await.unwrap();
    worker
}

fn ask(worker: WorkerId, total: u32, solo: bool) -> ClaimRequest {
    let lanes = if solo { vec![Lane::Suspect] } else { Lane::ORDINARY.to_vec() };
    let group = LaneRequest::new(event_type(), lanes, total, 3);
    ClaimRequest { worker, worker_name: "w".into(), token: Token::new(), groups: vec![group], total, solo }
}

async fn claim(storage: &MemoryStorage, worker: WorkerId, total: u32) -> Claim {
    storage.claim(&ask(worker, total, false)).await.unwrap()
}

fn member(message: &ClaimedMessage, outcome: SettleOutcome) -> SettledMember {
    SettledMember {
        index: message.index,
        id: message.id,
        event_type: message.event_type.clone(),
        priority: message.priority(),
        attempt: message.attempt,
        crashes: message.crashes,
        outcome,
    }
}

fn success(claim: &Claim, indices: impl IntoIterator<Item = u32>) -> Settlement {
    let mut settlement = Settlement::new(claim.token, claim.members);
    settlement.succeeded = Bits::from_indices(claim.members, indices);
    settlement
}

fn dead(claim: &Claim, index: usize) -> Settlement {
    let mut settlement = Settlement::new(claim.token, claim.members);
    settlement.others.push(member(&claim.messages[index], SettleOutcome::Dead { error: "boom".into() }));
    settlement
}

async fn status(storage: &MemoryStorage, id: MessageId) -> Status {
    storage.get(id).await.unwrap().unwrap().status
}

async fn sound(storage: &MemoryStorage) {
    assert_eq!(storage.audit().await.unwrap().findings, []);
}

fn set(bits: &Bits) -> Vec<u32> {
    bits.iter().collect()
}

#[tokio::test]
async fn settle_tells_applied_already_and_lost_apart_also_after_the_close() {
    let storage = MemoryStorage::new();
    let batch: Vec<_> = (0..3).map(|_| keyed(&Token::new().to_string())).collect();
    storage.enqueue(&batch).await.unwrap();
    let held = worker(&storage).await;
    let claim = claim(&storage, held, 10).await;
    storage.kill(&Selection::from(batch[1].id()), "no").await.unwrap();
    let answers = storage.settle(&[success(&claim, [0]), success(&claim, [1, 2])]).await.unwrap();
    assert_eq!((set(&answers[0].applied), set(&answers[1].applied), set(&answers[1].lost)), (vec![0], vec![2], vec![1]));
    assert!(storage.adopt(claim.token).await.unwrap().is_none());
    let again = storage.settle(&[success(&claim, [0, 1, 2])]).await.unwrap();
    assert_eq!((set(&again[0].already), set(&again[0].lost)), (vec![0, 2], vec![1]));
    let twice = storage.settle(&[success(&claim, [0]), success(&claim, [0])]).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Config);
    sound(&storage).await;
}

#[tokio::test]
async fn a_poison_message_dies_alone() {
    let storage = MemoryStorage::new();
    let batch = [keyed("poison"), keyed("neighbour")];
    storage.enqueue(&batch).await.unwrap();
    let crash = ReclaimRequest::condemning(10);
    for _ in 0..2 {
        let held = worker(&storage).await;
        assert_eq!(claim(&storage, held, 10).await.members, 2);
        storage.clock_offset().advance(LEASE);
        let reclaimed = storage.reclaim(&crash).await.unwrap();
        assert_eq!((reclaimed.condemned, reclaimed.claims, reclaimed.messages.len()), (1, 1, 2));
        assert!(storage.workers().await.unwrap().is_empty());
    }
    let held = worker(&storage).await;
    assert_eq!(claim(&storage, held, 10).await.members, 0, "suspects are no ordinary work");
    let mut suspect = storage.claim(&ask(held, 1, true)).await.unwrap();
    while suspect.messages[0].id != batch[0].id() {
        storage.settle(&[success(&suspect, [0])]).await.unwrap();
        suspect = storage.claim(&ask(held, 1, true)).await.unwrap();
    }
    assert_eq!((suspect.solo, suspect.messages[0].attempt), (true, 3));
    storage.clock_offset().advance(LEASE);
    assert!(storage.reclaim(&crash).await.unwrap().messages[0].dead);
    let held = worker(&storage).await;
    let neighbour = storage.claim(&ask(held, 1, true)).await.unwrap();
    storage.settle(&[success(&neighbour, [0])]).await.unwrap();
    assert_eq!(status(&storage, batch[0].id()).await, Status::Dead);
    assert_eq!(status(&storage, batch[1].id()).await, Status::Success);
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_worker_claims_nothing_but_lives_again_until_it_is_condemned() {
    let storage = MemoryStorage::builder().clock(Clock::runtime()).build();
    storage.enqueue(&[keyed("k"), keyed("l")]).await.unwrap();
    let held = worker(&storage).await;
    assert_eq!(claim(&storage, held, 1).await.members, 1);
    storage.clock_offset().advance(LEASE);
    assert_eq!(claim(&storage, held, 1).await.members, 0);
    let beat = Heartbeat::new(held, LEASE);
    assert_eq!(storage.heartbeat(&beat).await.unwrap().open.len(), 1);
    assert_eq!(claim(&storage, held, 1).await.members, 1);
    storage.clock_offset().advance(LEASE);
    storage.reclaim(&ReclaimRequest::condemning(1)).await.unwrap();
    assert_eq!(storage.heartbeat(&beat).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let again = Registration::new(held, "w", Vec::new(), LEASE);
    assert_eq!(storage.register(&again).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(storage.retire(held, "late").await.unwrap().released, 1);
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn a_requeued_message_is_kept_from_its_success_and_its_proof_outlives_it() {
    let storage = MemoryStorage::builder().clock(Clock::runtime()).build();
    let message = keyed("k");
    storage.enqueue(std::slice::from_ref(&message)).await.unwrap();
    let held = worker(&storage).await;
    let first = claim(&storage, held, 1).await;
    storage.settle(&[dead(&first, 0)]).await.unwrap();
    assert_eq!(storage.requeue(&Selection::from(message.id()), Due::Now).await.unwrap().done, [message.id()]);
    let second = claim(&storage, held, 1).await;
    storage.settle(&[success(&second, [0])]).await.unwrap();
    let events: Vec<_> = storage.history(message.id()).await.unwrap().iter().map(|step| step.event).collect();
    assert_eq!(events, ["created", "claimed", "dead", "requeued", "claimed", "ok"]);

    let purge = PurgeRequest::default().retention(Retention::default().dead(None).success(HOUR).history(Some(2 * HOUR))).limit(10);
    storage.clock_offset().advance(HOUR / 2);
    assert_eq!(storage.purge(&purge).await.unwrap(), Purged::default());
    storage.clock_offset().advance(HOUR);
    assert_eq!(storage.purge(&purge).await.unwrap(), Purged { bodies: 1, ..Purged::default() });
    sound(&storage).await;
    storage.clock_offset().advance(HOUR);
    // Two claims, their settlements, and the transitions of death and return.
    assert_eq!(storage.purge(&purge).await.unwrap(), Purged { journal: 6, ..Purged::default() });
    assert!(storage.history(message.id()).await.unwrap().is_empty());
    assert!(storage.enqueue(&[keyed("k")]).await.unwrap()[0].is_duplicate(), "the key has a retention of its own");
    storage.clock_offset().advance(8 * 24 * HOUR);
    assert_eq!(storage.purge(&purge).await.unwrap().keys, 1);
    sound(&storage).await;
}

#[tokio::test]
async fn a_journal_stays_while_a_limit_keeps_bodies_that_it_proves() {
    let storage = MemoryStorage::new();
    let batch: Vec<_> = (0..5).map(|_| new(Message::new("a", "x"))).collect();
    storage.enqueue(&batch).await.unwrap();
    let held = worker(&storage).await;
    let claim = claim(&storage, held, 5).await;
    storage.settle(&[success(&claim, 0..5)]).await.unwrap();
    storage.clock_offset().advance(2 * HOUR);
    let retention = Retention::default().dead(None).history(Some(HOUR)).success(HOUR);
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let purged = storage.purge(&PurgeRequest::default().retention(retention).limit(2)).await.unwrap();
        bodies.push((purged.bodies, purged.journal, purged.more));
        sound(&storage).await;
    }
    assert_eq!(bodies, [(2, 0, true), (2, 0, true), (1, 2, false)]);
}

#[tokio::test]
async fn an_id_that_is_enqueued_again_after_its_purge_is_a_new_message() {
    let storage = MemoryStorage::new();
    let message = new(Message::new("a", "x"));
    let held = worker(&storage).await;
    storage.enqueue(std::slice::from_ref(&message)).await.unwrap();
    let claim = claim(&storage, held, 1).await;
    storage.settle(&[success(&claim, [0])]).await.unwrap();
    storage.clock_offset().advance(2 * HOUR);
    let purge = PurgeRequest::default().retention(Retention::default().success(HOUR)).limit(10);
    assert_eq!(storage.purge(&purge).await.unwrap().bodies, 1);
    storage.enqueue(std::slice::from_ref(&message)).await.unwrap();
    assert_eq!(storage.purge(&purge).await.unwrap().bodies, 0);
    assert_eq!(status(&storage, message.id()).await, Status::Created);
    sound(&storage).await;
}

#[tokio::test]
async fn the_audit_names_what_was_sabotaged() {
    let storage = MemoryStorage::new();
    let batch = [keyed("k"), keyed("l")];
    storage.enqueue(&batch).await.unwrap();
    assert!(storage.sabotage_ready(batch[0].id()) && storage.sabotage_body(batch[1].id()));
    let findings = storage.audit().await.unwrap().findings;
    assert_eq!(findings, [Finding::Lost(batch[0].id()), Finding::MissingBody(batch[1].id())]);
    assert_eq!(storage.get(batch[0].id()).await.unwrap_err().kind(), ErrorKind::Corrupt);
    let held = worker(&storage).await;
    let claim = claim(&storage, held, 1).await;
    assert_eq!(claim.messages[0].body, Err(BodyFault::Missing));
    storage.settle(&[dead(&claim, 0)]).await.unwrap();
}

#[tokio::test]
async fn the_audit_names_a_message_that_is_in_two_places() {
    let storage = MemoryStorage::new();
    let message = keyed("k");
    storage.enqueue(std::slice::from_ref(&message)).await.unwrap();
    let now = storage.now().await.unwrap();
    storage.lock().bury(now, message.id(), event_type(), 1, "boom".into());
    let doubled = Finding::Doubled { id: message.id(), places: vec!["ready", "dead"] };
    assert_eq!(storage.audit().await.unwrap().findings, std::slice::from_ref(&doubled));
    assert!(storage.sabotage_body(message.id()));
    assert_eq!(storage.audit().await.unwrap().findings, [Finding::MissingBody(message.id()), doubled]);
}

#[tokio::test]
async fn messages_exist_iff_the_transaction_commits() {
    let storage = MemoryStorage::new();
    let (kept, undone, nested) = (keyed("kept"), keyed("undone"), keyed("nested"));
    let mut tx = storage.begin().await;
    storage.enqueue_in(&mut tx, std::slice::from_ref(&kept)).await.unwrap();
    let mut savepoint = tx.savepoint().await;
    storage.enqueue_in(&mut savepoint, std::slice::from_ref(&undone)).await.unwrap();
    savepoint.rollback().await;
    let mut savepoint = tx.savepoint().await;
    let answers = storage.enqueue_in(&mut savepoint, &[keyed("undone"), keyed("kept"), nested.clone()]).await.unwrap();
    assert_eq!(answers[1], Enqueued::Duplicate { existing: kept.id() });
    savepoint.commit().await.unwrap();
    assert_eq!(storage.messages_in(&mut tx, "a").await.unwrap().len(), 3);
    assert!(storage.list(&ListQuery::default()).await.unwrap().items.is_empty());
    tx.commit().await.unwrap();
    assert_eq!(storage.list(&ListQuery::default()).await.unwrap().items.len(), 3);
    let mut tx = storage.begin().await;
    storage.enqueue_in(&mut tx, &[keyed("dropped")]).await.unwrap();
    drop(tx);
    assert!(storage.get(undone.id()).await.unwrap().is_none());
    assert_eq!(storage.list(&ListQuery::default()).await.unwrap().items.len(), 3);
    let other = MemoryStorage::new();
    assert_eq!(other.enqueue_in(&mut storage.begin().await, &[keyed("k")]).await.unwrap_err().kind(), ErrorKind::Config);
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_waits_for_the_open_first() {
    for commit in [true, false] {
        let storage = MemoryStorage::builder().clock(Clock::runtime()).build();
        let (first, second) = (keyed("k"), keyed("k"));
        let mut tx = storage.begin().await;
        storage.enqueue_in(&mut tx, std::slice::from_ref(&first)).await.unwrap();
        let finish = async {
            crate::door::clock::sleep(Duration::from_secs(1)).await;
            if commit { tx.commit().await.unwrap() } else { tx.rollback().await }
        };
        let batch = [second.clone()];
        let (answers, ()) = tokio::join!(storage.enqueue(&batch), finish);
        assert_eq!(answers.unwrap()[0].is_duplicate(), commit);
        sound(&storage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_ends_frees_its_own_ids_and_keys_only() {
    let storage = MemoryStorage::builder().clock(Clock::runtime()).build();
    let (mine, other) = (keyed("mine"), new(Message::new("a", "x")));
    let (mut ends, mut stays) = (storage.begin().await, storage.begin().await);
    storage.enqueue_in(&mut ends, std::slice::from_ref(&mine)).await.unwrap();
    storage.enqueue_in(&mut stays, std::slice::from_ref(&other)).await.unwrap();
    ends.rollback().await;
    assert_eq!(storage.enqueue(std::slice::from_ref(&mine)).await.unwrap(), [Enqueued::Stored { id: mine.id() }]);
    let held = storage.enqueue(std::slice::from_ref(&other)).await.unwrap_err();
    assert_eq!(held.kind(), ErrorKind::Unavailable, "the same id, of a transaction that is still open");
    stays.commit().await.unwrap();
    assert_eq!(storage.enqueue(std::slice::from_ref(&other)).await.unwrap(), [Enqueued::Stored { id: other.id() }]);
    assert_eq!(storage.list(&ListQuery::default()).await.unwrap().items.len(), 2);
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn crossing_keys_refuse_one_transaction_and_the_other_goes_on() {
    let storage = MemoryStorage::builder().clock(Clock::runtime()).build();
    let (mut one, mut two) = (storage.begin().await, storage.begin().await);
    storage.enqueue_in(&mut one, &[keyed("k")]).await.unwrap();
    storage.enqueue_in(&mut two, &[keyed("l")]).await.unwrap();
    let (l, k) = ([keyed("l")], [keyed("k")]);
    let crossed = async {
        let error = storage.enqueue_in(&mut two, &k).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Conflict, Retry::Transaction));
        assert_eq!(two.commit().await.unwrap_err().retry(), Retry::Transaction);
    };
    let (answers, ()) = tokio::join!(storage.enqueue_in(&mut one, &l), crossed);
    assert!(!answers.unwrap()[0].is_duplicate());
    // Nobody ends `one`: what wants its key gives up.
    let error = storage.enqueue(&k).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Operation));
    one.commit().await.unwrap();
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_due_moves_with_paused_time() {
    let storage = MemoryStorage::builder().clock(Clock::runtime()).build();
    storage.enqueue(&[new(Message::new("a", "x").after(HOUR))]).await.unwrap();
    assert_eq!(storage.promote(10).await.unwrap(), Promoted { moved: 0, next_due: Some(HOUR) });
    tokio::time::advance(HOUR).await;
    assert_eq!(storage.promote(0).await.unwrap(), Promoted { moved: 0, next_due: Some(Duration::ZERO) });
    assert_eq!(storage.promote(10).await.unwrap(), Promoted::new(1));
}

/// Random operations of several workers; every table agrees with every other one after each of them.
#[tokio::test]
async fn random_operations_keep_the_invariants() {
    for seed in 0..20 {
        let random = Random::seeded(seed);
        let below = |n: u32| (random.unit() * f64::from(n)) as u32;
        let storage = MemoryStorage::new();
        let (mut workers, mut claims, mut ids) = (Vec::new(), Vec::<Claim>::new(), Vec::new());
        for _ in 0..400 {
            match below(12) {
                0..=1 => {
                    let delay = Duration::from_secs(u64::from(below(2) * 5));
                    let batch: Vec<_> =
                        (0..below(6)).map(|_| new(Message::new("a", "x").after(delay).idempotency_key(below(99).to_string()))).collect();
                    ids.extend(batch.iter().map(NewMessage::id));
                    storage.enqueue(&batch).await.unwrap();
                }
                2 => workers.push(worker(&storage).await),
                3..=4 if !workers.is_empty() => {
                    let solo = below(3) == 0;
                    let by = workers[below(workers.len() as u32) as usize];
                    claims.push(storage.claim(&ask(by, if solo { 1 } else { 1 + below(5) }, solo)).await.unwrap());
                }
                5..=6 if !claims.is_empty() => {
                    let claim = &claims[below(claims.len() as u32) as usize];
                    let mut settlement = Settlement::new(claim.token, claim.members);
                    for message in &claim.messages {
                        let (error, delay) = ("boom".to_owned(), Duration::from_secs(u64::from(below(2) * 7)));
                        match below(8) {
                            0..=2 => _ = settlement.succeeded.insert(message.index),
                            3 => settlement.others.push(member(message, SettleOutcome::Failed { error, delay })),
                            4 => settlement.others.push(member(message, SettleOutcome::Exhausted { error })),
                            5 => settlement.others.push(member(message, SettleOutcome::Snoozed { delay })),
                            6 => settlement.others.push(member(message, SettleOutcome::Released { reason: error })),
                            _ => {}
                        }
                    }
                    storage.settle(&[settlement]).await.unwrap();
                }
                7 if !ids.is_empty() => {
                    let id = ids[below(ids.len() as u32) as usize];
                    match below(4) {
                        0 => storage.kill(&id.into(), "no").await.unwrap(),
                        1 => storage.requeue(&id.into(), Due::After(Duration::from_secs(u64::from(below(2))))).await.unwrap(),
                        2 => storage.reschedule(&id.into(), Due::After(Duration::from_secs(3))).await.unwrap(),
                        _ => storage.discard(&id.into()).await.unwrap(),
                    };
                }
                8 => _ = storage.promote(below(5)).await.unwrap(),
                9 => {
                    storage.clock_offset().advance(Duration::from_secs(u64::from(below(12))));
                    storage.reclaim(&ReclaimRequest { condemn: below(2) == 0, limit: 1 + below(3) }).await.unwrap();
                }
                10 => {
                    let retention = Retention::default().dead(Some(HOUR / 60)).history(Some(HOUR / 60)).success(HOUR / 120);
                    storage.purge(&PurgeRequest::default().retention(retention).limit(1 + below(9))).await.unwrap();
                }
                _ if !workers.is_empty() && below(4) == 0 => {
                    storage.retire(workers.swap_remove(below(workers.len() as u32) as usize), "bye").await.map(drop).unwrap();
                }
                _ => {}
            }
            assert_eq!(storage.audit().await.unwrap().findings, [], "seed {seed}");
            check_indexes(&storage);
        }
    }
}

fn check_indexes(storage: &MemoryStorage) {
    let state = storage.lock();
    assert!(state.ready.len() == state.ready_ids.len() && state.ready.iter().all(|(key, row)| state.ready_ids[&row.id] == *key));
    assert!(
        state.scheduled.len() == state.scheduled_ids.len() && state.scheduled.iter().all(|(key, row)| state.scheduled_ids[&row.id] == *key)
    );
    assert_eq!(state.settlements.len(), state.settlements_of.values().map(Vec::len).sum::<usize>());
    assert_eq!(state.transitions.len(), state.transitions_of.values().map(Vec::len).sum::<usize>());
    assert_eq!(state.claims.len(), state.claims_order.len());
    let members: usize = state.claims.values().map(|claim| claim.members.len()).sum();
    assert_eq!(members, state.claims_of.values().map(Vec::len).sum::<usize>());
    assert_eq!(state.dedupe.len(), state.dedupe_order.len());
    // What was purged leaves nothing behind.
    assert!(state.claims_of.values().all(|claims| !claims.is_empty()));
    assert!(state.transitions_of.values().all(|numbers| !numbers.is_empty()));
}
