//! What can be wrong with what tickr is given: for each a kind, what may be repeated, and a sentence that says what to do.

use std::net::TcpListener;
use std::time::Instant;

use tickr_core::{
    Admin, Client, Enqueued, Error, ErrorKind, Handler, Migrated, Retry, SchemaStatus, Selection, State, Status, Storage, Worker,
};
use tickr_postgres::tokio_postgres::{self, NoTls};
use tickr_postgres::{Builder, PostgresStorage};
use tickr_servers::{Address, Cluster, Stop};

use super::support::{Database, ORDER, Ran, asleep, eventually, message, ms, secs, sound, until, value, worker};

const PASSWORD: &str = "s3cret p@ss/word";

fn builder(url: &str) -> Builder {
    PostgresStorage::builder().url(url).unwrap()
}

/// The error says what it must, and nothing of a password.
#[track_caller]
fn says(error: &Error, expected: (ErrorKind, Retry), words: &str) {
    let debugged = format!("{error:#?}");
    assert_eq!((error.kind(), error.retry()), expected, "{debugged}");
    assert!(error.to_string().contains(words), "{words:?} is not in {error}");
    keeps_secrets(&format!("{error} {debugged}"));
}

#[track_caller]
fn keeps_secrets(text: &str) {
    for secret in [PASSWORD, "s3cret", "p%40ss", "wr0ng"] {
        assert!(!text.contains(secret), "{text}");
    }
}

const CONFIG: (ErrorKind, Retry) = (ErrorKind::Config, Retry::Never);
const UNAVAILABLE: (ErrorKind, Retry) = (ErrorKind::Unavailable, Retry::Operation);
const SCHEMA: (ErrorKind, Retry) = (ErrorKind::Migration, Retry::Never);

async fn refused(url: &str) -> Error {
    builder(url).connect().await.unwrap_err()
}

#[tokio::test]
async fn who_may_not_log_in_is_told_why_and_no_password_is_shown() {
    let cluster = Cluster::builder().password(PASSWORD).start().unwrap();
    let url = |user: &str, password: Option<&str>, database: &str| {
        Address { user: user.to_owned(), password: password.map(str::to_owned), ..cluster.address() }.url(database)
    };
    let good = url("postgres", Some(PASSWORD), "postgres");
    keeps_secrets(&format!("{:?}", builder(&good)));
    let storage = builder(&good).connect().await.unwrap();
    keeps_secrets(&format!("{storage:?} {:?}", storage.notifier()));

    let wrong = refused(&url("postgres", Some("wr0ng"), "postgres")).await;
    says(&wrong, CONFIG, "password authentication failed for user \"postgres\"");
    let nobody = refused(&url("nobody", Some(PASSWORD), "postgres")).await;
    says(&nobody, CONFIG, "password authentication failed for user \"nobody\"");
    let none = refused(&url("postgres", None, "postgres")).await;
    says(&none, CONFIG, "the server asks for a password");
    let nowhere = refused(&url("postgres", Some(PASSWORD), "nowhere")).await;
    says(&nowhere, CONFIG, "database \"nowhere\" does not exist");
    // Any operation says the same, not only the first connection.
    let lazy = builder(&url("postgres", Some("wr0ng"), "postgres")).build().unwrap();
    says(&lazy.migrate().await.unwrap_err(), CONFIG, "password authentication failed");
    says(&lazy.notifier().unwrap().listen(&[]).await.unwrap_err(), CONFIG, "password authentication failed");
}

#[tokio::test]
async fn role_that_does_not_exist_is_named() {
    let database = Database::empty().await;
    says(&refused(&database.url_of("nobody")).await, CONFIG, "role \"nobody\" does not exist");
}

#[tokio::test]
async fn server_that_is_not_there_is_unavailable() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    says(&refused(&format!("postgres://app:s3cret@127.0.0.1:{closed}/shop")).await, UNAVAILABLE, "Connection refused");
    says(&refused("postgres://app:s3cret@no-such-host.invalid/shop").await, UNAVAILABLE, "failed to lookup address");
    says(&refused("postgres://app:s3cret@%2Fno%2Fsuch%2Ffolder/shop").await, UNAVAILABLE, "No such file or directory");
}

