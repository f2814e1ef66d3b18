//! Single messages that wait at the same time share a statement, and neither harm nor hold up each other.

use tickr_core::{Enqueued, ErrorKind, Limits, Message, MessageId, NewMessage, Result, Storage};
use tickr_postgres::{PostgresStorage, tokio_postgres};
use tokio::task::JoinHandle;

use super::support::{Database, eventually, message, secs, sound, value};

/// As many as are sent before the next ones wait.
const FLIGHTS: usize = 2;

/// A lock, behind which every message waits.
struct Jam {
    holder: tokio_postgres::Client,
    watcher: tokio_postgres::Client,
    database: Database,
}

impl Jam {
    async fn new(database: &Database) -> Self {
        let (holder, watcher) = (database.client().await, database.outside().await);
        holder.batch_execute("BEGIN").await.unwrap();
        let jam = Self { holder, watcher, database: database.clone() };
        jam.close().await;
        jam
    }

    async fn close(&self) {
        self.holder.batch_execute("SAVEPOINT free; LOCK TABLE tickr_messages IN SHARE MODE").await.unwrap();
    }

    /// Lets go of the lock; what the holder wrote before stays uncommitted.
    async fn open(&self) {
        self.holder.batch_execute("ROLLBACK TO free").await.unwrap();
    }

    /// Waits until so many statements wait for the lock.
    async fn holds(&self, statements: usize) {
        let query = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{}' AND application_name = 'tickr'",
            self.database.name
        );
        eventually("statements wait", async || value(&self.watcher, &query).await == Some(statements.to_string())).await;
    }
}

type Sent = JoinHandle<Result<Vec<Enqueued>>>;

/// Stores a message in a transaction of its own.
fn store(storage: &PostgresStorage, message: Message) -> impl Future<Output = Result<Vec<Enqueued>>> + Send + 'static {
    let storage = storage.clone();
    let message = NewMessage::check(message, MessageId::new(), &Limits::default()).unwrap();
    async move { storage.enqueue(&[message]).await }
}

/// The same by a task; on the runtime of one thread it is under way, or waits, when this returns.
async fn send(storage: &PostgresStorage, message: Message) -> Sent {
    let sent = tokio::spawn(store(storage, message));
    tokio::task::yield_now().await;
    sent
}

/// As many as are under way before the next ones wait.
async fn first(storage: &PostgresStorage) -> [Sent; FLIGHTS] {
    [send(storage, message("first")).await, send(storage, message("second")).await]
}

async fn stored(database: &Database, condition: &str) -> String {
    value(&database.client().await, &format!("SELECT count(*) FROM tickr_messages WHERE {condition}")).await.unwrap()
}

#[tokio::test]
async fn who_waits_at_the_same_time_shares_a_transaction() {
    for isolation in ["read committed", "serializable"] {
        let (database, storage) = Database::migrated().await;
        let alter = format!("ALTER DATABASE \"{}\" SET default_transaction_isolation = '{isolation}'", database.name);
        database.outside().await.batch_execute(&alter).await.unwrap();
        drop(storage);
        let storage = database.storage();
        let jam = Jam::new(&database).await;
        let mut all = Vec::from(first(&storage).await);
        let ids: Vec<MessageId> = (0..40).map(|_| MessageId::new()).collect();
        for id in &ids {
            all.push(send(&storage, message("later").id(*id)).await);
        }
        jam.holds(FLIGHTS).await;
        jam.open().await;
        for sent in all {
            assert!(matches!(sent.await.unwrap().unwrap()[..], [Enqueued::Stored { .. }]));
        }
        let watcher = database.client().await;
        let transactions = value(&watcher, "SELECT count(DISTINCT xmin::text) FROM tickr_messages").await.unwrap();
        assert_eq!(transactions, (FLIGHTS + 1).to_string(), "{isolation}");
        let order = "SELECT string_agg(m.id::text, ' ' ORDER BY r.seq) FROM tickr_ready r JOIN tickr_messages m ON m.id = r.id
                     WHERE m.payload = 'later'";
        let expected: Vec<String> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(value(&watcher, order).await, Some(expected.join(" ")), "in the order in which they came");
        sound(&storage).await;
    }
}

