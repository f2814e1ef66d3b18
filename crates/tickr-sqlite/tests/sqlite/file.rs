//! Files that cannot be used, and what the error says.

use std::time::Duration;

use rusqlite::TransactionBehavior;
use tickr_core::{
    Admin, ErrorKind, ListQuery, Message, PurgeRequest, ReclaimRequest, Retention, SchemaStatus, Selection, StatsRequest, Status, Storage,
};
use tickr_sqlite::{OpenMode, SqliteStorage, Transactions};

use crate::{Database, all_ok, eventually, message, now, request, worker};

#[tokio::test]
async fn read_only_handle_looks_and_never_writes() {
    let (database, storage) = Database::migrated().await;
    storage.enqueue(&[message("1")]).await.unwrap();
    let looking = SqliteStorage::connect(&format!("sqlite:{}?mode=ro", database.path().display())).await.unwrap();
    assert_eq!(looking.schema().await.unwrap(), SchemaStatus::Current { version: 1 });
    assert_eq!(looking.stats(&StatsRequest::default()).await.unwrap().total(Status::Created).n, 1);
    let error = looking.enqueue(&[message("2")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("app.db was opened with mode=ro"), "{error}");
}

#[tokio::test]
async fn write_protected_file_is_named() {
    let (database, storage) = Database::migrated().await;
    drop(storage);
    eventually("the last connection closes", || !database.path().with_extension("db-wal").exists()).await;
    let mut permissions = std::fs::metadata(database.path()).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(database.path(), permissions).unwrap();
    // The superuser may write anyway.
    if std::fs::OpenOptions::new().write(true).open(database.path()).is_ok() {
        return;
    }
    let error = SqliteStorage::open(database.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("app.db is read-only"), "{error}");
}

#[test]
fn missing_file_and_folder_are_named() {
    let database = Database::empty();
    let error = SqliteStorage::builder().path(database.path()).mode(OpenMode::ReadWrite).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("app.db: it does not exist; only the mode `rwc`"), "{error}");
    let error = SqliteStorage::open(database.folder.path().join("nowhere/app.db")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("nowhere/app.db: the folder "), "{error}");
    assert!(error.to_string().ends_with("nowhere does not exist; make it first"), "{error}");
    let error = SqliteStorage::open(database.folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().ends_with("it is a folder; name a file in it"), "{error}");
}

