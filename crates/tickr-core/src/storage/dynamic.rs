//! One erased mirror of the traits, so that the engine compiles once and tools take any storage.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Acted, Admin, Audit, Beat, Capabilities, Claim, ClaimRequest, DeadLetter, DeadQuery, Enqueued, Heartbeat, ListQuery, Lock,
    MessageRecord, Migrated, Migration, Page, Pause, PauseRequest, PauseScope, Promoted, PurgeRequest, Purged, ReclaimRequest, Reclaimed,
    Registration, Retired, SchemaStatus, Selection, Settled, Settlement, Stats, StatsRequest, Storage, WorkerRecord,
};
use crate::error::Result;
use crate::id::{MessageId, Token, WorkerId};
use crate::message::{Due, NewMessage};
use crate::notify::{Notifier, WakeHub};
use crate::status::Transition;
use crate::time::Timestamp;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Any [`Storage`], erased. It is itself a [`Storage`]; cheap to clone.
///
/// A type of its own rather than a bare `Arc<dyn DynStorage>`: inside a spawned future the compiler would ask for an
/// impl for `dyn DynStorage + 'a` of every lifetime.
#[derive(Clone, Debug)]
pub struct AnyStorage(Arc<dyn DynStorage>);

impl AnyStorage {
    /// Erases `storage`.
    pub fn new(storage: impl Storage) -> Self {
        Self(Arc::new(storage))
    }
}

impl From<AnyAdmin> for AnyStorage {
    fn from(admin: AnyAdmin) -> Self {
        Self(admin.0)
    }
}

/// Any [`Admin`], erased. It is itself an [`Admin`]; cheap to clone.
#[derive(Clone, Debug)]
pub struct AnyAdmin(Arc<dyn DynAdmin>);

impl AnyAdmin {
    /// Erases `storage`.
    pub fn new(storage: impl Admin) -> Self {
        Self(Arc::new(storage))
    }
}

/// The object-safe mirror of [`Storage`]; implemented for every storage, never by hand.
pub trait DynStorage: std::fmt::Debug + Send + Sync + 'static {
    #[doc(hidden)]
    fn dyn_capabilities(&self) -> &Capabilities;
    #[doc(hidden)]
    fn dyn_wakeups(&self) -> &WakeHub;
    #[doc(hidden)]
    fn dyn_notifier(&self) -> Option<Arc<dyn Notifier>>;
    #[doc(hidden)]
    fn dyn_migrations(&self) -> &[Migration];
    #[doc(hidden)]
    fn dyn_now<'a>(&'a self) -> BoxFuture<'a, Result<Timestamp>>;
    #[doc(hidden)]
    fn dyn_schema<'a>(&'a self) -> BoxFuture<'a, Result<SchemaStatus>>;
    #[doc(hidden)]
    fn dyn_migrate<'a>(&'a self) -> BoxFuture<'a, Result<Migrated>>;
    #[doc(hidden)]
    fn dyn_enqueue<'a>(&'a self, batch: &'a [NewMessage]) -> BoxFuture<'a, Result<Vec<Enqueued>>>;
    #[doc(hidden)]
    fn dyn_register<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<()>>;
    #[doc(hidden)]
    fn dyn_claim<'a>(&'a self, request: &'a ClaimRequest) -> BoxFuture<'a, Result<Claim>>;
    #[doc(hidden)]
    fn dyn_settle<'a>(&'a self, batch: &'a [Settlement]) -> BoxFuture<'a, Result<Vec<Settled>>>;
    #[doc(hidden)]
    fn dyn_heartbeat<'a>(&'a self, heartbeat: &'a Heartbeat) -> BoxFuture<'a, Result<Beat>>;
    #[doc(hidden)]
    fn dyn_adopt<'a>(&'a self, token: Token) -> BoxFuture<'a, Result<Option<Claim>>>;
    #[doc(hidden)]
    fn dyn_end_exclusive<'a>(&'a self, token: Token) -> BoxFuture<'a, Result<bool>>;
    #[doc(hidden)]
    fn dyn_retire<'a>(&'a self, worker: WorkerId, reason: &'a str) -> BoxFuture<'a, Result<Retired>>;
    #[doc(hidden)]
    fn dyn_promote<'a>(&'a self, limit: u32) -> BoxFuture<'a, Result<Promoted>>;
    #[doc(hidden)]
    fn dyn_reclaim<'a>(&'a self, request: &'a ReclaimRequest) -> BoxFuture<'a, Result<Reclaimed>>;
    #[doc(hidden)]
    fn dyn_purge<'a>(&'a self, request: &'a PurgeRequest) -> BoxFuture<'a, Result<Purged>>;
    #[doc(hidden)]
    fn dyn_stats<'a>(&'a self, request: &'a StatsRequest) -> BoxFuture<'a, Result<Stats>>;
    #[doc(hidden)]
    fn dyn_pause<'a>(&'a self, request: &'a PauseRequest) -> BoxFuture<'a, Result<bool>>;
    #[doc(hidden)]
    fn dyn_acquire_lock<'a>(&'a self, name: &'a str, holder: WorkerId, ttl: Duration) -> BoxFuture<'a, Result<Option<Lock>>>;
    #[doc(hidden)]
    fn dyn_renew_lock<'a>(&'a self, lock: &'a Lock, ttl: Duration) -> BoxFuture<'a, Result<bool>>;
    #[doc(hidden)]
    fn dyn_release_lock<'a>(&'a self, lock: &'a Lock) -> BoxFuture<'a, Result<bool>>;
}