#[tokio::test]
async fn who_goes_away_takes_nobody_along() {
    let (database, storage) = Database::migrated().await;
    let jam = Jam::new(&database).await;
    let [one, two] = first(&storage).await;
    let (gone, stays) = (send(&storage, message("gone")).await, send(&storage, message("stays")).await);
    jam.holds(FLIGHTS).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    // Whoever was under way goes too: its place is the next one's.
    one.abort();
    assert!(one.await.unwrap_err().is_cancelled());
    jam.holds(FLIGHTS).await;
    jam.open().await;
    two.await.unwrap().unwrap();
    stays.await.unwrap().unwrap();
    assert_eq!(stored(&database, "payload IN ('gone', 'first')").await, "0");
    assert_eq!(stored(&database, "payload IN ('stays', 'second')").await, "2");
    sound(&storage).await;
}

#[tokio::test]
async fn one_that_is_stored_already_does_no_harm_to_others() {
    let (database, storage) = Database::migrated().await;
    let again = message("again").id(MessageId::new());
    store(&storage, again.clone()).await.unwrap();
    let jam = Jam::new(&database).await;
    let mut all = Vec::from(first(&storage).await);
    let twice = message("twice").id(MessageId::new());
    for message in [again, twice.clone(), message("new"), twice] {
        all.push(send(&storage, message).await);
    }
    jam.holds(FLIGHTS).await;
    jam.open().await;
    for sent in all {
        assert!(matches!(sent.await.unwrap().unwrap()[..], [Enqueued::Stored { .. }]));
    }
    for payload in ["again", "twice", "new"] {
        assert_eq!(stored(&database, &format!("payload = '{payload}'")).await, "1", "{payload}");
    }
    sound(&storage).await;
}

/// Somebody's open transaction has the same id: only who sends that id again waits for its end.
#[tokio::test]
async fn one_that_waits_for_somebody_does_not_hold_up_the_others() {
    let (database, _) = Database::migrated().await;
    let storage = database.builder().operation_timeout(secs(8)).build().unwrap();
    let jam = Jam::new(&database).await;
    jam.open().await;
    let id = MessageId::new();
    let insert =
        format!("INSERT INTO tickr_messages (id, created_at, event_type, priority, payload) VALUES ('{id}', now(), 'order', 0, 'other')");
    jam.holder.batch_execute(&insert).await.unwrap();
    jam.close().await;
    let all = first(&storage).await;
    let (waits, other) = (send(&storage, message("same").id(id)).await, send(&storage, message("other one")).await);
    jam.holds(FLIGHTS).await;
    jam.open().await;
    for sent in all {
        sent.await.unwrap().unwrap();
    }
    other.await.unwrap().unwrap();
    assert!(!waits.is_finished());
    jam.holder.batch_execute("ROLLBACK").await.unwrap();
    waits.await.unwrap().unwrap();
    assert_eq!(stored(&database, "payload = 'same'").await, "1");
    sound(&storage).await;
}

#[tokio::test]
async fn lost_answer_is_everybodys() {
    let (database, storage) = Database::migrated().await;
    let jam = Jam::new(&database).await;
    let [one, two] = first(&storage).await;
    let together = [send(&storage, message("a")).await, send(&storage, message("b")).await];
    jam.holds(FLIGHTS).await;
    one.abort();
    drop(one.await);
    // The cancelled one is gone, and the two are in its place.
    let shared = "wait_event_type = 'Lock' AND query LIKE '%unnest%'";
    eventually("the connection breaks", async || database.terminate(&jam.watcher, shared).await == 1).await;
    for sent in together {
        let error = sent.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error:?}");
        assert!(error.to_string().contains("stores several messages"), "{error}");
    }
    jam.open().await;
    two.await.unwrap().unwrap();
    assert_eq!(stored(&database, "true").await, "1");
    sound(&storage).await;
}

/// A handle that is used by two runtimes, of which one ends.
#[tokio::test]
async fn runtime_that_ends_takes_nobody_of_another_along() {
    let (database, storage) = Database::migrated().await;
    let jam = Jam::new(&database).await;
    let ending = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for _ in 0..FLIGHTS {
        ending.spawn(store(&storage, message("ended")));
    }
    jam.holds(FLIGHTS).await;
    let all = [send(&storage, message("here")).await, send(&storage, message("here")).await];
    let ended = tokio::task::spawn_blocking(move || ending.shutdown_timeout(secs(10)));
    ended.await.unwrap();
    jam.open().await;
    for sent in all {
        sent.await.unwrap().unwrap();
    }
    assert_eq!(stored(&database, "payload = 'here'").await, "2");
    sound(&storage).await;
}