#[test]
fn file_that_an_application_writes_to_is_waited_for() {
    const PATIENCE: Duration = Duration::from_millis(200);
    let database = Database::empty();
    let mut application = database.connection();
    application.execute_batch("CREATE TABLE orders (id INTEGER)").unwrap();
    let business = application.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let open = || SqliteStorage::builder().path(database.path()).busy_timeout(PATIENCE).build();
    let start = now();
    assert_eq!(open().unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(start.elapsed() >= PATIENCE, "given up after {:?}", start.elapsed());
    business.commit().unwrap();
    open().unwrap();
}

#[test]
fn another_kind_of_file_is_corrupt() {
    let database = Database::empty();
    std::fs::write(database.path(), "This is a text, and it is long enough to be taken for a header. ".repeat(20)).unwrap();
    let error = SqliteStorage::open(database.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("not an SQLite database"), "{error}");
}

#[test]
fn connection_in_memory_is_unsupported() {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    assert_eq!(SqliteStorage::from_connection(&connection).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn full_database_refuses_and_loses_nothing() {
    let (database, storage) = Database::migrated().await;
    drop(storage);
    let limited = SqliteStorage::builder().path(database.path()).max_page_count(100).build().unwrap();
    let mut stored = 0;
    let error = loop {
        match limited.enqueue(&[message(&"x".repeat(10_000)), message("small")]).await {
            Ok(results) => stored += results.len() as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_transient() && error.to_string().contains("the disk of the database file is full"), "{error}");
    assert!(stored > 0);
    drop(limited);

    let storage = SqliteStorage::open(database.path()).unwrap();
    assert_eq!(storage.stats(&StatsRequest::default()).await.unwrap().total(Status::Created).n, stored);
    let worker = worker(&storage).await;
    let claim = storage.claim(&request(worker, 1_000)).await.unwrap();
    assert_eq!(u64::from(claim.members), stored);
    storage.settle(&[all_ok(&claim)]).await.unwrap();
    assert!(storage.audit().await.unwrap().findings.is_empty());
}

#[tokio::test]
async fn files_of_a_dropped_handle_are_closed() {
    let (database, storage) = Database::migrated().await;
    let clone = storage.clone();
    drop(storage);
    clone.enqueue(&[message("1")]).await.unwrap();
    drop(clone);
    // SQLite removes the log with the last connection.
    eventually("the threads end", || !database.path().with_extension("db-wal").exists()).await;
}

/// Another connection has the file alone, and no write-ahead log is on yet: the storage waits until the log can be switched on.
#[tokio::test]
async fn file_that_is_in_use_for_a_moment_is_opened() {
    let database = Database::empty();
    let mut other = database.connection();
    other.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY)").unwrap();
    let tx = other.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).unwrap();
    let path = database.path();
    let opening = tokio::task::spawn_blocking(move || SqliteStorage::open(path).map(drop));
    crate::pause(Duration::from_millis(100)).await;
    assert!(!opening.is_finished());
    tx.commit().unwrap();
    opening.await.unwrap().unwrap();
}

/// Another connection is writing: a reclaimer that finds every worker alive waits for nobody.
#[tokio::test]
async fn reclaim_of_nobody_needs_no_lock() {
    let (database, storage) = Database::migrated().await;
    worker(&storage).await;
    let storage = SqliteStorage::builder().path(database.path()).busy_timeout(Duration::from_millis(1)).build().unwrap();
    let mut other = database.connection();
    let _writing = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let reclaimed = storage.reclaim(&ReclaimRequest::condemning(10)).await.unwrap();
    assert_eq!((reclaimed.condemned, reclaimed.claims), (0, 0));
}

#[test]
fn busy_timeout_has_bounds() {
    let database = Database::empty();
    let error = SqliteStorage::builder().path(database.path()).busy_timeout(Duration::ZERO).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

/// The counter of places comes from an older copy of the file, or was set by hand.
#[tokio::test]
async fn counter_behind_its_rows_is_set_behind_them() {
    let (database, storage) = Database::migrated().await;
    let restart = || {
        let connection = rusqlite::Connection::open(database.path()).unwrap();
        connection.execute("UPDATE tickr_counters SET value = 3 WHERE name = 'seq'", []).unwrap();
    };
    let batch: Vec<_> = (0..10).map(|_| message("1")).collect();
    storage.enqueue(&batch).await.unwrap();
    restart();
    storage.enqueue(&[message("2")]).await.unwrap();
    restart();
    let batch: Vec<_> = (0..10).map(|_| message("3")).collect();
    storage.enqueue(&batch).await.unwrap();
    restart();
    let id = batch[0].id();
    assert_eq!(storage.kill(&tickr_core::Selection::from(id), "test").await.unwrap().done, [id]);
    restart();
    assert_eq!(storage.requeue(&tickr_core::Selection::from(id), tickr_core::Due::Now).await.unwrap().done, [id]);
    assert_eq!(storage.audit().await.unwrap().findings, []);
    assert_eq!(storage.stats(&StatsRequest::default()).await.unwrap().total(Status::Created).n, 21);
}

/// A trigger keeps one body: the other kinds are purged all the same, and the error is the answer.
#[tokio::test]
async fn kind_that_cannot_be_purged_keeps_no_other() {
    let (database, storage) = Database::migrated().await;
    storage.enqueue(&[message("kept")]).await.unwrap();
    let worker = worker(&storage).await;
    let claim = storage.claim(&request(worker, 10)).await.unwrap();
    storage.settle(&[all_ok(&claim)]).await.unwrap();
    let dead = message("dead");
    storage.enqueue(std::slice::from_ref(&dead)).await.unwrap();
    storage.kill(&Selection::from(dead.id()), "enough").await.unwrap();
    let keep = "CREATE TRIGGER keep BEFORE DELETE ON tickr_messages WHEN OLD.payload = CAST('kept' AS BLOB)
                BEGIN SELECT RAISE(ABORT, 'it is kept'); END";
    database.connection().execute_batch(keep).unwrap();
    let mut retention = Retention::default();
    (retention.success, retention.dead, retention.history) = (Duration::ZERO, Some(Duration::ZERO), Some(Duration::ZERO));
    let error = storage.purge(&PurgeRequest::default().retention(retention)).await.unwrap_err();
    assert!(error.to_string().contains("it is kept"), "{error}");
    let count =
        |table: &str| -> i64 { database.connection().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap() };
    assert_eq!((count("tickr_dead"), count("tickr_messages"), count("tickr_transitions")), (0, 1, 0));
}

/// A file whose pages are damaged is reported as such by every operation that meets one: repeating it is in vain.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_corrupt_and_not_unavailable() {
    let (database, storage) = Database::migrated().await;
    let batch: Vec<_> = (0..500).map(|n| message(&format!("{n:02000}"))).collect();
    storage.enqueue(&batch).await.unwrap();
    drop(storage);
    database.connection().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let mut bytes = std::fs::read(database.path()).unwrap();
    // The second half: the newest bodies, but neither the schema nor the roots of the tables.
    let half = bytes.len() / 2 / 4_096 * 4_096;
    bytes[half..].fill(0xA5);
    std::fs::write(database.path(), bytes).unwrap();
    let storage = SqliteStorage::open(database.path()).unwrap();
    let errors = [
        storage.list(&ListQuery::default()).await.unwrap_err(),
        storage.get(batch[450].id()).await.unwrap_err(),
        storage.enqueue(&[message("new")]).await.unwrap_err(),
        storage.audit().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Corrupt, false), "{error}");
    }
}

