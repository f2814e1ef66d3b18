//! tickr as the benchmarks use it: how it is opened, which settings it works with, and how one sees what it records.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use tickr::adapter::{
    Beat, Capabilities, Claim, ClaimRequest, Heartbeat, Lock, Migration, NewMessage, Notifier, PauseRequest, Promoted, PurgeRequest,
    Purged, ReclaimRequest, Reclaimed, Registration, Retired, SchemaStatus, Settled, Settlement, Stats, StatsRequest, Token, WakeHub,
    WorkerId,
};
use tickr::postgres::PostgresStorage;
use tickr::{AnyAdmin, Enqueued, MemoryStorage, Prefetch, Storage, Timestamp, WorkerBuilder};

/// The event type of every message.
pub(crate) const EVENT_TYPE: &str = "bench";
/// What the benchmarks make anew on PostgreSQL.
pub(crate) const SCHEMA: &str = "tickr_bench";

/// Which settings a worker has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Settings {
    /// What a user gets who sets nothing.
    #[default]
    Defaults,
    /// What the defaults would grow to, from the start, and claims as large as a settle.
    Bench,
}

impl Settings {
    pub(crate) const BENCH: &str = "pool 16, batch 4000, prefetch 8000";

    pub(crate) fn of(self, worker: WorkerBuilder) -> WorkerBuilder {
        match self {
            Self::Defaults => worker,
            Self::Bench => worker.pool(16).batch(4_000).prefetch(Prefetch::Fixed(8_000)),
        }
    }

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Defaults => "defaults",
            Self::Bench => "bench",
        }
    }
}

/// The scheme of a URL, in one spelling.
pub(crate) fn scheme(url: &str) -> String {
    url.split(':').next().unwrap_or_default().replace("postgresql", "postgres")
}

/// The storage as it stands.
pub(crate) async fn open(url: &str) -> Result<AnyAdmin> {
    match scheme(url).as_str() {
        "memory" => Ok(AnyAdmin::new(MemoryStorage::new())),
        "postgres" => Ok(AnyAdmin::new(postgres(url).await?)),
        _ => tickr::connect(url).await.with_context(|| format!("cannot open the storage of scheme {}", scheme(url))),
    }
}

/// The adapter's own type, for the caller's transactions.
pub(crate) async fn postgres(url: &str) -> Result<PostgresStorage> {
    PostgresStorage::builder().url(url)?.schema(SCHEMA).pool_size(20).connect().await.context("cannot connect")
}

/// The storage without what an earlier run left.
pub(crate) async fn fresh(url: &str) -> Result<AnyAdmin> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.trim_start_matches("//");
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{path}{suffix}"));
        }
    }
    if scheme(url) == "postgres" {
        crate::server::connect(url).await?.batch_execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")).await?;
    }
    let storage = open(url).await?;
    storage.migrate().await?;
    Ok(storage)
}

/// How many messages are not finished.
pub(crate) async fn left(storage: &impl Storage) -> Result<u64> {
    let stats = storage.stats(&StatsRequest::default().count_max(100_000_000)).await?;
    Ok(stats.types.iter().map(|of| of.created.n + of.retrying.n + of.handling.n).sum())
}

/// Told of each message whose success was recorded, by the first eight bytes of its body.
pub(crate) type Recorded = Arc<dyn Fn(u64) + Send + Sync>;

/// A storage that tells when successes are recorded: the engine's metrics know how many, but not which.
pub(crate) struct Watched<S> {
    inner: S,
    claimed: Mutex<HashMap<Token, HashMap<u32, u64>>>,
    recorded: Recorded,
}

impl<S> Watched<S> {
    pub(crate) fn new(inner: S, recorded: Recorded) -> Self {
        Self { inner, claimed: Mutex::default(), recorded }
    }

    fn remember(&self, claim: &Claim) {
        let members = claim.messages.iter().filter_map(|message| Some((message.index, number(&message.body.as_ref().ok()?.payload)?)));
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.insert(claim.token, members.collect());
    }

    fn report(&self, batch: &[Settlement], settled: &[Settled]) {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        for (settlement, settled) in batch.iter().zip(settled) {
            let Some(members) = claimed.get_mut(&settlement.token) else { continue };
            for index in settlement.succeeded.intersection(&settled.applied).iter() {
                if let Some(number) = members.remove(&index) {
                    (self.recorded)(number);
                }
            }
            if members.is_empty() {
                claimed.remove(&settlement.token);
            }
        }
    }
}

/// The number that a message carries.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

impl<S: fmt::Debug> fmt::Debug for Watched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S: Storage> Storage for Watched<S> {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn wakeups(&self) -> &WakeHub {
        self.inner.wakeups()
    }

    fn notifier(&self) -> Option<Arc<dyn Notifier>> {
        self.inner.notifier()
    }

    async fn now(&self) -> tickr::Result<Timestamp> {
        self.inner.now().await
    }

    async fn schema(&self) -> tickr::Result<SchemaStatus> {
        self.inner.schema().await
    }

    async fn migrate(&self) -> tickr::Result<tickr::adapter::Migrated> {
        self.inner.migrate().await
    }

    fn migrations(&self) -> &[Migration] {
        self.inner.migrations()
    }

    async fn enqueue(&self, batch: &[NewMessage]) -> tickr::Result<Vec<Enqueued>> {
        self.inner.enqueue(batch).await
    }

    async fn register(&self, registration: &Registration) -> tickr::Result<()> {
        self.inner.register(registration).await
    }

    async fn claim(&self, request: &ClaimRequest) -> tickr::Result<Claim> {
        let claim = self.inner.claim(request).await?;
        if !claim.messages.is_empty() {
            self.remember(&claim);
        }
        Ok(claim)
    }

    async fn settle(&self, batch: &[Settlement]) -> tickr::Result<Vec<Settled>> {
        let settled = self.inner.settle(batch).await?;
        self.report(batch, &settled);
        Ok(settled)
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> tickr::Result<Beat> {
        self.inner.heartbeat(heartbeat).await
    }

    async fn adopt(&self, token: Token) -> tickr::Result<Option<Claim>> {
        self.inner.adopt(token).await
    }

    async fn end_exclusive(&self, token: Token) -> tickr::Result<bool> {
        self.inner.end_exclusive(token).await
    }

    async fn retire(&self, worker: WorkerId, reason: &str) -> tickr::Result<Retired> {
        self.inner.retire(worker, reason).await
    }

    async fn promote(&self, limit: u32) -> tickr::Result<Promoted> {
        self.inner.promote(limit).await
    }

    async fn reclaim(&self, request: &ReclaimRequest) -> tickr::Result<Reclaimed> {
        self.inner.reclaim(request).await
    }

    async fn purge(&self, request: &PurgeRequest) -> tickr::Result<Purged> {
        self.inner.purge(request).await
    }

    async fn stats(&self, request: &StatsRequest) -> tickr::Result<Stats> {
        self.inner.stats(request).await
    }

    async fn pause(&self, request: &PauseRequest) -> tickr::Result<bool> {
        self.inner.pause(request).await
    }

    async fn acquire_lock(&self, name: &str, holder: WorkerId, ttl: Duration) -> tickr::Result<Option<Lock>> {
        self.inner.acquire_lock(name, holder, ttl).await
    }

    async fn renew_lock(&self, lock: &Lock, ttl: Duration) -> tickr::Result<bool> {
        self.inner.renew_lock(lock, ttl).await
    }

    async fn release_lock(&self, lock: &Lock) -> tickr::Result<bool> {
        self.inner.release_lock(lock).await
    }
}
