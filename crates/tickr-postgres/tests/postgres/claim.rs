//! Claims that the server refuses, where they begin to scan, and how much a list reads.

use std::time::Instant;

use tickr_core::protocol::Lane;
use tickr_core::{
    Admin, ClaimRequest, Client, ClockOffset, ErrorKind, EventType, LaneRequest, ListQuery, Registration, Selection, Status, Storage,
    Token, WorkerId,
};
use tickr_postgres::PostgresStorage;

use super::support::{Database, ORDER, eventually, message, ms, secs, sound, value};

async fn registered(storage: &PostgresStorage) -> WorkerId {
    let (worker, event_types) = (WorkerId::new(), vec![EventType::new(ORDER).unwrap()]);
    storage.register(&Registration::new(worker, "w", event_types, secs(600))).await.unwrap();
    worker
}

fn request(worker: WorkerId) -> ClaimRequest {
    let event_type = EventType::new(ORDER).unwrap();
    let groups = vec![LaneRequest::new(event_type, Lane::ORDINARY.to_vec(), 10, 10)];
    ClaimRequest::new(worker, "w", Token::new(), groups, 10)
}

/// The claim reads the worker's row while another transaction removes it, and finds out when it writes.
#[tokio::test(flavor = "multi_thread")]
async fn claim_of_a_worker_that_is_removed_meanwhile_takes_nothing() {
    let (database, storage) = Database::migrated().await;
    Client::new(storage.clone()).enqueue(message("1")).await.unwrap();
    let worker = registered(&storage).await;
    let (remover, outside) = (database.client().await, database.outside().await);
    remover.batch_execute("BEGIN; DELETE FROM tickr_workers").await.unwrap();
    let claiming = tokio::spawn({
        let storage = storage.clone();
        async move { storage.claim(&request(worker)).await }
    });
    let waits = format!("SELECT 1 FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'", database.name);
    eventually("the claim waits", async || value(&outside, &waits).await.is_some()).await;
    remover.batch_execute("COMMIT").await.unwrap();
    let claim = claiming.await.unwrap().unwrap();
    assert_eq!((claim.members, claim.messages.len()), (0, 0));
    assert_eq!(storage.claim(&request(registered(&storage).await)).await.unwrap().messages.len(), 1);
    sound(&storage).await;
}

/// An error of the server is not an empty queue.
#[tokio::test]
async fn claim_that_is_refused_for_another_reason_is_an_error() {
    let (database, storage) = Database::migrated().await;
    Client::new(storage.clone()).enqueue(message("1")).await.unwrap();
    let worker = registered(&storage).await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'it is refused'; END$$;
                  CREATE TRIGGER refuse BEFORE INSERT ON tickr_claims FOR EACH ROW EXECUTE FUNCTION refuse()";
    database.client().await.batch_execute(refuse).await.unwrap();
    let error = storage.claim(&request(worker)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(error.to_string().contains("it is refused"), "{error}");
}

/// A row that is far before what was taken last is left to the next catch-up: an ordinary scan does not begin there.
#[tokio::test]
async fn ordinary_claims_begin_behind_what_was_taken() {
    let (database, storage) = Database::migrated().await;
    let (client, plain) = (Client::new(storage.clone()), database.client().await);
    let worker = registered(&storage).await;
    // The claims after the first are ordinary until the first catch-up is due. On a busy machine that may be at once: then again.
    let unhurried = ms(200);
    for round in 1.. {
        plain.batch_execute(&format!("ALTER TABLE tickr_ready ALTER seq RESTART WITH {round}000000")).await.unwrap();
        client.enqueue(message("taken")).await.unwrap();
        let begun = Instant::now();
        while storage.claim(&request(worker)).await.unwrap().messages.is_empty() {}
        plain.batch_execute(&format!("ALTER TABLE tickr_ready ALTER seq RESTART WITH {round}")).await.unwrap();
        client.enqueue(message("before it")).await.unwrap();
        let found = !storage.claim(&request(worker)).await.unwrap().messages.is_empty();
        if begun.elapsed() < unhurried {
            assert!(!found, "an ordinary scan began at the beginning");
            break;
        }
    }
    eventually("a catch-up finds it", async || !storage.claim(&request(worker)).await.unwrap().messages.is_empty()).await;
}

/// A promotion that scans everything and runs into its deadline is not repeated in full at once: as a rule the next one would too.
#[tokio::test]
async fn promotion_that_was_given_up_is_rare() {
    let (database, migrated) = Database::migrated().await;
    drop(migrated);
    let clock = ClockOffset::default();
    let storage = database.builder().clock_offset(clock.clone()).operation_timeout(secs(4)).build().unwrap();
    let plain = database.client().await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(60); RETURN NULL; END$$;
                CREATE TRIGGER slow BEFORE DELETE ON tickr_scheduled FOR EACH STATEMENT EXECUTE FUNCTION slow()";
    plain.batch_execute(slow).await.unwrap();
    let given_up = storage.promote(10).await.unwrap_err();
    assert_eq!(given_up.kind(), ErrorKind::Unavailable, "{given_up}");
    plain.batch_execute("DROP TRIGGER slow ON tickr_scheduled").await.unwrap();
    assert_eq!(storage.promote(10).await.unwrap().moved, 0);
    let overdue = "INSERT INTO tickr_scheduled (process_at, id, event_type, lane, attempt, crashes)
                   VALUES ('2020-01-01', gen_random_uuid(), 'order', 2, 0, 0)";
    plain.batch_execute(overdue).await.unwrap();
    clock.advance(secs(10));
    assert_eq!(storage.promote(10).await.unwrap().moved, 0, "the whole is scanned again after a hundred times what it took");
    clock.advance(secs(600));
    assert_eq!(storage.promote(10).await.unwrap().moved, 1);
}

/// Counts the rows of which a list reads the status.
#[tokio::test]
async fn a_page_reads_no_more_rows_than_it_shows() {
    let (database, storage) = Database::migrated().await;
    let client = Client::new(storage.clone());
    let stored = client.enqueue_all((0..50).map(|_| message("1"))).await.unwrap();
    let counted = "CREATE SEQUENCE read;
                   ALTER VIEW tickr_message_status RENAME TO uncounted;
                   CREATE VIEW tickr_message_status AS SELECT * FROM uncounted WHERE nextval('read') > 0";
    let plain = database.client().await;
    plain.batch_execute(counted).await.unwrap();
    let dead: Selection = stored.iter().take(25).map(|stored| stored.id()).collect();
    storage.kill(&dead, "enough").await.unwrap();
    for status in [None, Some(Status::Created), Some(Status::Dead)] {
        plain.batch_execute("ALTER SEQUENCE read RESTART").await.unwrap();
        let mut query = ListQuery::default().limit(2);
        query.status = status;
        assert_eq!(storage.list(&query).await.unwrap().items.len(), 2, "{status:?}");
        let read: i64 = plain.query_one("SELECT last_value FROM read", &[]).await.unwrap().get(0);
        assert!((2..=4).contains(&read), "{status:?} reads {read} rows");
    }
}
