//! The handle, and what workers and clients need of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tickr_core::{
    Beat, Capabilities, Claim, ClaimRequest, Enqueued, Error, Heartbeat, Lock, MessageId, Migrated, Migration, NewMessage, Notifier,
    PauseRequest, Promoted, PurgeRequest, Purged, ReclaimRequest, Reclaimed, Registration, Result, Retired, SchemaStatus, Settled,
    Settlement, Stats, StatsRequest, Storage, Timestamp, Token, WakeHub, WorkerId, check_batch, check_lease,
};
use tickr_migrations::sqlite::MIGRATIONS;
use tickr_sql::sqlite::{admin, purge as purge_sql};

use crate::application::{self, Application};
use crate::config::{Builder, OpenMode, Settings};
use crate::connection::Purpose;
use crate::deadline::Deadlines;
use crate::executor::Executor;
use crate::file::Open;
use crate::notifier::SqliteNotifier;
use crate::purge::{self, Cursors};
use crate::{claim, enqueue, lock, migrate, pause, settle, stats, upkeep, worker};

/// A queue in an SQLite file. Clones share connections and threads, which end with the last clone.
///
/// Three threads own a connection each: one writes, one extends leases (so that a heartbeat never waits behind other
/// work of this handle), one reads. No async runtime is needed, and none is ever blocked.
///
/// Every operation has a deadline: what cannot get the write lock within the busy timeout fails as `Unavailable`, also when it
/// waited behind others (then within twice that time). When the disk does not answer, SQLite cannot be interrupted: the operation fails
/// as `Indeterminate` after a minute and twice the busy timeout (an audit after an hour), and its thread goes on waiting.
///
/// The threads of a handle do not exist in a forked child: open the storage there. With a handle that was opened before the fork every
/// operation fails as `Closed`.
#[derive(Clone, Debug)]
pub struct SqliteStorage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Builder,
    capabilities: Capabilities,
    wakeups: WakeHub,
    notifier: Arc<SqliteNotifier>,
    cursors: Arc<Mutex<Cursors>>,
    reader: Executor,
    writers: Option<Writers>,
    application: Application,
}

#[derive(Debug)]
struct Writers {
    work: Executor,
    heartbeat: Executor,
}