impl<S: Storage> DynStorage for S {
    fn dyn_capabilities(&self) -> &Capabilities {
        self.capabilities()
    }

    fn dyn_wakeups(&self) -> &WakeHub {
        self.wakeups()
    }

    fn dyn_notifier(&self) -> Option<Arc<dyn Notifier>> {
        self.notifier()
    }

    fn dyn_migrations(&self) -> &[Migration] {
        self.migrations()
    }

    fn dyn_now<'a>(&'a self) -> BoxFuture<'a, Result<Timestamp>> {
        Box::pin(self.now())
    }

    fn dyn_schema<'a>(&'a self) -> BoxFuture<'a, Result<SchemaStatus>> {
        Box::pin(self.schema())
    }

    fn dyn_migrate<'a>(&'a self) -> BoxFuture<'a, Result<Migrated>> {
        Box::pin(self.migrate())
    }

    fn dyn_enqueue<'a>(&'a self, batch: &'a [NewMessage]) -> BoxFuture<'a, Result<Vec<Enqueued>>> {
        Box::pin(self.enqueue(batch))
    }

    fn dyn_register<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.register(registration))
    }

    fn dyn_claim<'a>(&'a self, request: &'a ClaimRequest) -> BoxFuture<'a, Result<Claim>> {
        Box::pin(self.claim(request))
    }

    fn dyn_settle<'a>(&'a self, batch: &'a [Settlement]) -> BoxFuture<'a, Result<Vec<Settled>>> {
        Box::pin(self.settle(batch))
    }

    fn dyn_heartbeat<'a>(&'a self, heartbeat: &'a Heartbeat) -> BoxFuture<'a, Result<Beat>> {
        Box::pin(self.heartbeat(heartbeat))
    }

    fn dyn_adopt<'a>(&'a self, token: Token) -> BoxFuture<'a, Result<Option<Claim>>> {
        Box::pin(self.adopt(token))
    }

    fn dyn_end_exclusive<'a>(&'a self, token: Token) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.end_exclusive(token))
    }

    fn dyn_retire<'a>(&'a self, worker: WorkerId, reason: &'a str) -> BoxFuture<'a, Result<Retired>> {
        Box::pin(self.retire(worker, reason))
    }

    fn dyn_promote<'a>(&'a self, limit: u32) -> BoxFuture<'a, Result<Promoted>> {
        Box::pin(self.promote(limit))
    }

    fn dyn_reclaim<'a>(&'a self, request: &'a ReclaimRequest) -> BoxFuture<'a, Result<Reclaimed>> {
        Box::pin(self.reclaim(request))
    }

    fn dyn_purge<'a>(&'a self, request: &'a PurgeRequest) -> BoxFuture<'a, Result<Purged>> {
        Box::pin(self.purge(request))
    }

    fn dyn_stats<'a>(&'a self, request: &'a StatsRequest) -> BoxFuture<'a, Result<Stats>> {
        Box::pin(self.stats(request))
    }

    fn dyn_pause<'a>(&'a self, request: &'a PauseRequest) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.pause(request))
    }

    fn dyn_acquire_lock<'a>(&'a self, name: &'a str, holder: WorkerId, ttl: Duration) -> BoxFuture<'a, Result<Option<Lock>>> {
        Box::pin(self.acquire_lock(name, holder, ttl))
    }

    fn dyn_renew_lock<'a>(&'a self, lock: &'a Lock, ttl: Duration) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.renew_lock(lock, ttl))
    }

    fn dyn_release_lock<'a>(&'a self, lock: &'a Lock) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.release_lock(lock))
    }
}

