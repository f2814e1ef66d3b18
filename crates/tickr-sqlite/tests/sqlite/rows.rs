//! One stored row that cannot be read affects its own message only.

use tickr_core::{
    Admin, BodyFault, DeadQuery, Finding, ListQuery, Message, MessageId, ReclaimRequest, StatsRequest, Status, Storage, Worker,
};
use tickr_sqlite::SqliteStorage;

use crate::{Database, ORDER, checked, request, worker};

/// Fifty messages with a value in every column that may have one.
async fn fifty() -> (Database, SqliteStorage, Vec<MessageId>) {
    let (database, storage) = Database::migrated().await;
    let full = |n: usize| {
        let message = Message::new(ORDER, n.to_string()).header("h", "v").content_type("text/plain").idempotency_key(format!("key {n}"));
        checked(message.ordering_key("o").tenant("t").organisation("g").correlation_id("c"))
    };
    let batch: Vec<_> = (0..50).map(full).collect();
    storage.enqueue(&batch).await.unwrap();
    let ids = batch.iter().map(tickr_core::NewMessage::id).collect();
    (database, storage, ids)
}

fn damage(database: &Database, table: &str, set: &str, id: MessageId) {
    let sql = format!("UPDATE {table} SET {set} WHERE id = ?1");
    assert_eq!(database.connection().execute(&sql, [id.as_bytes().as_slice()]).unwrap(), 1, "{set}");
}

/// 49 succeed, one is dead and says which column, every list answers.
#[tokio::test(flavor = "multi_thread")]
async fn unreadable_column_costs_its_own_message_only() {
    for (table, set, column) in [
        ("tickr_messages", "headers = '{\"retries\": 3}'", "headers"),
        ("tickr_messages", "headers = '[]'", "headers"),
        ("tickr_messages", "headers = CAST(x'ff' AS TEXT)", "headers"),
        ("tickr_messages", "content_type = CAST(x'ff' AS TEXT)", "content_type"),
        ("tickr_messages", "idempotency_key = CAST(x'c3' AS TEXT)", "idempotency_key"),
        ("tickr_messages", "ordering_key = CAST(x'ff' AS TEXT)", "ordering_key"),
        ("tickr_messages", "tenant = CAST(x'ff' AS TEXT)", "tenant"),
        ("tickr_messages", "organisation = CAST(x'ff' AS TEXT)", "organisation"),
        ("tickr_messages", "correlation_id = CAST(x'ff' AS TEXT)", "correlation_id"),
        ("tickr_messages", "priority = 9", "priority"),
        ("tickr_messages", "priority = -1", "priority"),
        ("tickr_messages", "priority = 1 << 40", "priority"),
        ("tickr_messages", "max_attempts = 0", "max_attempts"),
        ("tickr_messages", "max_attempts = -3", "max_attempts"),
        ("tickr_messages", "max_attempts = 65536", "max_attempts"),
        ("tickr_ready", "attempt = -2", "attempt"),
        ("tickr_ready", "attempt = 1 << 40", "attempt"),
        ("tickr_ready", "crashes = -1", "crashes"),
        ("tickr_ready", "crashes = 70000", "crashes"),
    ] {
        let (database, storage, ids) = fifty().await;
        damage(&database, table, set, ids[20]);
        assert_eq!(storage.list(&ListQuery::default()).await.unwrap().items.len(), 50, "{set}");
        Worker::builder(storage.clone()).on(ORDER, async || {}).build().unwrap().run_until_idle().await.unwrap();
        for id in &ids {
            let record = storage.get(*id).await.unwrap().unwrap();
            assert_eq!(record.status, if *id == ids[20] { Status::Dead } else { Status::Success }, "{set}");
            assert_eq!(record.unreadable.is_some(), *id == ids[20] && table == "tickr_messages", "{set}");
            assert!(!storage.history(*id).await.unwrap().is_empty(), "{set}");
        }
        let letters = storage.list_dead(&DeadQuery::default()).await.unwrap().items;
        let [letter] = &letters[..] else { panic!("{set}: {letters:?}") };
        assert!(letter.reason.contains(column), "{set}: {}", letter.reason);
        assert_eq!(storage.stats(&StatsRequest::default()).await.unwrap().total(Status::Dead).n, 1, "{set}");
        assert_eq!(storage.audit().await.unwrap().findings, [], "{set}");
    }
}

