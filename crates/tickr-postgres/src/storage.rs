//! The handle, and what workers and clients need of it.

use std::slice;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deadpool_postgres::Pool;
use tickr_core::{
    Beat, Capabilities, Claim, ClaimRequest, Enqueued, Error, Heartbeat, Lock, MessageId, Migrated, Migration, NewMessage, Notifier,
    PauseRequest, Promoted, PurgeRequest, Purged, ReclaimRequest, Reclaimed, Registration, Result, Retired, SchemaStatus, Settled,
    Settlement, Stats, StatsRequest, Storage, Timestamp, Token, WakeHub, WorkerId, check_batch, check_lease,
};
use tickr_migrations::postgres::{MIGRATIONS, PARTITIONED};
use tickr_sql::postgres::{Names, Statement, admin};
use tokio_postgres::types::Type;

use crate::claim::Starts;
use crate::config::{Builder, Settings};
use crate::connection::{Beats, Connector};
use crate::error::Fault;
use crate::executor::{Executor, Plan};
use crate::floor::Ladder;
use crate::notifier::PostgresNotifier;
use crate::promotion::PromoteFloor;
use crate::purge::Cursors;
use crate::singles::{self, Singles};
use crate::{claim, enqueue, lock, migrate, partition, pause, purge, sequence, settle, stats, upkeep, worker};

/// A queue in a PostgreSQL database. Clones share connections.
///
/// Statements go through a pool, one connection of which is enough. A running worker has two connections besides: one for
/// heartbeats, so that a lease is extended while the pool is exhausted, and one that listens for NOTIFY. No operation needs
/// a session, so that all but listening works through a pooler in transaction mode.
///
/// Every operation has a deadline ([`Builder::operation_timeout`]; an hour for migrations and audits); a little earlier the server
/// gives up itself.
#[derive(Clone, Debug)]
pub struct PostgresStorage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    executor: Arc<Executor>,
    settings: Settings,
    channel: String,
    partition_period: Option<Duration>,
    capabilities: Capabilities,
    wakeups: WakeHub,
    notifier: Option<Arc<PostgresNotifier>>,
    singles: Arc<Singles>,
    beats: Beats,
    ladder: Ladder,
    promote_floor: Mutex<PromoteFloor>,
    cursors: Mutex<Cursors>,
}

