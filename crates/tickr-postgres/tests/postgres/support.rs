//! What the tests share: a server, a database a test, handlers that tell when they ran.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, Pool};
use tickr_core::{Admin, Message, MessageId, State, Status, Worker, WorkerBuilder};
use tickr_postgres::{Builder, PostgresStorage, deadpool_postgres, tokio_postgres};
use tickr_servers::{Address, Cluster};
use tokio::sync::Notify;
use tokio_postgres::{Client, NoTls};

pub(crate) const ORDER: &str = "order";

/// Longer than anything here may take on a busy machine.
const PATIENCE: Duration = secs(60);

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A server for tests that do it no harm: the one that `cargo xtask test` started for the conformance suite, else one of this process.
static SHARED: LazyLock<Address> = LazyLock::new(|| {
    static OWN: OnceLock<Cluster> = OnceLock::new();
    match std::env::var("TICKR_TEST_POSTGRES_URL") {
        Ok(url) => Address::parse(&url).unwrap().0,
        Err(_) => OWN.get_or_init(|| Cluster::builder().start().unwrap()).address(),
    }
});

/// A connection of the application, outside of any pool.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The first value of the answer's first row, as text.
pub(crate) async fn value(client: &Client, query: &str) -> Option<String> {
    let messages = client.simple_query(query).await.unwrap();
    messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// A database of one test; removed with the last clone.
#[derive(Clone)]
pub(crate) struct Database {
    server: Address,
    pub(crate) name: String,
    _removal: Arc<Removal>,
}

/// Leaves the server as it was found: without the database, and without the role that a test may have made for it.
struct Removal {
    server: String,
    name: String,
}

impl Drop for Removal {
    /// On a thread and a runtime of its own: the one of the test is ending.
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let remove = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                // A server of the test's own may be gone already.
                let Ok((client, connection)) = tokio_postgres::connect(&server, NoTls).await else { return };
                tokio::spawn(connection);
                drop(client.batch_execute(&format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await);
                drop(client.batch_execute(&format!("DROP ROLE IF EXISTS \"app {name}\"")).await);
            });
        };
        drop(std::thread::spawn(remove).join());
    }
}

impl Database {
    /// An empty one on the shared server.
    pub(crate) async fn empty() -> Self {
        Self::create(SHARED.clone(), "").await
    }

    /// An empty one on the shared server, in another encoding than UTF8.
    pub(crate) async fn encoded(encoding: &str) -> Self {
        Self::create(SHARED.clone(), &format!("ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")).await
    }

    /// An empty one on a server of the test's own.
    pub(crate) async fn on(cluster: &Cluster) -> Self {
        Self::create(cluster.address(), "").await
    }

    async fn create(server: Address, options: &str) -> Self {
        let name = format!("test {}", MessageId::new());
        let removal = Removal { server: server.url("postgres"), name: name.clone() };
        let database = Self { server, name, _removal: Arc::new(removal) };
        let create = format!("CREATE DATABASE \"{}\" {options}", database.name);
        database.outside().await.batch_execute(&create).await.unwrap();
        database
    }

    pub(crate) async fn migrated() -> (Self, PostgresStorage) {
        let database = Self::empty().await;
        let storage = database.storage();
        tickr_core::Storage::migrate(&storage).await.unwrap();
        (database, storage)
    }

    pub(crate) fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// The URL for another role.
    pub(crate) fn url_of(&self, user: &str) -> String {
        Address { user: user.to_owned(), ..self.server.clone() }.url(&self.name)
    }

    pub(crate) fn builder(&self) -> Builder {
        PostgresStorage::builder().url(&self.url()).unwrap()
    }

    /// A handle with connections of its own, as another process has it.
    pub(crate) fn storage(&self) -> PostgresStorage {
        self.builder().build().unwrap()
    }

    /// A connection of the application.
    pub(crate) async fn client(&self) -> Client {
        connect(&self.url()).await
    }

    /// A pool of the application.
    pub(crate) fn pool(&self, size: usize) -> Pool {
        let manager = Manager::new(self.url().parse().unwrap(), NoTls);
        Pool::builder(manager).max_size(size).build().unwrap()
    }

    /// A connection to another database of the server, which lives on when this one is locked.
    pub(crate) async fn outside(&self) -> Client {
        connect(&self.server.url("postgres")).await
    }

    /// Ends connections of tickr's to this database; how many.
    pub(crate) async fn terminate(&self, outside: &Client, condition: &str) -> u64 {
        let query = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = '{}' AND application_name = 'tickr' AND {condition}",
            self.name
        );
        value(outside, &query).await.unwrap().parse().unwrap()
    }
}

pub(crate) fn message(body: &str) -> Message {
    Message::new(ORDER, body.to_owned())
}

/// Counts calls of a handler, and wakes who waits for them.
#[derive(Clone, Default)]
pub(crate) struct Ran(Arc<(AtomicU64, Notify)>);

impl Ran {
    pub(crate) fn count(&self) -> u64 {
        self.0.0.load(Ordering::SeqCst)
    }

    pub(crate) fn once(&self) {
        self.0.0.fetch_add(1, Ordering::SeqCst);
        self.0.1.notify_waiters();
    }

    /// Waits until the handler was called that often; gives the moment.
    pub(crate) async fn reached(&self, count: u64) -> Instant {
        let reached = async {
            loop {
                let notified = self.0.1.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                if self.count() >= count {
                    return Instant::now();
                }
                notified.await;
            }
        };
        let result = tokio::time::timeout(PATIENCE, reached).await;
        result.unwrap_or_else(|_| panic!("the handler ran {} times, not {count}", self.count()))
    }
}

/// A handler that succeeds.
pub(crate) async fn note(State(ran): State<Ran>) {
    ran.once();
}

/// A worker for orders.
pub(crate) fn worker(storage: &PostgresStorage, ran: &Ran) -> WorkerBuilder {
    Worker::builder(storage.clone()).state(ran.clone()).on(ORDER, note)
}

/// Waits for what other processes do in their own time.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "{what}: in vain");
        tokio::time::sleep(ms(5)).await;
    }
}

/// Waits until every one of so many workers is known to sleep.
pub(crate) async fn asleep(storage: &PostgresStorage, workers: usize) {
    eventually("workers sleep", async || {
        let known = storage.workers().await.unwrap();
        known.len() == workers && known.iter().all(|worker| worker.idle)
    })
    .await;
}

pub(crate) async fn status(storage: &PostgresStorage, id: MessageId) -> Status {
    storage.get(id).await.unwrap().unwrap().status
}

/// Waits until a message stands so.
pub(crate) async fn until(storage: &PostgresStorage, id: MessageId, wanted: Status) {
    eventually(wanted.as_str(), async || status(storage, id).await == wanted).await;
}

/// The invariants of the protocol hold.
pub(crate) async fn sound(storage: &PostgresStorage) {
    assert_eq!(storage.audit().await.unwrap().findings, []);
}