#[deny(clippy::missing_trait_methods)]
impl Storage for AnyStorage {
    fn capabilities(&self) -> &Capabilities {
        self.0.dyn_capabilities()
    }

    fn wakeups(&self) -> &WakeHub {
        self.0.dyn_wakeups()
    }

    fn notifier(&self) -> Option<Arc<dyn Notifier>> {
        self.0.dyn_notifier()
    }

    fn migrations(&self) -> &[Migration] {
        self.0.dyn_migrations()
    }

    async fn now(&self) -> Result<Timestamp> {
        self.0.dyn_now().await
    }

    async fn schema(&self) -> Result<SchemaStatus> {
        self.0.dyn_schema().await
    }

    async fn migrate(&self) -> Result<Migrated> {
        self.0.dyn_migrate().await
    }

    async fn enqueue(&self, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
        self.0.dyn_enqueue(batch).await
    }

    async fn register(&self, registration: &Registration) -> Result<()> {
        self.0.dyn_register(registration).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        self.0.dyn_claim(request).await
    }

    async fn settle(&self, batch: &[Settlement]) -> Result<Vec<Settled>> {
        self.0.dyn_settle(batch).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat> {
        self.0.dyn_heartbeat(heartbeat).await
    }

    async fn adopt(&self, token: Token) -> Result<Option<Claim>> {
        self.0.dyn_adopt(token).await
    }

    async fn end_exclusive(&self, token: Token) -> Result<bool> {
        self.0.dyn_end_exclusive(token).await
    }

    async fn retire(&self, worker: WorkerId, reason: &str) -> Result<Retired> {
        self.0.dyn_retire(worker, reason).await
    }

    async fn promote(&self, limit: u32) -> Result<Promoted> {
        self.0.dyn_promote(limit).await
    }

    async fn reclaim(&self, request: &ReclaimRequest) -> Result<Reclaimed> {
        self.0.dyn_reclaim(request).await
    }

    async fn purge(&self, request: &PurgeRequest) -> Result<Purged> {
        self.0.dyn_purge(request).await
    }

    async fn stats(&self, request: &StatsRequest) -> Result<Stats> {
        self.0.dyn_stats(request).await
    }

    async fn pause(&self, request: &PauseRequest) -> Result<bool> {
        self.0.dyn_pause(request).await
    }

    async fn acquire_lock(&self, name: &str, holder: WorkerId, ttl: Duration) -> Result<Option<Lock>> {
        self.0.dyn_acquire_lock(name, holder, ttl).await
    }

    async fn renew_lock(&self, lock: &Lock, ttl: Duration) -> Result<bool> {
        self.0.dyn_renew_lock(lock, ttl).await
    }

    async fn release_lock(&self, lock: &Lock) -> Result<bool> {
        self.0.dyn_release_lock(lock).await
    }
}

/// The object-safe mirror of [`Admin`]; implemented for every admin storage, never by hand.
pub trait DynAdmin: DynStorage {
    #[doc(hidden)]
    fn dyn_get<'a>(&'a self, id: MessageId) -> BoxFuture<'a, Result<Option<MessageRecord>>>;
    #[doc(hidden)]
    fn dyn_list<'a>(&'a self, query: &'a ListQuery) -> BoxFuture<'a, Result<Page<MessageRecord>>>;
    #[doc(hidden)]
    fn dyn_history<'a>(&'a self, id: MessageId) -> BoxFuture<'a, Result<Vec<Transition>>>;
    #[doc(hidden)]
    fn dyn_list_dead<'a>(&'a self, query: &'a DeadQuery) -> BoxFuture<'a, Result<Page<DeadLetter>>>;
    #[doc(hidden)]
    fn dyn_requeue<'a>(&'a self, selection: &'a Selection, due: Due) -> BoxFuture<'a, Result<Acted>>;
    #[doc(hidden)]
    fn dyn_kill<'a>(&'a self, selection: &'a Selection, reason: &'a str) -> BoxFuture<'a, Result<Acted>>;
    #[doc(hidden)]
    fn dyn_discard<'a>(&'a self, selection: &'a Selection) -> BoxFuture<'a, Result<Acted>>;
    #[doc(hidden)]
    fn dyn_reschedule<'a>(&'a self, selection: &'a Selection, due: Due) -> BoxFuture<'a, Result<Acted>>;
    #[doc(hidden)]
    fn dyn_resume<'a>(&'a self, scope: &'a PauseScope) -> BoxFuture<'a, Result<bool>>;
    #[doc(hidden)]
    fn dyn_paused<'a>(&'a self) -> BoxFuture<'a, Result<Vec<Pause>>>;
    #[doc(hidden)]
    fn dyn_workers<'a>(&'a self) -> BoxFuture<'a, Result<Vec<WorkerRecord>>>;
    #[doc(hidden)]
    fn dyn_audit<'a>(&'a self) -> BoxFuture<'a, Result<Audit>>;
}