impl PostgresStorage {
    /// Connects to what a URL says: `postgres://user:password@host:5432/database?sslmode=require`, as the driver reads it
    /// ([`tokio_postgres::Config`]), with options of tickr: `schema`, `prefix`, `pool_size`, `listen=on|off`,
    /// `prepared_statements=on|off`, `operation_timeout_ms`, `sslrootcert`.
    ///
    /// # Errors
    /// As [`Builder::url`] and [`Builder::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().url(url)?.connect().await
    }

    /// Uses the application's own pool, with defaults. See [`Builder::pool`] for what a pool cannot do, and how a URL adds it.
    ///
    /// # Errors
    /// None for defaults; see [`Builder::build`].
    pub fn from_pool(pool: Pool) -> Result<Self> {
        Self::builder().pool(pool).build()
    }

    /// The pool that the storage uses: its own, or the one that [`Builder::pool`] was given. The application may use it for its own
    /// transactions, so that it needs neither a second pool nor a second URL. A statement of the queue waits for a free connection
    /// for half of [`Builder::operation_timeout`], so size the pool for both ([`Builder::pool_size`]).
    ///
    /// ```no_run
    /// # use tickr_core::{BoxError, Client, Message};
    /// # use tickr_postgres::PostgresStorage;
    /// async fn place(client: &Client<PostgresStorage>) -> Result<(), BoxError> {
    ///     let mut db = client.storage().pool().get().await?;
    ///     let mut tx = db.transaction().await?;
    ///     tx.execute("INSERT INTO orders DEFAULT VALUES", &[]).await?;
    ///     client.enqueue_in(&mut tx, Message::new("order.placed", "7")).await?;
    ///     Ok(tx.commit().await?)
    /// }
    /// ```
    pub fn pool(&self) -> &Pool {
        self.executor().lend_pool()
    }

    /// Begins a configuration.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn start(builder: Builder) -> Result<Self> {
        let names = Names::new(builder.schema.as_deref(), &builder.prefix)?;
        let connector = Connector::new(&builder)?;
        let is_lent = builder.pool.is_some();
        let pool = match (builder.pool, &connector) {
            (Some(pool), _) => pool,
            (None, Some(connector)) => connector.pool(builder.pool_size)?,
            (None, None) => return Err(Error::config("no server: set a URL, a configuration or a pool")),
        };
        let settings = builder.settings;
        let executor = Arc::new(Executor::new(pool, connector.clone(), names.clone(), &settings, builder.operation_timeout));
        if is_lent {
            executor.lend_pool();
        }
        let channel = names.channel();
        let notifier = connector.filter(|_| builder.listen).map(|connector| {
            let (executor, channel) = (Arc::clone(&executor), channel.clone());
            Arc::new(PostgresNotifier { executor, connector, channel, limit: builder.operation_timeout })
        });
        let mut capabilities = Capabilities::all("postgres");
        capabilities.notify = notifier.is_some();
        let singles = Singles::new(Arc::clone(&executor), settings.clock.clone(), channel.clone());
        let ladder = Ladder::new(settings.clock.clone());
        Ok(Self(Arc::new(Inner {
            executor,
            settings,
            channel,
            partition_period: builder.partition_period,
            capabilities,
            wakeups: WakeHub::default(),
            notifier,
            singles,
            beats: Beats::default(),
            ladder,
            promote_floor: Mutex::default(),
            cursors: Mutex::default(),
        })))
    }

    /// How many rows are in default partitions, up to 100,000 a table: a figure to watch in the partitioned layout. More than a few
    /// mean that clocks of clients are off, or that nobody makes partitions (workers do when they purge, if their role may).
    ///
    /// # Errors
    /// `Migration` in the plain layout; else what the server says.
    pub async fn default_partition_rows(&self) -> Result<u64> {
        self.executor().run("default partitions", partition::default_rows(self.executor())).await
    }

    async fn migrate_and_prepare(&self) -> std::result::Result<Migrated, Fault> {
        let migrations = Storage::migrations(self);
        let migrated = migrate::migrate(self.executor(), migrations, self.0.partition_period).await?;
        sequence::look(self.executor()).await?;
        if migrated.from != migrated.to {
            partition::upkeep(self.executor(), self.offset()).await?;
        }
        Ok(migrated)
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        self.executor().run("connect", stats::now(self.executor(), 0)).await.map(drop)
    }

    pub(crate) fn executor(&self) -> &Executor {
        &self.0.executor
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn channel(&self) -> &str {
        &self.0.channel
    }

    pub(crate) fn offset(&self) -> i64 {
        self.settings().clock.as_micros()
    }

    /// Breaks an invariant on purpose, so that a test sees the audit report it: removes the ready row of a message.
    #[doc(hidden)]
    pub async fn sabotage_remove_ready(&self, id: MessageId) -> Result<bool> {
        self.sabotage(admin::SABOTAGE_READY, id).await
    }

    /// Breaks an invariant on purpose: removes the body of a message.
    #[doc(hidden)]
    pub async fn sabotage_remove_body(&self, id: MessageId) -> Result<bool> {
        self.sabotage(admin::SABOTAGE_BODY, id).await
    }

    /// Breaks a row on purpose: makes the body of a message unreadable.
    #[doc(hidden)]
    pub async fn sabotage_make_unreadable(&self, id: MessageId) -> Result<bool> {
        self.sabotage(admin::SABOTAGE_HEADERS, id).await
    }

    async fn sabotage(&self, statement: Statement, id: MessageId) -> Result<bool> {
        let params = [(id.as_uuid() as _, Type::UUID)];
        let rows = self.executor().run("sabotage", self.executor().once(Plan::Indexed, statement, &params)).await?;
        Ok(rows.len() == 1)
    }
}

impl Storage for PostgresStorage {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    fn wakeups(&self) -> &WakeHub {
        &self.0.wakeups
    }

    fn notifier(&self) -> Option<Arc<dyn Notifier>> {
        self.0.notifier.clone().map(|notifier| notifier as Arc<dyn Notifier>)
    }

    async fn now(&self) -> Result<Timestamp> {
        self.executor().run("now", stats::now(self.executor(), self.offset())).await
    }

    async fn schema(&self) -> Result<SchemaStatus> {
        let executor = self.executor();
        executor.run("schema", executor.on_another(|| migrate::status(executor))).await
    }

    async fn migrate(&self) -> Result<Migrated> {
        self.executor().run_long("migrate", self.executor().on_another(|| self.migrate_and_prepare())).await
    }

    fn migrations(&self) -> &[Migration] {
        if self.0.partition_period.is_some() { PARTITIONED } else { MIGRATIONS }
    }

