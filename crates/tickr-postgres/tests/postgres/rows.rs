//! One stored row that cannot be read affects its own message only.

use tickr_core::protocol::Lane;
use tickr_core::{
    Admin, ClaimRequest, DeadQuery, EventType, Finding, LaneRequest, Limits, ListQuery, Message, MessageId, NewMessage, PurgeRequest,
    ReclaimRequest, Registration, StatsRequest, Status, Storage, Token, WorkerId,
};
use tickr_postgres::PostgresStorage;
use tickr_postgres::tokio_postgres::Client;

use super::support::{Database, ORDER, Ran, message, secs, sound, worker};

/// Fifty messages with a value in every column that may have one.
async fn fifty(storage: &PostgresStorage) -> Vec<MessageId> {
    let full = |n: usize| {
        let message = Message::new(ORDER, n.to_string()).header("h", "v").content_type("text/plain").idempotency_key(format!("key {n}"));
        let message = message.ordering_key("o").tenant("t").organisation("g").correlation_id("c");
        NewMessage::check(message, MessageId::new(), &Limits::default()).unwrap()
    };
    let batch: Vec<_> = (0..50).map(full).collect();
    storage.enqueue(&batch).await.unwrap();
    batch.iter().map(NewMessage::id).collect()
}

async fn damage(client: &Client, table: &str, set: &str, id: MessageId) {
    let done = client.execute(&format!("UPDATE {table} SET {set} WHERE id = '{id}'"), &[]).await.unwrap();
    assert_eq!(done, 1, "{set}");
}