impl SqliteStorage {
    /// Opens the file at `path` with defaults, and makes it if there is none: short for `builder().path(path).build()`.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn open(path: impl Into<std::path::PathBuf>) -> Result<Self> {
        Self::builder().path(path).build()
    }

    /// Begins a configuration.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Opens what a URL says, without blocking the caller's thread: `sqlite:relative.db` or `sqlite:///absolute/path.db`, with
    /// the options `mode=rwc|rw|ro`, `synchronous=full|normal` and `busy_timeout_ms=5000`, such as
    /// `sqlite:app.db?mode=rw&synchronous=normal`.
    ///
    /// # Errors
    /// `Config` naming the part of the URL that is wrong; else as [`Builder::build`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().url(url)?.connect().await
    }

    /// Opens the file of an application's own connection, over connections of its own. The application goes on using its
    /// connection, and enqueues inside its transactions ([`EnqueueIn`](tickr_core::EnqueueIn)).
    ///
    /// # Errors
    /// `Unsupported` when the connection's database is in memory or temporary; else as [`Builder::build`].
    pub fn from_connection(connection: &rusqlite::Connection) -> Result<Self> {
        match connection.path() {
            Some(path) if !path.is_empty() => Self::open(path),
            _ => Err(crate::config::in_memory()),
        }
    }

    pub(crate) fn start(config: Builder) -> Result<Self> {
        let wakeups = WakeHub::default();
        let deadlines = Arc::new(Deadlines::start(config.busy_timeout)?);
        let start = |name, purpose| Executor::start(name, Open::new(&config, purpose)?, &config, wakeups.clone(), Arc::clone(&deadlines));
        let writers = if config.mode == OpenMode::ReadOnly {
            None
        } else {
            Some(Writers { work: start("tickr-sqlite-write", Purpose::Write)?, heartbeat: start("tickr-sqlite-beat", Purpose::Write)? })
        };
        let reader = start("tickr-sqlite-read", Purpose::Read)?;
        let mut capabilities = Capabilities::all("sqlite");
        capabilities.concurrent_writers = false;
        let notifier = Arc::new(SqliteNotifier::new(config.clone()));
        Ok(Self(Arc::new(Inner {
            config,
            capabilities,
            wakeups,
            notifier,
            cursors: Arc::default(),
            reader,
            writers,
            application: Application::default(),
        })))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.config.settings
    }

    /// Has the thread for transactions of the application do something with its connection.
    pub(crate) fn send_to_application(&self, job: application::Job) -> Result<()> {
        self.0.application.send(&self.0.config, job)
    }

    pub(crate) fn reader(&self) -> &Executor {
        &self.0.reader
    }

    pub(crate) fn writer(&self) -> Result<&Executor> {
        self.writers().map(|writers| &writers.work)
    }

    fn writers(&self) -> Result<&Writers> {
        let read_only = || Error::config(format!("database file {} was opened with mode=ro", self.0.config.path.display()));
        self.0.writers.as_ref().ok_or_else(read_only)
    }

    /// Breaks an invariant on purpose, so that a test sees the audit report it: removes the ready row of a message.
    #[doc(hidden)]
    pub async fn sabotage_remove_ready(&self, id: MessageId) -> Result<bool> {
        let remove = move |scope: &mut crate::scope::Scope<'_>| Ok(scope.prepare(admin::TAKE_READY)?.exists([id.as_bytes().as_slice()])?);
        self.writer()?.run("sabotage", remove).await
    }

    /// Purges kinds in one transaction.
    async fn purge_kinds(&self, request: &PurgeRequest, kinds: &[purge::Kind]) -> Result<Purged> {
        let (request, kinds, shared) = (*request, kinds.to_vec(), Arc::clone(&self.0.cursors));
        let mut cursors = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let work = move |scope: &mut crate::scope::Scope<'_>| {
            let purged = purge::purge(scope, &request, &kinds, &mut cursors)?;
            Ok((purged, cursors))
        };
        let (purged, cursors) = self.writer()?.run("purge", work).await?;
        *shared.lock().unwrap_or_else(PoisonError::into_inner) = cursors;
        Ok(purged)
    }

    /// Breaks an invariant on purpose: removes the body of a message.
    #[doc(hidden)]
    pub async fn sabotage_remove_body(&self, id: MessageId) -> Result<bool> {
        let remove = move |scope: &mut crate::scope::Scope<'_>| Ok(scope.writes(purge_sql::DELETE_BODY, [id.as_bytes().as_slice()])? == 1);
        self.writer()?.run("sabotage", remove).await
    }

    /// Breaks a row on purpose: makes the body of a message unreadable.
    #[doc(hidden)]
    pub async fn sabotage_make_unreadable(&self, id: MessageId) -> Result<bool> {
        let update = move |scope: &mut crate::scope::Scope<'_>| Ok(scope.writes(admin::SABOTAGE_HEADERS, [id.as_bytes().as_slice()])? == 1);
        self.writer()?.run("sabotage", update).await
    }
}

impl Storage for SqliteStorage {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    fn wakeups(&self) -> &WakeHub {
        &self.0.wakeups
    }

    fn notifier(&self) -> Option<Arc<dyn Notifier>> {
        Some(self.0.notifier.clone())
    }

    /// SQLite's clock is this machine's; so is the one of every other process on the file.
    async fn now(&self) -> Result<Timestamp> {
        Ok(self.settings().clock.apply(Timestamp::now()))
    }

    async fn schema(&self) -> Result<SchemaStatus> {
        self.reader().run("schema", |scope| migrate::status(scope)).await
    }

    async fn migrate(&self) -> Result<Migrated> {
        let probe = Box::new(migrate::probe);
        self.writer()?.run_unless("migrate", probe, |scope| migrate::migrate(scope)).await
    }

    fn migrations(&self) -> &[Migration] {
        MIGRATIONS
    }

    async fn enqueue(&self, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
        check_batch(batch)?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let batch = batch.to_vec();
        self.writer()?.run("enqueue", move |scope| enqueue::store(scope, &batch)).await
    }