/// It accepts, and says nothing: a firewall, or a server that is stopped.
#[tokio::test]
async fn server_that_does_not_answer_is_unavailable_after_the_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://app:s3cret@{}/shop", listener.local_addr().unwrap());
    let begun = Instant::now();
    let storage = builder(&url).connect_timeout(ms(300)).build().unwrap();
    let error = storage.migrate().await.unwrap_err();
    assert!(begun.elapsed() < secs(5), "{:?}", begun.elapsed());
    says(&error, UNAVAILABLE, "the server did not answer within 300ms");
    let error = storage.notifier().unwrap().listen(&[]).await.unwrap_err();
    says(&error, UNAVAILABLE, "the server did not answer within 300ms");
    // Also where the operation has less time than connecting.
    let storage = builder(&url).operation_timeout(ms(300)).build().unwrap();
    let error = storage.migrate().await.unwrap_err();
    says(&error, UNAVAILABLE, "the server does not answer");
}

#[tokio::test]
async fn tls_that_the_server_lacks_is_named() {
    let cluster = Cluster::builder().start().unwrap();
    let required = format!("{}?sslmode=require", cluster.url("postgres"));
    says(&refused(&required).await, CONFIG, "sslmode");
}

/// The line of pg_hba.conf that asks for TLS.
fn require_tls(cluster: &mut Cluster) {
    std::fs::write(cluster.folder().join("data/pg_hba.conf"), "local all all trust\nhostssl all all all trust\n").unwrap();
    cluster.stop(Stop::Fast);
    cluster.start().unwrap();
}

#[tokio::test]
async fn tls_that_the_server_requires_is_named() {
    let mut cluster = Cluster::builder().tls().start().unwrap();
    require_tls(&mut cluster);
    let plain = refused(&format!("{}?sslmode=disable", cluster.url("postgres"))).await;
    says(&plain, CONFIG, "no encryption");
    says(&plain, CONFIG, "sslmode");
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
mod tls {
    use tickr_postgres::Tls;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::support::connect;
    use super::*;

    /// The certificate that the server signed itself is trusted where it is named, by name and by address, and elsewhere taken
    /// only by who does not insist.
    async fn verified(tls: Tls) {
        let mut cluster = Cluster::builder().tls().start().unwrap();
        require_tls(&mut cluster);
        let certificate = cluster.certificate().unwrap().display().to_string();
        let encoded = certificate.replace('/', "%2F");
        let another = Cluster::builder().tls().start().unwrap();
        for host in ["localhost", "127.0.0.1"] {
            let url = Address { host: host.to_owned(), ..cluster.address() }.url("postgres");
            let open = |query: &str| PostgresStorage::builder().tls(tls.clone()).pool_size(1).url(&format!("{url}?{query}")).unwrap();
            let storage = open(&format!("sslmode=require&sslrootcert={encoded}")).connect().await.unwrap();
            storage.migrate().await.unwrap();
            // The pool's, that for heartbeats, that for LISTEN.
            let ran = Ran::default();
            let worker = worker(&storage, &ran).build().unwrap().spawn();
            Client::new(storage.clone()).enqueue(message("1")).await.unwrap();
            ran.reached(1).await;
            asleep(&storage, 1).await;
            let socket = connect(&cluster.socket_address().url("postgres")).await;
            let query = "SELECT count(*) FILTER (WHERE NOT ssl) || ' of ' || count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                         WHERE application_name = 'tickr'";
            eventually("three encrypted connections", async || value(&socket, query).await.unwrap() == "0 of 3").await;
            worker.shutdown();
            worker.join().await.unwrap();

            let error = open("sslmode=require").connect().await.unwrap_err();
            says(&error, CONFIG, "certificate");
            says(&error, CONFIG, "sslrootcert");
            // Who does not insist takes the server as it is: this one lets nobody in without encryption.
            for mode in ["sslmode=prefer", ""] {
                open(mode).connect().await.unwrap();
            }
            let other = another.certificate().unwrap().display().to_string().replace('/', "%2F");
            let error = open(&format!("sslmode=prefer&sslrootcert={other}")).connect().await.unwrap_err();
            says(&error, CONFIG, "certificate");
        }
        let url = cluster.url("postgres");
        let open = |file: &str| PostgresStorage::builder().tls(tls.clone()).url(&format!("{url}?sslrootcert={file}")).unwrap();
        says(&open("%2Fno%2Fsuch%2Ffile").build().unwrap_err(), CONFIG, "the certificates that sslrootcert names cannot be used");
        let key = cluster.folder().join("server.key").display().to_string().replace('/', "%2F");
        says(&open(&key).build().unwrap_err(), CONFIG, "the certificates that sslrootcert names cannot be used");
        let error = open(&format!("{encoded}&sslmode=disable")).build().unwrap_err();
        says(&error, CONFIG, "sslmode=disable contradicts sslrootcert");
        declined(&tls, &encoded).await;
    }

    /// A server that declines TLS, or whoever stands between and says so, gets nothing of a client that names certificates: neither
    /// of the pool's connections, nor of those for heartbeats and for LISTEN.
    async fn declined(tls: &Tls, certificates: &str) {
        for query in [format!("sslrootcert={certificates}"), format!("sslmode=prefer&sslrootcert={certificates}")] {
            let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("postgres://app:s3cret@{}/shop?{query}", server.local_addr().unwrap());
            let sent = tokio::spawn(async move {
                let mut sent = Vec::new();
                for _ in 0..2 {
                    let (mut client, _) = server.accept().await.unwrap();
                    let mut request = [0; 8];
                    client.read_exact(&mut request).await.unwrap();
                    assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47], "a request for TLS");
                    client.write_all(b"N").await.unwrap();
                    client.read_to_end(&mut sent).await.unwrap();
                }
                sent
            });
            let storage = PostgresStorage::builder().tls(tls.clone()).url(&url).unwrap().build().unwrap();
            says(&storage.migrate().await.unwrap_err(), CONFIG, "TLS");
            says(&storage.notifier().unwrap().listen(&[]).await.unwrap_err(), CONFIG, "TLS");
            assert_eq!(sent.await.unwrap(), [0; 0], "{query}: something was sent without encryption");
        }
    }

    #[cfg(feature = "rustls")]
    #[tokio::test(flavor = "multi_thread")]
    async fn rustls_verifies_the_server() {
        verified(Tls::Rustls { ca: None }).await;
    }

    #[cfg(feature = "native-tls")]
    #[tokio::test(flavor = "multi_thread")]
    async fn native_tls_verifies_the_server() {
        verified(Tls::Native { ca: None }).await;
    }
}