/// A relative path means the file that it meant when the storage was opened, for every connection that is opened later.
#[tokio::test(flavor = "multi_thread")]
async fn relative_path_is_resolved_once() {
    let (first, second) = (Database::empty(), Database::empty());
    let before = std::env::current_dir().unwrap();
    std::env::set_current_dir(first.path().parent().unwrap()).unwrap();
    let storage = SqliteStorage::open("app.db").unwrap();
    let connected = SqliteStorage::connect("sqlite:app.db").await.unwrap();
    storage.migrate().await.unwrap();
    std::env::set_current_dir(second.path().parent().unwrap()).unwrap();
    // The notifier opens its connection only now.
    let types = [crate::order()];
    let mut listener = storage.notifier().unwrap().listen(&types).await.unwrap();
    connected.enqueue(&[message("x")]).await.unwrap();
    listener.next().await.unwrap();
    assert_eq!(std::fs::read_dir(second.path().parent().unwrap()).unwrap().count(), 0, "no file appears in the other directory");
    std::env::set_current_dir(before).unwrap();
}

/// Moves a database with one message to the place of the one that is open, and gives the message.
#[cfg(unix)]
async fn replace(database: &Database) -> tickr_core::MessageId {
    let (other, storage) = Database::migrated().await;
    let restored = message("restored");
    storage.enqueue(std::slice::from_ref(&restored)).await.unwrap();
    drop(storage);
    eventually("the last connection closes", || !other.path().with_extension("db-wal").exists()).await;
    for extension in ["db-wal", "db-shm"] {
        std::fs::remove_file(database.path().with_extension(extension)).unwrap();
    }
    std::fs::rename(other.path(), database.path()).unwrap();
    restored.id()
}

/// A backup is moved to the place of the open file: an idle worker goes on with it, and what is answered as stored is in it.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn worker_follows_a_file_that_was_replaced() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tickr_core::{Client, Worker};
    let (database, storage) = Database::migrated().await;
    let ran = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&ran);
    let handler = move || {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(())
    };
    let worker = Worker::builder(storage.clone()).lease(Duration::from_secs(3)).on(crate::ORDER, handler).build().unwrap();
    let worker = worker.spawn();
    let client = Client::new(storage.clone());
    client.enqueue(Message::new(crate::ORDER, "before")).await.unwrap();
    eventually("the worker works", || ran.load(Ordering::SeqCst) == 1).await;
    let restored = replace(&database).await;
    eventually("the restored message is handled", || ran.load(Ordering::SeqCst) == 2).await;
    let stored = client.enqueue(Message::new(crate::ORDER, "after")).await.unwrap();
    eventually("the new message is handled", || ran.load(Ordering::SeqCst) == 3).await;
    let client = client.transaction(|tx| tx.enqueue(Message::new(crate::ORDER, "in a transaction"))).await.unwrap();
    eventually("the last message is handled", || ran.load(Ordering::SeqCst) == 4).await;
    worker.shutdown();
    worker.join().await.unwrap();
    let fresh = SqliteStorage::open(database.path()).unwrap();
    for id in [restored, stored.id(), client.id()] {
        let status = fresh.get(id).await.unwrap().map(|message| message.status);
        assert_eq!(status, Some(Status::Success), "it is in the file that others open");
    }
    assert_eq!(fresh.audit().await.unwrap().findings, []);
}