/// An event type that is no UTF-8 is nobody's; it stops no list, no count and no jump from type to type.
#[tokio::test(flavor = "multi_thread")]
async fn event_type_that_is_no_text_hides_nothing() {
    let (database, storage, ids) = fifty().await;
    for table in ["tickr_messages", "tickr_ready"] {
        damage(&database, table, "event_type = CAST(x'61ff' AS TEXT)", ids[3]);
    }
    storage.enqueue(&[checked(Message::new("zebra", ""))]).await.unwrap();
    let types: Vec<_> = storage.stats(&StatsRequest::default()).await.unwrap().types.iter().map(|one| one.created.n).collect();
    assert_eq!(types, [1, 49, 1]);
    let record = storage.get(ids[3]).await.unwrap().unwrap();
    assert!(record.unreadable.unwrap().contains("event_type"));
    assert_eq!(storage.list(&ListQuery::default().limit(100)).await.unwrap().items.len(), 51);
    let killed = storage.kill(&ids[3].into(), "not wanted").await.unwrap();
    assert_eq!(killed.done, [ids[3]]);
    assert_eq!(storage.list_dead(&DeadQuery::default()).await.unwrap().items.len(), 1);
}

/// An unknown lane is the normal one wherever a row moves, so that what was promoted or moved is claimed.
#[tokio::test(flavor = "multi_thread")]
async fn scheduled_row_in_no_lane_is_claimed_when_due() {
    let (database, storage) = Database::migrated().await;
    let later = checked(Message::new(ORDER, "").after(std::time::Duration::from_secs(3_600)));
    storage.enqueue(std::slice::from_ref(&later)).await.unwrap();
    damage(&database, "tickr_scheduled", "lane = 77, process_at = 1", later.id());
    assert_eq!(storage.promote(10).await.unwrap().moved, 1);
    let worker = worker(&storage).await;
    assert_eq!(storage.claim(&request(worker, 1)).await.unwrap().messages.len(), 1);
}

/// A row whose id is none dies alone: what is behind it is claimed and promoted.
#[tokio::test(flavor = "multi_thread")]
async fn row_without_an_id_is_dead_and_stops_nobody() {
    let (database, storage, ids) = fifty().await;
    let later = checked(Message::new(ORDER, "").after(std::time::Duration::from_secs(3_600)));
    storage.enqueue(std::slice::from_ref(&later)).await.unwrap();
    for table in ["tickr_messages", "tickr_ready"] {
        damage(&database, table, "id = x'0102'", ids[0]);
    }
    damage(&database, "tickr_scheduled", "id = x'0304', process_at = 1", later.id());
    assert_eq!(storage.promote(10).await.unwrap().moved, 0);
    let worker = worker(&storage).await;
    assert_eq!(storage.claim(&request(worker, 100)).await.unwrap().messages.len(), 49);
    let dead: i64 = database.connection().query_row("SELECT count(*) FROM tickr_dead", [], |row| row.get(0)).unwrap();
    assert_eq!(dead, 2);
    assert_eq!(storage.list(&ListQuery::default().limit(100)).await.unwrap().items.len(), 49);
    assert!(storage.list_dead(&DeadQuery::default()).await.unwrap().items.is_empty());
    // The body of the message that was scheduled is left behind, and that of the other has no id either.
    let mut expected = vec![Finding::UnreadableId("dead"); 2];
    expected.extend([Finding::UnreadableId("messages"), Finding::Lost(later.id())]);
    assert_eq!(storage.audit().await.unwrap().findings, expected);
}