#[tokio::test]
async fn standby_is_unavailable_for_writing() {
    let mut cluster = Cluster::builder().start().unwrap();
    let database = Database::on(&cluster).await;
    database.storage().migrate().await.unwrap();
    cluster.stop(Stop::Fast);
    std::fs::write(cluster.folder().join("data/standby.signal"), "").unwrap();
    cluster.start().unwrap();
    let storage = database.builder().connect().await.unwrap();
    assert_eq!(storage.schema().await.unwrap(), database.storage().schema().await.unwrap());
    let client = Client::builder(storage.clone()).retries(0).build();
    says(&client.enqueue(message("1")).await.unwrap_err(), UNAVAILABLE, "the server is in recovery or read-only");
    let ran = Ran::default();
    let error = worker(&storage, &ran).build().unwrap().run_once(1).await.unwrap_err();
    says(&error, UNAVAILABLE, "the server is in recovery or read-only");
    says(&storage.notifier().unwrap().listen(&[]).await.unwrap_err(), UNAVAILABLE, "in recovery");
    let primary = format!("{}?target_session_attrs=read-write", database.url());
    says(&refused(&primary).await, UNAVAILABLE, "database does not allow writes");
}

#[tokio::test]
async fn lock_that_is_not_let_go_is_unavailable_before_the_operations_end() {
    let (database, storage) = Database::migrated().await;
    let mut holder = database.client().await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE tickr_messages").await.unwrap();
    let hasty = database.builder().operation_timeout(secs(2)).connect().await.unwrap();
    let client = Client::builder(hasty).retries(0).build();
    let begun = Instant::now();
    let error = client.enqueue(message("1")).await.unwrap_err();
    // The server gave up, so that it is known that nothing was written.
    says(&error, UNAVAILABLE, "statement timeout");
    assert!(begun.elapsed() < secs(2), "{:?}", begun.elapsed());

    let keyed = client.enqueue(message("1").idempotency_key("a")).await.unwrap_err();
    says(&keyed, UNAVAILABLE, "statement timeout");
    // Who does not wait for the answer leaves nobody behind who waits for the lock.
    tokio::time::timeout(ms(100), client.enqueue(message("1"))).await.unwrap_err();
    let watcher = database.outside().await;
    let waiting = format!("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{}'", database.name);
    eventually("nobody waits", async || value(&watcher, &waiting).await.is_none()).await;

    // In the caller's transaction the caller's own limits count.
    let client = Client::new(storage.clone());
    for (limit, words) in [("statement_timeout", "statement timeout"), ("lock_timeout", "lock timeout")] {
        let mut connection = database.client().await;
        let mut tx = connection.transaction().await.unwrap();
        tx.batch_execute(&format!("SET LOCAL {limit} = '50ms'")).await.unwrap();
        let error = client.enqueue_in(&mut tx, message("1")).await.unwrap_err();
        says(&error, (ErrorKind::Unavailable, Retry::Transaction), words);
    }
    lock.rollback().await.unwrap();
    client.enqueue(message("1")).await.unwrap();
}

