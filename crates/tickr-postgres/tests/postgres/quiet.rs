//! What is logged of what tickr is given: nothing.

use std::sync::{Mutex, MutexGuard};

use log::{LevelFilter, Log, Metadata, Record};
use tickr_core::{Admin, Client, DeadQuery, Failure, Handler, ListQuery, Message, Raw, Selection, Storage, Worker};
use tickr_postgres::{DriverError, InTransaction};

use super::support::{Database, ORDER, secs};

/// Collects everything, of every library, at every level.
struct Collected(Mutex<Vec<String>>);

static LOG: Collected = Collected(Mutex::new(Vec::new()));

impl Collected {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap()
    }
}

impl Log for Collected {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    /// Keeps what is of interest: other tests may log beside this one.
    fn log(&self, record: &Record<'_>) {
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        if line.contains("SECRET") || line.contains("83, 69, 67, 82") || line.contains("executing statement") {
            self.lines().push(line);
        }
    }

    fn flush(&self) {}
}

fn secret(n: u32) -> Message {
    Message::new(ORDER, "SECRETBODY")
        .header("authorization", "Bearer SECRETHEADER")
        .content_type("application/SECRETTYPE")
        .tenant("SECRETTENANT")
        .organisation("SECRETORGANISATION")
        .ordering_key(format!("SECRETORDER{n}"))
        .correlation_id("SECRETCORRELATION")
}

async fn handle(body: Raw) -> Result<(), Failure> {
    if &*body.0 == b"SECRETBODY" { Err(Failure::dead("SECRETERROR")) } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_message_is_logged_at_any_level() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(LevelFilter::Trace);
    for prepared in [true, false] {
        let database = Database::empty().await;
        let storage = database.builder().prepared_statements(prepared).build().unwrap();
        storage.migrate().await.unwrap();
        let client = Client::new(storage.clone());
        client.enqueue(secret(1)).await.unwrap();
        client.enqueue_all([secret(2), secret(3)]).await.unwrap();
        client.enqueue(secret(4).idempotency_key("SECRETKEY")).await.unwrap();
        assert!(client.enqueue(secret(5).idempotency_key("SECRETKEY")).await.unwrap().is_duplicate());
        let pool = database.pool(1);
        let mut pooled = pool.get().await.unwrap();
        let mut tx = pooled.transaction().await.unwrap();
        client.enqueue_in(&mut tx, secret(6)).await.unwrap();
        tx.commit().await.unwrap();
        let mut own = database.client().await;
        let mut tx = own.transaction().await.unwrap();
        client.enqueue_all_in(&mut tx, [secret(7), secret(8).idempotency_key("SECRETKEY2")]).await.unwrap();
        tx.commit().await.unwrap();
        own.batch_execute("BEGIN").await.unwrap();
        let mut assumed = InTransaction::assume(&mut own).await.unwrap();
        let later = client.enqueue_in(&mut assumed, secret(9).after(secs(600))).await.unwrap().id();
        own.batch_execute("COMMIT").await.unwrap();
        Worker::builder(storage.clone()).on(ORDER, handle.max_attempts(2)).build().unwrap().run_until_idle().await.unwrap();
        storage.kill(&Selection::from(later), "SECRETREASON").await.unwrap();
        assert!(!storage.list(&ListQuery::default().tenant("SECRETTENANT")).await.unwrap().items.is_empty());
        assert!(!storage.list_dead(&DeadQuery::default()).await.unwrap().items.is_empty());
        storage.history(later).await.unwrap();
        // A message that the database refuses: its error is logged too.
        let refused = client.enqueue(secret(10).tenant("SECRETNUL\0")).await.unwrap_err();
        log::warn!("{refused} {refused:?}");
    }
    let lines = LOG.lines();
    assert!(lines.iter().any(|line| line.contains("of 10 bytes")), "the driver logs parameters: {:?}", lines.first());
    let told: Vec<&String> = lines.iter().filter(|line| line.contains("SECRET") || line.contains("83, 69, 67, 82")).collect();
    assert!(told.is_empty(), "{} lines, such as {}", told.len(), told[0]);
}

/// The server repeats the whole row in the DETAIL of a constraint that refuses it: handlers record what an error shows.
#[tokio::test]
async fn error_of_a_constraint_shows_nothing_of_the_row() {
    let (database, storage) = Database::migrated().await;
    let refuse = "ALTER TABLE tickr_messages ADD CONSTRAINT no_tenants CHECK (tenant IS NULL)";
    database.client().await.batch_execute(refuse).await.unwrap();
    let client = Client::builder(storage).retries(0).build();
    let mut connection = database.client().await;
    let mut tx = connection.transaction().await.unwrap();
    let errors = [
        client.enqueue(secret(1)).await.unwrap_err(),
        client.enqueue_all([secret(2), secret(3)]).await.unwrap_err(),
        client.enqueue_in(&mut tx, secret(4)).await.unwrap_err(),
    ];
    for error in errors {
        let source = std::error::Error::source(&error).unwrap().downcast_ref::<DriverError>().unwrap();
        assert!(source.get().as_db_error().unwrap().detail().unwrap().contains("SECRETTENANT"), "the test is of a row that is shown");
        let shown = [format!("{error:?}"), Failure::new(error).to_string()];
        for shown in shown {
            assert!(shown.contains("no_tenants") && !shown.contains("SECRET") && !shown.contains("534543524554"), "{shown}");
        }
    }
}