    async fn enqueue(&self, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
        check_batch(batch)?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let chunks = enqueue::chunks(batch).map_err(|fault| fault.during("enqueue"))?;
        if let Some(message) = singles::single(batch) {
            self.executor().run("enqueue", self.0.singles.store(message)).await?;
            self.wakeups().wake(slice::from_ref(message.event_type()));
            return Ok(vec![Enqueued::Stored { id: message.id() }]);
        }
        let (executor, settings, channel) = (self.executor(), self.settings(), self.channel());
        let (results, made_ready) = if chunks.len() == 1 {
            executor.run("enqueue", enqueue::store(executor, settings, channel, batch)).await?
        } else {
            let store = || enqueue::store_chunks(executor, settings, channel, &chunks);
            executor.run_steps("enqueue", sequence::again_if_repaired(executor, store)).await?
        };
        self.wakeups().wake(&made_ready);
        Ok(results)
    }

    async fn register(&self, registration: &Registration) -> Result<()> {
        check_lease(registration.lease)?;
        if let Err(error) = self.executor().run("check sequences", sequence::look(self.executor())).await {
            tracing::warn!(%error, "sequences could not be compared with their rows");
        }
        self.executor().run("register", worker::register(self.executor(), self.offset(), registration)).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        request.check()?;
        let starts = Starts { ladder: &self.0.ladder, promotions: &self.0.promote_floor };
        let take = claim::take(self.executor(), starts, self.offset(), request);
        self.executor().run("claim", take).await
    }

    async fn settle(&self, batch: &[Settlement]) -> Result<Vec<Settled>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.executor().run("settle", settle::settle(self.executor(), self.settings(), self.channel(), batch)).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat> {
        check_lease(heartbeat.lease)?;
        let connection = self.0.beats.here();
        self.executor().run("heartbeat", worker::beat(self.executor(), &connection, &self.0.ladder, self.offset(), heartbeat)).await
    }

    async fn adopt(&self, token: Token) -> Result<Option<Claim>> {
        self.executor().run("adopt", claim::adopt(self.executor(), token)).await
    }

    async fn end_exclusive(&self, token: Token) -> Result<bool> {
        self.executor().run("end exclusive", worker::end_exclusive(self.executor(), token)).await
    }

    async fn retire(&self, worker: WorkerId, reason: &str) -> Result<Retired> {
        let work = worker::retire(self.executor(), self.settings(), self.channel(), worker, reason);
        self.executor().run("retire", work).await
    }

    async fn promote(&self, limit: u32) -> Result<Promoted> {
        let (timer, floor) = (&self.0.ladder.timer, &self.0.promote_floor);
        let executor = self.executor();
        let work = executor.on_another(|| upkeep::promote(executor, timer, floor, self.settings(), self.channel(), limit));
        let (promoted, made_ready) = executor.run("promote", work).await?;
        self.wakeups().wake(&made_ready);
        Ok(promoted)
    }

    async fn reclaim(&self, request: &ReclaimRequest) -> Result<Reclaimed> {
        let executor = self.executor();
        let work = executor.on_another(|| upkeep::reclaim(executor, self.settings(), self.channel(), request));
        executor.run("reclaim", work).await
    }

    async fn purge(&self, request: &PurgeRequest) -> Result<Purged> {
        request.check()?;
        // What lacks a partition goes to the default one: no reason to keep what its retention has passed.
        if let Err(error) = self.executor().run("partitions", partition::upkeep(self.executor(), self.offset())).await {
            tracing::warn!(%error, "partitions were not brought up to date");
        }
        // Rare, and a scan of a table that others may keep long: once a purge instead of with each reclaim.
        if let Err(error) = self.executor().run("unowned claims", upkeep::condemn_unowned(self.executor(), self.offset())).await {
            tracing::warn!(%error, "claims of workers without a row were not looked for");
        }
        self.executor().run("purge", purge::purge(self.executor(), self.settings(), &self.0.cursors, request)).await
    }

    async fn stats(&self, request: &StatsRequest) -> Result<Stats> {
        self.executor().run("stats", stats::sample(self.executor(), self.offset(), request)).await
    }

    async fn pause(&self, request: &PauseRequest) -> Result<bool> {
        self.executor().run("pause", pause::pause(self.executor(), self.offset(), request)).await
    }

    async fn acquire_lock(&self, name: &str, holder: WorkerId, ttl: Duration) -> Result<Option<Lock>> {
        Lock::check(name, ttl)?;
        self.executor().run("acquire lock", lock::acquire(self.executor(), self.offset(), name, holder, ttl)).await
    }

    async fn renew_lock(&self, lock: &Lock, ttl: Duration) -> Result<bool> {
        Lock::check(&lock.name, ttl)?;
        self.executor().run("renew lock", lock::extend(self.executor(), self.offset(), lock, ttl)).await
    }

    async fn release_lock(&self, lock: &Lock) -> Result<bool> {
        self.executor().run("release lock", lock::extend(self.executor(), self.offset(), lock, Duration::ZERO)).await
    }
}