impl<S: Admin> DynAdmin for S {
    fn dyn_get<'a>(&'a self, id: MessageId) -> BoxFuture<'a, Result<Option<MessageRecord>>> {
        Box::pin(self.get(id))
    }

    fn dyn_list<'a>(&'a self, query: &'a ListQuery) -> BoxFuture<'a, Result<Page<MessageRecord>>> {
        Box::pin(self.list(query))
    }

    fn dyn_history<'a>(&'a self, id: MessageId) -> BoxFuture<'a, Result<Vec<Transition>>> {
        Box::pin(self.history(id))
    }

    fn dyn_list_dead<'a>(&'a self, query: &'a DeadQuery) -> BoxFuture<'a, Result<Page<DeadLetter>>> {
        Box::pin(self.list_dead(query))
    }

    fn dyn_requeue<'a>(&'a self, selection: &'a Selection, due: Due) -> BoxFuture<'a, Result<Acted>> {
        Box::pin(self.requeue(selection, due))
    }

    fn dyn_kill<'a>(&'a self, selection: &'a Selection, reason: &'a str) -> BoxFuture<'a, Result<Acted>> {
        Box::pin(self.kill(selection, reason))
    }

    fn dyn_discard<'a>(&'a self, selection: &'a Selection) -> BoxFuture<'a, Result<Acted>> {
        Box::pin(self.discard(selection))
    }

    fn dyn_reschedule<'a>(&'a self, selection: &'a Selection, due: Due) -> BoxFuture<'a, Result<Acted>> {
        Box::pin(self.reschedule(selection, due))
    }

    fn dyn_resume<'a>(&'a self, scope: &'a PauseScope) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.resume(scope))
    }

    fn dyn_paused<'a>(&'a self) -> BoxFuture<'a, Result<Vec<Pause>>> {
        Box::pin(self.paused())
    }

    fn dyn_workers<'a>(&'a self) -> BoxFuture<'a, Result<Vec<WorkerRecord>>> {
        Box::pin(self.workers())
    }

    fn dyn_audit<'a>(&'a self) -> BoxFuture<'a, Result<Audit>> {
        Box::pin(self.audit())
    }
}

#[deny(clippy::missing_trait_methods)]
impl Storage for AnyAdmin {
    fn capabilities(&self) -> &Capabilities {
        self.0.dyn_capabilities()
    }