/// No file, or one beside which the log of the old one was left: nothing is answered as stored, and the error says what to do.
#[cfg(unix)]
#[tokio::test]
async fn file_that_is_gone_or_half_replaced_is_named() {
    let (database, storage) = Database::migrated().await;
    let kept = database.path().with_extension("kept");
    std::fs::rename(database.path(), &kept).unwrap();
    let error = storage.enqueue(&[message("1")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_transient() && error.to_string().contains("app.db was removed while it was open"), "{error}");
    assert!(!database.path().exists(), "no empty file takes its place");

    std::fs::copy(&kept, database.path()).unwrap();
    let error = storage.stats(&StatsRequest::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("app.db-wal and"), "{error}");

    std::fs::rename(&kept, database.path()).unwrap();
    storage.enqueue(&[message("2")]).await.unwrap();
    assert_eq!(storage.stats(&StatsRequest::default()).await.unwrap().total(Status::Created).n, 1, "the same file is back");
}

/// A backup is moved to the place of the file, and the log of the old one stays beside it: SQLite would copy it into the backup. It is
/// recognized although there was no log yet when the file was opened.
#[cfg(unix)]
#[tokio::test]
async fn log_that_is_left_beside_a_backup_is_never_copied_into_it() {
    for opened in ["new", "again", "by a link"] {
        let (database, storage) = Database::migrated().await;
        let storage = if opened == "new" {
            storage
        } else {
            drop(storage);
            eventually("the last connection closes", || !database.path().with_extension("db-wal").exists()).await;
            let link = database.folder.path().join("link.db");
            std::os::unix::fs::symlink(database.path(), &link).unwrap();
            SqliteStorage::open(if opened == "again" { database.path() } else { link }).unwrap()
        };
        storage.enqueue(&[message("1")]).await.unwrap();
        let (other, backup) = Database::migrated().await;
        drop(backup);
        eventually("the last connection closes", || !other.path().with_extension("db-wal").exists()).await;
        let bytes = std::fs::read(other.path()).unwrap();
        std::fs::rename(other.path(), database.path()).unwrap();
        for _ in 0..3 {
            let error = storage.enqueue(&[message("2")]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.to_string().contains("db-wal and"), "{opened}: {error}");
            assert_eq!(storage.stats(&StatsRequest::default()).await.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        drop(storage);
        assert!(std::fs::read(database.path()).unwrap() == bytes, "the backup is as it was");
    }
}

/// What is answered as stored after the log was removed is in the log that a process after this one finds.
#[cfg(unix)]
#[tokio::test]
async fn log_that_was_removed_is_written_anew() {
    let (database, storage) = Database::migrated().await;
    database.connection().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    for extension in ["db-wal", "db-shm"] {
        std::fs::remove_file(database.path().with_extension(extension)).unwrap();
    }
    let stored = message("after");
    storage.enqueue(std::slice::from_ref(&stored)).await.unwrap();
    // As the disk is if this process is killed now.
    let copy = Database::empty();
    for extension in ["db", "db-wal"] {
        std::fs::copy(database.path().with_extension(extension), copy.path().with_extension(extension)).unwrap();
    }
    let found = SqliteStorage::open(copy.path()).unwrap().get(stored.id()).await.unwrap();
    assert!(found.is_some());
}

/// What is committed to a file while it is replaced is not answered as stored.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn commit_to_a_file_that_was_replaced_meanwhile_is_in_doubt() {
    let (database, storage) = Database::migrated().await;
    let client = tickr_core::Client::new(storage);
    let path = database.path();
    let moved: tickr_core::Result<()> = client
        .transaction(move |tx| {
            tx.enqueue(Message::new(crate::ORDER, "lost"))?;
            std::fs::rename(&path, path.with_extension("moved")).unwrap();
            Ok(())
        })
        .await;
    assert_eq!(moved.unwrap_err().kind(), ErrorKind::Indeterminate);
}
