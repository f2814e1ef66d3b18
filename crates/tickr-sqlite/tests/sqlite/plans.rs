//! Statements and schema: every statement is understood, uses the index that its header names, and the view agrees with the
//! library.

use std::collections::BTreeMap;
use std::time::Duration;

use tickr_core::{Admin, MessageId, SettleOutcome, Settlement, Storage};

use crate::{Database, all_ok, checked, message, request, worker};

/// Statements that may read a whole table or sort, and why.
const MAY_SCAN: [(&str, &str); 24] = [
    ("schema/exists.sql", "the schema is small"),
    ("schema/version.sql", "one row a version"),
    ("upkeep/any_expired.sql", "one row a worker"),
    ("upkeep/any_lost.sql", "one row a worker, one row an open claim"),
    ("upkeep/condemn.sql", "one row a worker"),
    ("upkeep/condemn_unowned.sql", "one row an open claim"),
    ("upkeep/shorten.sql", "one row a worker"),
    ("upkeep/remove_condemned.sql", "one row a worker"),
    ("upkeep/condemned_claims.sql", "one row an open claim"),
    ("stats/open_claims.sql", "one row an open claim"),
    ("stats/served_types.sql", "one row a worker"),
    ("stats/pauses.sql", "one row a paused type"),
    ("admin/forget_pauses.sql", "one row a paused type"),
    ("admin/workers.sql", "one row a worker"),
    ("admin/select_dead.sql", "in order of the key, until there are enough"),
    ("admin/select_ready.sql", "in order of the key, until there are enough"),
    ("admin/select_scheduled.sql", "in order of the key, until there are enough"),
    ("enqueue/messages_of_type.sql", "for tests"),
    ("audit/bodies.sql", "an audit reads everything"),
    ("audit/ready.sql", "an audit reads everything"),
    ("audit/scheduled.sql", "an audit reads everything"),
    ("audit/dead.sql", "an audit reads everything"),
    ("audit/claims.sql", "an audit reads everything"),
    ("audit/orphans.sql", "an audit reads everything"),
];

#[tokio::test]
async fn every_statement_is_understood_and_none_scans_what_grows() {
    let (database, _storage) = Database::migrated().await;
    let connection = database.connection();
    let mut scans = Vec::new();
    for (name, sql) in tickr_sql::sqlite::ALL {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut rows = plan.raw_query();
        while let Some(row) = rows.next().unwrap() {
            let step: String = row.get(3).unwrap();
            // Of a sub-select with a limit, or of the names in one row.
            let bounded = ["CONSTANT ROW", "(subquery", "VIRTUAL TABLE"].iter().any(|part| step.contains(part)) || step == "SCAN r";
            let allowed = bounded || MAY_SCAN.iter().any(|(statement, _)| statement == name);
            if !allowed && (step.starts_with("SCAN") || step.contains("TEMP B-TREE")) {
                scans.push(format!("{name}: {step}"));
            }
        }
    }
    assert_eq!(scans, [""; 0]);
}

#[tokio::test]
async fn ready_and_scheduled_are_never_updated() {
    for (name, sql) in tickr_sql::sqlite::ALL {
        let sql = sql.to_lowercase();
        assert!(!sql.contains("update tickr_ready") && !sql.contains("update tickr_scheduled"), "{name}");
    }
}

/// The view computes from blobs what the library computes in Rust.
#[tokio::test]
async fn the_view_says_what_the_library_says() {
    let (database, storage) = Database::migrated().await;
    let worker = worker(&storage).await;
    let batch: Vec<_> = (0..20).map(|n| message(&n.to_string())).collect();
    storage.enqueue(&batch).await.unwrap();
    storage.enqueue(&[checked(tickr_core::Message::new("order", "later").after(Duration::from_secs(60)))]).await.unwrap();
    let claim = storage.claim(&request(worker, 18)).await.unwrap();
    let mut settlement = Settlement::new(claim.token, claim.members);
    for index in [0, 3, 8, 15, 16] {
        settlement.succeeded.insert(index);
    }
    for (index, outcome) in [
        (1, SettleOutcome::Dead { error: "no".into() }),
        (2, SettleOutcome::Failed { error: "boom".into(), delay: Duration::ZERO }),
        (9, SettleOutcome::Failed { error: "boom".into(), delay: Duration::from_secs(60) }),
        (17, SettleOutcome::Skipped { reason: "done".into() }),
    ] {
        let member = &claim.messages[index as usize];
        settlement.others.push(member.settled(outcome));
    }
    storage.settle(&[settlement]).await.unwrap();
    storage.kill(&claim.messages[10].id.into(), "why not").await.unwrap();
    let all = storage.claim(&request(worker, 1)).await.unwrap();
    storage.settle(&[all_ok(&all)]).await.unwrap();

    let connection = database.connection();
    let mut statement = connection.prepare("SELECT uuid, status FROM tickr_message_status").unwrap();
    let shown: BTreeMap<MessageId, String> = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))
        .unwrap()
        .map(|row| row.unwrap())
        .map(|(uuid, status)| (uuid.parse().unwrap(), status))
        .collect();
    assert_eq!(shown.len(), 21);
    for (id, status) in &shown {
        assert_eq!(storage.get(*id).await.unwrap().unwrap().status.as_str(), status, "{id}");
    }
    let count = |wanted: &str| shown.values().filter(|status| *status == wanted).count();
    assert_eq!((count("HANDLING"), count("SUCCESS"), count("DEAD"), count("RETRYING")), (8, 7, 2, 2));

    storage.sabotage_remove_ready(batch[19].id()).await.unwrap();
    let lost: String = connection
        .query_row("SELECT status FROM tickr_message_status WHERE id = ?1", [&batch[19].id().as_bytes()[..]], |row| row.get(0))
        .unwrap();
    assert_eq!(lost, "LOST");
}