#[tokio::test]
async fn message_in_two_places_stops_no_other() {
    let (database, storage) = Database::migrated().await;
    let batch: Vec<_> = (0..20).map(|_| checked(Message::new(ORDER, "").after(std::time::Duration::from_secs(3_600)))).collect();
    storage.enqueue(&batch).await.unwrap();
    let connection = database.connection();
    let ready = || -> i64 { connection.query_row("SELECT count(*) FROM tickr_ready", [], |row| row.get(0)).unwrap() };
    let double = "INSERT INTO tickr_ready (event_type, lane, seq, id, attempt, crashes)
                  SELECT 'order', 2, 1000000, id, 0, 0 FROM tickr_messages ORDER BY id LIMIT 1";
    connection.execute(double, []).unwrap();
    connection.execute("UPDATE tickr_scheduled SET process_at = 1", []).unwrap();
    assert_eq!((storage.promote(100).await.unwrap().moved, ready()), (20, 20));
    let dying = worker(&storage).await;
    assert_eq!(storage.claim(&request(dying, 20)).await.unwrap().messages.len(), 20);
    connection.execute(double, []).unwrap();
    connection.execute("UPDATE tickr_workers SET expires_at = 1", []).unwrap();
    assert_eq!(storage.reclaim(&ReclaimRequest::condemning(10)).await.unwrap().messages.len(), 20);
    assert_eq!(ready(), 20);
    let leaving = worker(&storage).await;
    assert_eq!(storage.claim(&request(leaving, 20)).await.unwrap().messages.len(), 20);
    connection.execute(double, []).unwrap();
    storage.retire(leaving, "test").await.unwrap();
    assert_eq!(ready(), 20);
    assert_eq!(storage.audit().await.unwrap().findings, []);
}

/// What a journal cannot say of one claim stops neither the lists nor the reclaim of others, nor that claim's own messages if their
/// ids are known.
#[tokio::test(flavor = "multi_thread")]
async fn unreadable_claim_stops_no_other() {
    let (database, storage, ids) = fifty().await;
    let owner = worker(&storage).await;
    let claims = [
        storage.claim(&request(owner, 10)).await.unwrap(),
        storage.claim(&request(owner, 10)).await.unwrap(),
        storage.claim(&request(owner, 10)).await.unwrap(),
        storage.claim(&request(owner, 10)).await.unwrap(),
    ];
    let connection = database.connection();
    for (set, claim) in [("ids = x'0102'", &claims[0]), ("event_types = 'none'", &claims[1]), ("attempts = x'01'", &claims[2])] {
        let sql = format!("UPDATE tickr_claims SET {set} WHERE token = ?1");
        assert_eq!(connection.execute(&sql, [claim.token.as_bytes().as_slice()]).unwrap(), 1);
    }
    assert_eq!(storage.list(&ListQuery::default().status(Status::Handling)).await.unwrap().items.len(), 30);
    storage.stats(&StatsRequest::default()).await.unwrap();
    assert!(storage.get(ids[45]).await.unwrap().is_some());
    assert_eq!(storage.audit().await.unwrap().findings.len(), 11, "the claim, and the ten bodies that only it knows");
    assert_eq!(storage.adopt(claims[1].token).await.unwrap().unwrap().messages[0].event_type.as_str(), ORDER);
    connection.execute("UPDATE tickr_workers SET expires_at = 1", []).unwrap();
    let reclaimed = storage.reclaim(&ReclaimRequest::condemning(2)).await.unwrap();
    assert_eq!((reclaimed.claims, reclaimed.messages.len()), (2, 20));
    let reclaimed = storage.reclaim(&ReclaimRequest::condemning(2)).await.unwrap();
    assert_eq!((reclaimed.claims, reclaimed.messages.len()), (1, 10));
    assert!(reclaimed.messages.iter().all(|message| message.event_type.as_str() == ORDER));
}