/// A time limit of the role or the database, as services have them for their own queries, does not reach tickr's.
#[tokio::test]
async fn limits_of_the_database_do_not_reach_own_operations() {
    let (database, _) = Database::migrated().await;
    let mut holder = database.client().await;
    let script = format!("ALTER DATABASE \"{0}\" SET statement_timeout = '20ms'", database.name);
    holder.batch_execute(&script).await.unwrap();
    let storage = database.storage();
    assert_eq!(value(&database.client().await, "SHOW statement_timeout").await.as_deref(), Some("20ms"));
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("SET LOCAL statement_timeout = 0; LOCK TABLE tickr_messages").await.unwrap();
    let enqueued = tokio::spawn({
        let client = Client::builder(storage).retries(0).build();
        async move { client.enqueue(message("1")).await }
    });
    let query =
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND now() - query_start > '60 ms' AND datname = current_database()";
    let watcher = database.outside().await;
    let query = query.replace("current_database()", &format!("'{}'", database.name));
    eventually("it waits for longer than the limit", async || value(&watcher, &query).await.is_some()).await;
    lock.rollback().await.unwrap();
    enqueued.await.unwrap().unwrap();
}

#[tokio::test]
async fn server_without_a_connection_to_spare_is_unavailable() {
    let cluster = Cluster::builder().setting("max_connections", "5").setting("max_wal_senders", "0").start().unwrap();
    let url = cluster.url("postgres");
    let mut clients = Vec::new();
    // Whoever looked whether the server takes connections may still be leaving.
    eventually("all connections are taken", async || {
        if let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
            tokio::spawn(connection);
            clients.push(client);
        }
        clients.len() == 5
    })
    .await;
    says(&refused(&url).await, UNAVAILABLE, "too many clients");
    drop(clients);
    eventually("connections are free again", async || builder(&url).connect().await.is_ok()).await;
}

#[tokio::test]
async fn exhausted_pool_is_unavailable() {
    let (database, _) = Database::migrated().await;
    let pool = database.pool(1);
    let storage = PostgresStorage::builder().pool(pool.clone()).operation_timeout(ms(400)).build().unwrap();
    let taken = pool.get().await.unwrap();
    let client = Client::builder(storage).retries(0).build();
    says(&client.enqueue(message("1")).await.unwrap_err(), UNAVAILABLE, "no connection of the pool became free within 200ms");
    drop(taken);
    client.enqueue(message("1")).await.unwrap();
    pool.close();
    says(&client.enqueue(message("1")).await.unwrap_err(), (ErrorKind::Closed, Retry::Never), "the pool was closed");
}

#[tokio::test]
async fn missing_rights_are_named() {
    let (database, _) = Database::migrated().await;
    let role = format!("app {}", database.name);
    database.client().await.batch_execute(&format!("CREATE ROLE \"{role}\" LOGIN")).await.unwrap();
    let storage = builder(&database.url_of(&role)).connect().await.unwrap();
    let error = Client::new(storage.clone()).enqueue(message("1")).await.unwrap_err();
    says(&error, CONFIG, "the role lacks rights: permission denied for table tickr_");
    let error = worker(&storage, &Ran::default()).build().unwrap().run_once(1).await.unwrap_err();
    says(&error, CONFIG, "the role lacks rights: permission denied for table tickr_");
}