/// 49 succeed, one is dead and says which column, every list answers; then the queue is emptied for the next column.
async fn costs_its_own_message_only(storage: &PostgresStorage, client: &Client, table: &str, set: &str, column: &str) {
    let ids = fifty(storage).await;
    damage(client, table, set, ids[20]).await;
    assert_eq!(storage.list(&ListQuery::default()).await.unwrap().items.len(), 50, "{set}");
    let ran = Ran::default();
    worker(storage, &ran).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(ran.count(), 49, "{set}");
    for record in storage.list(&ListQuery::default()).await.unwrap().items {
        let bad = record.stored.id == ids[20];
        assert_eq!(record.status, if bad { Status::Dead } else { Status::Success }, "{set}");
        assert_eq!(record.unreadable.is_some(), bad && table == "tickr_messages", "{set}");
    }
    assert!(storage.get(ids[20]).await.unwrap().is_some(), "{set}");
    assert!(!storage.history(ids[20]).await.unwrap().is_empty(), "{set}");
    let letters = storage.list_dead(&DeadQuery::default()).await.unwrap().items;
    let [letter] = &letters[..] else { panic!("{set}: {letters:?}") };
    assert!(letter.reason.contains(column), "{set}: {}", letter.reason);
    assert_eq!(storage.stats(&StatsRequest::default()).await.unwrap().total(Status::Dead).n, 1, "{set}");
    assert_eq!(storage.audit().await.unwrap().findings, [], "{set}");
    let empty = "TRUNCATE tickr_messages, tickr_dead, tickr_dedupe, tickr_open_claims, tickr_claims, tickr_settlements, tickr_transitions";
    client.batch_execute(empty).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_column_costs_its_own_message_only() {
    let (database, storage) = Database::migrated().await;
    let client = database.client().await;
    for (table, set, column) in [
        ("tickr_messages", "headers = '{\"retries\": 3}'", "headers"),
        ("tickr_messages", "headers = '[]'", "headers"),
        ("tickr_messages", "priority = 9", "priority"),
        ("tickr_messages", "priority = -1", "priority"),
        ("tickr_messages", "max_attempts = 0", "max_attempts"),
        ("tickr_messages", "max_attempts = 65536", "max_attempts"),
        ("tickr_messages", "max_attempts = -2147483648", "max_attempts"),
        ("tickr_ready", "attempt = -2", "attempt"),
        ("tickr_ready", "attempt = 2147483647", "attempt"),
        ("tickr_ready", "crashes = -1", "crashes"),
    ] {
        costs_its_own_message_only(&storage, &client, table, set, column).await;
    }
}

async fn register(storage: &PostgresStorage) -> WorkerId {
    let worker = WorkerId::new();
    let types = vec![EventType::new(ORDER).unwrap()];
    storage.register(&Registration::new(worker, "test", types, secs(600))).await.unwrap();
    worker
}

fn request(worker: WorkerId, total: u32) -> ClaimRequest {
    let event_type = EventType::new(ORDER).unwrap();
    let group = LaneRequest::new(event_type, Lane::ORDINARY.to_vec(), total, 10);
    ClaimRequest::new(worker, "test", Token::new(), vec![group], total)
}

/// What waits in a lane that there is not is claimed once it moved; a due time without end stops no empty claim.
#[tokio::test(flavor = "multi_thread")]
async fn scheduled_rows_with_odd_values_stop_nobody() {
    let (database, storage) = Database::migrated().await;
    let client = database.client().await;
    let later = |body: &str| {
        NewMessage::check(Message::new(ORDER, body.to_owned()).after(secs(3_600)), MessageId::new(), &Limits::default()).unwrap()
    };
    let batch = [later("due"), later("never")];
    storage.enqueue(&batch).await.unwrap();
    damage(&client, "tickr_scheduled", "lane = 77, process_at = now() - INTERVAL '1 second'", batch[0].id()).await;
    damage(&client, "tickr_scheduled", "process_at = 'infinity'", batch[1].id()).await;
    assert_eq!(storage.promote(10).await.unwrap().moved, 1);
    let worker = register(&storage).await;
    assert_eq!(storage.claim(&request(worker, 10)).await.unwrap().messages.len(), 1);
    assert!(storage.claim(&request(worker, 10)).await.unwrap().messages.is_empty());
    assert!(storage.get(batch[1].id()).await.unwrap().unwrap().due_at.is_some());
    client.execute("UPDATE tickr_messages SET priority = 9", &[]).await.unwrap();
    storage.kill(&batch.iter().map(NewMessage::id).collect(), "not wanted").await.unwrap();
    storage.requeue(&batch[1].id().into(), tickr_core::Due::Now).await.unwrap();
    assert_eq!(storage.claim(&request(worker, 10)).await.unwrap().messages.len(), 1, "in a lane that claims look into");
}

/// A fence or a list of types that does not fit its claim stops neither the reclaim nor the counts of others.
#[tokio::test]
async fn message_in_two_places_stops_no_other() {
    let (database, storage) = Database::migrated().await;
    let client = database.client().await;
    tickr_core::Client::new(storage.clone()).enqueue_all((0..20).map(|_| message("1").after(secs(3_600)))).await.unwrap();
    let ready = async || -> i64 { client.query_one("SELECT count(*) FROM tickr_ready", &[]).await.unwrap().get(0) };
    let double = "INSERT INTO tickr_ready (event_type, lane, id, attempt, crashes)
                  SELECT 'order', 2, id, 0, 0 FROM tickr_messages ORDER BY id LIMIT 1";
    client.batch_execute(double).await.unwrap();
    client.batch_execute("UPDATE tickr_scheduled SET process_at = now()").await.unwrap();
    assert_eq!((storage.promote(100).await.unwrap().moved, ready().await), (20, 20));
    let dying = register(&storage).await;
    assert_eq!(storage.claim(&request(dying, 20)).await.unwrap().messages.len(), 20);
    client.batch_execute(double).await.unwrap();
    client.batch_execute("UPDATE tickr_workers SET expires_at = now() - INTERVAL '1 hour'").await.unwrap();
    assert_eq!(storage.reclaim(&ReclaimRequest::condemning(10)).await.unwrap().messages.len(), 20);
    assert_eq!(ready().await, 20);
    let leaving = register(&storage).await;
    assert_eq!(storage.claim(&request(leaving, 20)).await.unwrap().messages.len(), 20);
    client.batch_execute(double).await.unwrap();
    storage.retire(leaving, "test").await.unwrap();
    assert_eq!(ready().await, 20);
    sound(&storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_claim_stops_no_other() {
    let (database, storage) = Database::migrated().await;
    let client = database.client().await;
    let ids = fifty(&storage).await;
    let owner = register(&storage).await;
    let claims = [
        storage.claim(&request(owner, 10)).await.unwrap(),
        storage.claim(&request(owner, 10)).await.unwrap(),
        storage.claim(&request(owner, 10)).await.unwrap(),
    ];
    let token = |at: usize| claims[at].token;
    client.execute(&format!("UPDATE tickr_open_claims SET settled = B'000' WHERE token = '{}'", token(0)), &[]).await.unwrap();
    client
        .execute(&format!("UPDATE tickr_claims SET event_types = '{{NULL}}', maxes = '{{-2147483648}}' WHERE token = '{}'", token(1)), &[])
        .await
        .unwrap();
    assert_eq!(storage.list(&ListQuery::default().status(Status::Handling)).await.unwrap().items.len(), 20);
    storage.stats(&StatsRequest::default()).await.unwrap();
    assert!(storage.get(ids[45]).await.unwrap().is_some());
    storage.audit().await.unwrap();
    assert_eq!(storage.adopt(token(1)).await.unwrap().unwrap().messages.len(), 10);
    client.execute("UPDATE tickr_workers SET expires_at = now() - INTERVAL '1 hour'", &[]).await.unwrap();
    let reclaimed = storage.reclaim(&ReclaimRequest::condemning(2)).await.unwrap();
    assert_eq!((reclaimed.claims, reclaimed.messages.len()), (2, 20));
    assert!(reclaimed.messages.iter().all(|message| message.event_type.as_str() == ORDER));
}

/// A claim whose worker was deleted without foreign keys is reported by an audit, and taken back after the next purge.
#[tokio::test]
async fn claim_without_its_worker_is_taken_back() {
    let (database, storage) = Database::migrated().await;
    let client = database.client().await;
    fifty(&storage).await;
    let claim = storage.claim(&request(register(&storage).await, 10)).await.unwrap();
    client.batch_execute("SET session_replication_role = replica; DELETE FROM tickr_workers").await.unwrap();
    assert_eq!(storage.audit().await.unwrap().findings, [Finding::Unowned(claim.token)]);
    storage.purge(&PurgeRequest::default()).await.unwrap();
    let reclaimed = storage.reclaim(&ReclaimRequest::new(10)).await.unwrap();
    assert_eq!((reclaimed.claims, reclaimed.messages.len()), (1, 10));
    sound(&storage).await;
    assert!(storage.workers().await.unwrap().is_empty());
}

/// A NULL among the types of a worker, or an outcome that nobody knows, hides nothing.
#[tokio::test(flavor = "multi_thread")]
async fn unreadable_registration_and_outcome_hide_nothing() {
    let (database, storage) = Database::migrated().await;
    let client = database.client().await;
    let ids = fifty(&storage).await;
    let owner = register(&storage).await;
    client.execute("UPDATE tickr_workers SET event_types = ARRAY[NULL, 'other']", &[]).await.unwrap();
    assert_eq!(storage.workers().await.unwrap()[0].event_types.len(), 1);
    assert!(storage.stats(&StatsRequest::default()).await.unwrap().types[0].unserved);
    let claim = storage.claim(&request(owner, 1)).await.unwrap();
    storage.kill(&ids[0].into(), "not wanted").await.unwrap();
    client.execute("UPDATE tickr_transitions SET outcome = 'postponed'", &[]).await.unwrap();
    client.execute("UPDATE tickr_settlements SET outcome = 'postponed'", &[]).await.unwrap();
    let steps: Vec<_> = storage.history(ids[0]).await.unwrap().iter().map(|step| step.event).collect();
    assert_eq!(steps, ["created", "claimed"], "{claim:?}");
}