    fn wakeups(&self) -> &WakeHub {
        self.0.dyn_wakeups()
    }

    fn notifier(&self) -> Option<Arc<dyn Notifier>> {
        self.0.dyn_notifier()
    }

    fn migrations(&self) -> &[Migration] {
        self.0.dyn_migrations()
    }

    async fn now(&self) -> Result<Timestamp> {
        self.0.dyn_now().await
    }

    async fn schema(&self) -> Result<SchemaStatus> {
        self.0.dyn_schema().await
    }

    async fn migrate(&self) -> Result<Migrated> {
        self.0.dyn_migrate().await
    }

    async fn enqueue(&self, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
        self.0.dyn_enqueue(batch).await
    }

    async fn register(&self, registration: &Registration) -> Result<()> {
        self.0.dyn_register(registration).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        self.0.dyn_claim(request).await
    }

    async fn settle(&self, batch: &[Settlement]) -> Result<Vec<Settled>> {
        self.0.dyn_settle(batch).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat> {
        self.0.dyn_heartbeat(heartbeat).await
    }

    async fn adopt(&self, token: Token) -> Result<Option<Claim>> {
        self.0.dyn_adopt(token).await
    }

    async fn end_exclusive(&self, token: Token) -> Result<bool> {
        self.0.dyn_end_exclusive(token).await
    }

    async fn retire(&self, worker: WorkerId, reason: &str) -> Result<Retired> {
        self.0.dyn_retire(worker, reason).await
    }

    async fn promote(&self, limit: u32) -> Result<Promoted> {
        self.0.dyn_promote(limit).await
    }

    async fn reclaim(&self, request: &ReclaimRequest) -> Result<Reclaimed> {
        self.0.dyn_reclaim(request).await
    }

    async fn purge(&self, request: &PurgeRequest) -> Result<Purged> {
        self.0.dyn_purge(request).await
    }

    async fn stats(&self, request: &StatsRequest) -> Result<Stats> {
        self.0.dyn_stats(request).await
    }

    async fn pause(&self, request: &PauseRequest) -> Result<bool> {
        self.0.dyn_pause(request).await
    }

    async fn acquire_lock(&self, name: &str, holder: WorkerId, ttl: Duration) -> Result<Option<Lock>> {
        self.0.dyn_acquire_lock(name, holder, ttl).await
    }

    async fn renew_lock(&self, lock: &Lock, ttl: Duration) -> Result<bool> {
        self.0.dyn_renew_lock(lock, ttl).await
    }

    async fn release_lock(&self, lock: &Lock) -> Result<bool> {
        self.0.dyn_release_lock(lock).await
    }
}

#[deny(clippy::missing_trait_methods)]
impl Admin for AnyAdmin {
    async fn get(&self, id: MessageId) -> Result<Option<MessageRecord>> {
        self.0.dyn_get(id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<MessageRecord>> {
        self.0.dyn_list(query).await
    }

    async fn history(&self, id: MessageId) -> Result<Vec<Transition>> {
        self.0.dyn_history(id).await
    }

    async fn list_dead(&self, query: &DeadQuery) -> Result<Page<DeadLetter>> {
        self.0.dyn_list_dead(query).await
    }

    async fn requeue(&self, selection: &Selection, due: Due) -> Result<Acted> {
        self.0.dyn_requeue(selection, due).await
    }

    async fn kill(&self, selection: &Selection, reason: &str) -> Result<Acted> {
        self.0.dyn_kill(selection, reason).await
    }

    async fn discard(&self, selection: &Selection) -> Result<Acted> {
        self.0.dyn_discard(selection).await
    }

    async fn reschedule(&self, selection: &Selection, due: Due) -> Result<Acted> {
        self.0.dyn_reschedule(selection, due).await
    }

    async fn resume(&self, scope: &PauseScope) -> Result<bool> {
        self.0.dyn_resume(scope).await
    }

    async fn paused(&self) -> Result<Vec<Pause>> {
        self.0.dyn_paused().await
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>> {
        self.0.dyn_workers().await
    }

    async fn audit(&self) -> Result<Audit> {
        self.0.dyn_audit().await
    }
}