/// End to end: schema and prefix are in every statement, in the channel of NOTIFY, in what the operator reads.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_need_quoting_work_everywhere() {
    async fn picky(State(ran): State<Ran>, message: tickr_core::Raw) -> Result<(), String> {
        ran.once();
        if message.0 == "bad" { Err("refused".to_owned()) } else { Ok(()) }
    }
    let database = Database::empty().await;
    for (schema, prefix) in [("Größe \"M\" $1 %s; --", "q2_"), ("SELECT", "tickr_tickr_"), ("it's\\", "x")] {
        let open = || database.builder().schema(schema).prefix(prefix).build().unwrap();
        let storage = open();
        assert!(matches!(storage.schema().await.unwrap(), SchemaStatus::Missing { .. }));
        let migrated = storage.migrate().await.unwrap();
        assert_eq!((migrated.from, migrated.to), (0, 1));
        assert_eq!(storage.migrate().await.unwrap(), Migrated::new(1));
        let (client, ran) = (Client::new(storage.clone()), Ran::default());
        let worker = Worker::builder(open()).state(ran.clone()).on(ORDER, picky.max_attempts(1)).build().unwrap().spawn();
        asleep(&storage, 1).await;
        let good = client.enqueue(message("good").idempotency_key("k")).await.unwrap();
        assert_eq!(client.enqueue(message("good").idempotency_key("k")).await.unwrap(), Enqueued::Duplicate { existing: good.id() });
        let bad = client.enqueue(message("bad")).await.unwrap().id();
        let mut connection = database.client().await;
        let mut tx = connection.transaction().await.unwrap();
        let mine = client.enqueue_in(&mut tx, message("in a transaction").after(ms(1))).await.unwrap().id();
        tx.commit().await.unwrap();
        ran.reached(3).await;
        until(&storage, good.id(), Status::Success).await;
        until(&storage, mine, Status::Success).await;
        until(&storage, bad, Status::Dead).await;
        assert_eq!(storage.requeue(&Selection::from(bad), tickr_core::Due::After(secs(600))).await.unwrap().done, [bad]);
        assert_eq!(storage.kill(&Selection::from(bad), "enough").await.unwrap().done, [bad]);
        assert_eq!(storage.history(good.id()).await.unwrap().len(), 3);
        worker.shutdown();
        worker.join().await.unwrap();
        sound(&storage).await;
    }
    // Nothing of it is in the schema of the search path.
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(value(&database.client().await, tables).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn missing_schema_says_migrate() {
    let database = Database::empty().await;
    let storage = database.builder().connect().await.unwrap();
    assert!(matches!(storage.schema().await.unwrap(), SchemaStatus::Missing { .. }));
    says(&Client::new(storage.clone()).enqueue(message("1")).await.unwrap_err(), SCHEMA, "call migrate()");
    says(&worker(&storage, &Ran::default()).build().unwrap().run_once(1).await.unwrap_err(), SCHEMA, "call migrate()");
    let mut connection = database.client().await;
    let mut tx = connection.transaction().await.unwrap();
    says(&Client::new(storage).enqueue_in(&mut tx, message("1")).await.unwrap_err(), SCHEMA, "call migrate()");
}

#[tokio::test]
async fn newer_schema_works_if_it_says_so() {
    let (database, storage) = Database::migrated().await;
    let application = database.client().await;
    let newer = async |version: u32, readable_from: u32| {
        let script = format!("INSERT INTO tickr_migrations (version, name, readable_from) VALUES ({version}, 'later', {readable_from})");
        application.batch_execute(&script).await.unwrap();
    };
    newer(98, 1).await;
    assert_eq!(storage.schema().await.unwrap(), SchemaStatus::Current { version: 98 });
    assert_eq!(storage.migrate().await.unwrap(), Migrated::new(98));
    let ran = Ran::default();
    Client::new(storage.clone()).enqueue(message("1")).await.unwrap();
    worker(&storage, &ran).build().unwrap().run_until_idle().await.unwrap();
    assert_eq!(ran.count(), 1);

    newer(99, 99).await;
    assert_eq!(storage.schema().await.unwrap(), SchemaStatus::Newer { version: 99, wanted: 1 });
    let error = worker(&storage, &ran).build().unwrap().run_once(1).await.unwrap_err();
    says(&error, SCHEMA, "the schema has version 99, which this library (version 1) cannot read; update tickr");
}

#[tokio::test]
async fn unknown_option_of_a_url_is_named() {
    let database = Database::empty().await;
    let url = format!("{}?colour=red", database.url().replace("postgres@", "postgres:s3cret@"));
    says(&PostgresStorage::connect(&url).await.unwrap_err(), CONFIG, "colour");
    let url = format!("{}?application_name=shop&connect_timeout=3&pool_size=2", database.url());
    let storage = PostgresStorage::connect(&url).await.unwrap();
    let name = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shop' AND datname = current_database()";
    assert_eq!(value(&database.client().await, name).await.as_deref(), Some("1"));
    drop(storage);
}