    async fn register(&self, registration: &Registration) -> Result<()> {
        check_lease(registration.lease)?;
        let registration = registration.clone();
        self.writer()?.run("register", move |scope| worker::register(scope, &registration)).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        request.check()?;
        let request = Arc::new(request.clone());
        let asked = Arc::clone(&request);
        let probe = Box::new(move |scope: &crate::scope::Scope<'_>| claim::probe(scope, &asked));
        self.writer()?.run_unless("claim", probe, move |scope| claim::take(scope, &request)).await
    }

    async fn settle(&self, batch: &[Settlement]) -> Result<Vec<Settled>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let batch = batch.to_vec();
        self.writer()?.run("settle", move |scope| settle::settle(scope, &batch)).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat> {
        check_lease(heartbeat.lease)?;
        let heartbeat = *heartbeat;
        self.writers()?.heartbeat.run("heartbeat", move |scope| worker::beat(scope, &heartbeat)).await
    }

    async fn adopt(&self, token: Token) -> Result<Option<Claim>> {
        self.reader().run("adopt", move |scope| claim::adopt(scope, token)).await
    }

    async fn end_exclusive(&self, token: Token) -> Result<bool> {
        self.writer()?.run("end exclusive", move |scope| worker::end_exclusive(scope, token)).await
    }

    async fn retire(&self, worker: WorkerId, reason: &str) -> Result<Retired> {
        let reason = reason.to_owned();
        let probe = Box::new(move |scope: &crate::scope::Scope<'_>| Ok(worker::is_unknown(scope, worker)?.then(Retired::default)));
        self.writer()?.run_unless("retire", probe, move |scope| worker::retire(scope, worker, &reason)).await
    }

    async fn promote(&self, limit: u32) -> Result<Promoted> {
        let probe = Box::new(upkeep::probe_promote);
        self.writer()?.run_unless("promote", probe, move |scope| upkeep::promote(scope, limit)).await
    }

    async fn reclaim(&self, request: &ReclaimRequest) -> Result<Reclaimed> {
        let request = *request;
        let probe = Box::new(move |scope: &crate::scope::Scope<'_>| upkeep::probe_reclaim(scope, &request));
        self.writer()?.run_unless("reclaim", probe, move |scope| upkeep::reclaim(scope, &request)).await
    }

    async fn purge(&self, request: &PurgeRequest) -> Result<Purged> {
        request.check()?;
        let purged = self.purge_kinds(request, &purge::Kind::ALL).await;
        if purged.as_ref().is_err_and(|error| !error.is_transient()) {
            // Nothing was deleted. One kind must not keep the others: each by itself now.
            let (mut sum, mut first) = (Purged::default(), None);
            for kind in purge::Kind::ALL {
                match self.purge_kinds(request, &[kind]).await {
                    Ok(purged) => purge::add(&mut sum, purged),
                    Err(error) => first = first.or(Some(error)),
                }
            }
            return first.map_or(Ok(sum), Err);
        }
        purged
    }

    async fn stats(&self, request: &StatsRequest) -> Result<Stats> {
        let request = *request;
        self.reader().run("stats", move |scope| stats::sample(scope, &request)).await
    }

    async fn pause(&self, request: &PauseRequest) -> Result<bool> {
        let request = request.clone();
        self.writer()?.run("pause", move |scope| pause::pause(scope, &request)).await
    }

    async fn acquire_lock(&self, name: &str, holder: WorkerId, ttl: Duration) -> Result<Option<Lock>> {
        Lock::check(name, ttl)?;
        let name: Arc<str> = name.into();
        let asked = Arc::clone(&name);
        let probe = Box::new(move |scope: &crate::scope::Scope<'_>| lock::probe_acquire(scope, &asked, holder));
        self.writer()?.run_unless("acquire lock", probe, move |scope| lock::acquire(scope, &name, holder, ttl)).await
    }

    async fn renew_lock(&self, lock: &Lock, ttl: Duration) -> Result<bool> {
        Lock::check(&lock.name, ttl)?;
        let lock = lock.clone();
        self.writer()?.run("renew lock", move |scope| lock::renew(scope, &lock, ttl)).await
    }

    async fn release_lock(&self, lock: &Lock) -> Result<bool> {
        let lock = lock.clone();
        self.writer()?.run("release lock", move |scope| lock::release(scope, &lock)).await
    }
}