/// A claim whose worker was deleted by hand, where foreign keys are not enforced, is reported by an audit and taken back.
#[tokio::test(flavor = "multi_thread")]
async fn claim_without_its_worker_is_taken_back() {
    let (database, storage, _) = fifty().await;
    let owner = worker(&storage).await;
    let claim = storage.claim(&request(owner, 10)).await.unwrap();
    let connection = database.connection();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    assert_eq!(connection.execute("DELETE FROM tickr_workers", []).unwrap(), 1);
    assert_eq!(storage.audit().await.unwrap().findings, [Finding::Unowned(claim.token)]);
    let reclaimed = storage.reclaim(&ReclaimRequest::new(10)).await.unwrap();
    assert_eq!((reclaimed.claims, reclaimed.messages.len()), (1, 10));
    assert_eq!(storage.audit().await.unwrap().findings, []);
    assert!(storage.workers().await.unwrap().is_empty());
}

/// A worker whose registration cannot be read is listed without types, and hides no other; an unknown outcome leaves out its step.
#[tokio::test(flavor = "multi_thread")]
async fn unreadable_registration_and_outcome_hide_nothing() {
    let (database, storage, ids) = fifty().await;
    let (first, second) = (worker(&storage).await, worker(&storage).await);
    let connection = database.connection();
    let broken = "UPDATE tickr_workers SET event_types = 'order', name = CAST(x'ff' AS TEXT) WHERE id = ?1";
    connection.execute(broken, [first.as_bytes().as_slice()]).unwrap();
    let mut listed: Vec<_> = storage.workers().await.unwrap().iter().map(|one| (one.id, one.event_types.len())).collect();
    listed.sort_unstable();
    let mut expected = [(first, 0), (second, 1)];
    expected.sort_unstable();
    assert_eq!(listed, expected);
    assert!(!storage.stats(&StatsRequest::default()).await.unwrap().types[0].unserved);
    let claim = storage.claim(&request(second, 1)).await.unwrap();
    storage.settle(&[crate::all_ok(&claim)]).await.unwrap();
    connection.execute("UPDATE tickr_settlements SET outcome = 'postponed'", []).unwrap();
    let steps: Vec<_> = storage.history(ids[0]).await.unwrap().iter().map(|step| step.event).collect();
    assert_eq!(steps, ["created", "claimed"]);
    assert!(!matches!(claim.messages[0].body, Err(BodyFault::Missing)));
}

/// The view for operators finds a member by its place: the bytes of an id that stand across two others by chance do not hide it.
#[tokio::test(flavor = "multi_thread")]
async fn status_view_finds_the_member_behind_a_chance_match() {
    let (database, storage) = Database::migrated().await;
    let id = |bytes: [u8; 16]| MessageId::from_slice(&bytes).unwrap();
    let wanted: [u8; 16] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let first: [u8; 16] = std::array::from_fn(|at| if at < 8 { 0 } else { wanted[at - 8] });
    let second: [u8; 16] = std::array::from_fn(|at| if at < 8 { wanted[at + 8] } else { 0 });
    let batch: Vec<_> = [first, second, wanted].into_iter().map(|bytes| checked(Message::new(ORDER, "").id(id(bytes)))).collect();
    storage.enqueue(&batch).await.unwrap();
    let worker = worker(&storage).await;
    let claim = storage.claim(&request(worker, 3)).await.unwrap();
    let status = || -> String {
        let sql = "SELECT status FROM tickr_message_status WHERE id = ?1";
        database.connection().query_row(sql, [&wanted[..]], |row| row.get(0)).unwrap()
    };
    assert_eq!(status(), "HANDLING");
    storage.settle(&[crate::all_ok(&claim)]).await.unwrap();
    assert_eq!(status(), "SUCCESS");
}
