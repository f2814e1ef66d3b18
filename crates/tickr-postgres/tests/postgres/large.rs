//! What is larger than one statement should be.

use tickr_core::{Admin, Client, Due, Enqueued, ErrorKind, Limits, ListQuery, Message, MessageId, Selection, Status};

use super::support::{Database, ORDER, Ran, message, secs, sound, status, value, worker};

async fn count(database: &Database) -> u64 {
    value(&database.client().await, "SELECT count(*) FROM tickr_messages").await.unwrap().parse().unwrap()
}

/// More bytes than a request of the protocol may have, stored all or none, with the memory of a chunk.
#[tokio::test(flavor = "multi_thread")]
async fn batch_above_the_protocols_limit_is_stored_whole() {
    let (database, storage) = Database::migrated().await;
    let client = Client::builder(storage).limits(Limits::default().payload_bytes(1 << 20)).build();
    let payload = tickr_core::Bytes::from(vec![7; 1 << 20]);
    let batch = (0..1_100).map(|_| Message::new(ORDER, payload.clone()));
    let stored = client.enqueue_all(batch).await.unwrap();
    assert_eq!((stored.len(), count(&database).await), (1_100, 1_100));
    let peak = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 400_000, "{peak} kB were in use");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_a_batch_are_stored_together_or_not_at_all() {
    let (database, storage) = Database::migrated().await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                      IF NEW.payload = 'refused' THEN RAISE 'refused'; END IF; RETURN NEW;
                  END $$;
                  CREATE TRIGGER refuse BEFORE INSERT ON tickr_messages FOR EACH ROW EXECUTE FUNCTION refuse()";
    database.client().await.batch_execute(refuse).await.unwrap();
    let client = Client::builder(storage.clone()).retries(0).build();
    let many = |keyed: bool| {
        (0..25_000).map(move |n| {
            let message = message(&n.to_string());
            if keyed && n % 1_000 == 0 { message.idempotency_key(format!("k{}", n % 20_000)) } else { message }
        })
    };
    for keyed in [false, true] {
        let error = client.enqueue_all(many(keyed).chain([message("refused")])).await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
        assert_eq!(count(&database).await, 0);
    }
    // A key twice, in different chunks: the second one is a duplicate of the first.
    let stored = client.enqueue_all(many(true)).await.unwrap();
    assert_eq!(stored.len(), 25_000);
    assert_eq!(stored[20_000], Enqueued::Duplicate { existing: stored[0].id() });
    assert_eq!(stored.iter().filter(|stored| stored.is_duplicate()).count(), 5);
    assert_eq!(count(&database).await, 24_995);
    // In the caller's transaction too.
    let mut connection = database.client().await;
    let mut tx = connection.transaction().await.unwrap();
    assert_eq!(client.enqueue_all_in(&mut tx, many(false)).await.unwrap().len(), 25_000);
    tx.rollback().await.unwrap();
    assert_eq!(count(&database).await, 24_995);
    let order: Vec<MessageId> =
        storage.list(&ListQuery::default().limit(3)).await.unwrap().items.iter().map(|item| item.stored.id).collect();
    assert_eq!(order[0], stored[24_999].id());
    sound(&storage).await;
}

/// Each chunk has the time of an operation, not the whole batch.
#[tokio::test(flavor = "multi_thread")]
async fn batch_may_take_longer_than_an_operation() {
    let (database, _) = Database::migrated().await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.6); RETURN NULL; END $$;
                CREATE TRIGGER slow AFTER INSERT ON tickr_messages FOR EACH STATEMENT EXECUTE FUNCTION slow()";
    database.client().await.batch_execute(slow).await.unwrap();
    let storage = database.builder().operation_timeout(secs(2)).build().unwrap();
    let client = Client::builder(storage).retries(0).build();
    let stored = client.enqueue_all((0..50_000).map(|n| message(&n.to_string()))).await.unwrap();
    assert_eq!((stored.len(), count(&database).await), (50_000, 50_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_no_request_has_room_for_is_refused_before_it_is_sent() {
    let (database, storage) = Database::migrated().await;
    let client = Client::builder(storage).limits(Limits::default().payload_bytes(usize::MAX)).retries(0).build();
    // Zeroed pages that are never touched.
    let error = client.enqueue(Message::new(ORDER, vec![0; 1_100_000_000])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("PostgreSQL takes at most 1000000000"), "{error}");
    assert_eq!(count(&database).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_act_on_more_than_one_statement_takes() {
    let (database, storage) = Database::migrated().await;
    let client = Client::new(storage.clone());
    let stored = client.enqueue_all((0..25_000).map(|n| message(&n.to_string()).after(secs(600)))).await.unwrap();
    let mut ids: Vec<MessageId> = stored.iter().map(|stored| stored.id()).collect();
    let nobody = MessageId::new();
    ids.push(nobody);
    let all = Selection::Ids(ids.clone());
    let acted = storage.reschedule(&all, Due::After(secs(900))).await.unwrap();
    assert_eq!((acted.done.len(), acted.missing), (25_000, vec![nobody]));
    let acted = storage.kill(&all, "enough").await.unwrap();
    assert_eq!((acted.done.as_slice(), acted.missing), (&ids[..25_000], vec![nobody]));
    let acted = storage.requeue(&all, Due::Now).await.unwrap();
    assert_eq!((acted.done.len(), acted.missing), (25_000, vec![nobody]));
    assert_eq!(status(&storage, ids[24_999]).await, Status::Created);
    storage.kill(&all, "enough").await.unwrap();
    let acted = storage.discard(&all).await.unwrap();
    assert_eq!((acted.done.len(), acted.missing, count(&database).await), (25_000, vec![nobody], 0));
    let ran = Ran::default();
    worker(&storage, &ran).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(ran.count(), 0);
    sound(&storage).await;
}
