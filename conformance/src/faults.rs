//! Faults that any storage can be wrapped in.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tickr_core::{
    Acted, Admin, Audit, Beat, Capabilities, Claim, ClaimRequest, DeadLetter, DeadQuery, Due, Enqueued, Error, ErrorKind, Heartbeat,
    ListQuery, Lock, MessageId, MessageRecord, Migrated, Migration, NewMessage, Notifier, Page, Pause, PauseRequest, PauseScope, Promoted,
    PurgeRequest, Purged, ReclaimRequest, Reclaimed, Registration, Result, Retired, SchemaStatus, Selection, Settled, Settlement, Stats,
    StatsRequest, Storage, Timestamp, Token, Transition, WakeHub, WorkerId, WorkerRecord,
};

use crate::rendezvous::Rendezvous;

/// An operation that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Op {
    /// [`Storage::enqueue`].
    Enqueue,
    /// [`Storage::register`].
    Register,
    /// [`Storage::claim`].
    Claim,
    /// [`Storage::settle`].
    Settle,
    /// [`Storage::heartbeat`].
    Heartbeat,
    /// [`Storage::adopt`].
    Adopt,
    /// [`Storage::end_exclusive`].
    EndExclusive,
    /// [`Storage::retire`].
    Retire,
    /// [`Storage::promote`].
    Promote,
    /// [`Storage::reclaim`].
    Reclaim,
    /// [`Storage::purge`].
    Purge,
    /// [`Storage::acquire_lock`], [`Storage::renew_lock`], [`Storage::release_lock`].
    Lock,
    /// Any operation of an operator that writes.
    Admin,
}

#[derive(Clone, Debug)]
enum Fault {
    LoseAnswer,
    Refuse,
    Hold(Rendezvous),
}

/// A storage whose answers get lost, which is unreachable for a while, or waits at a point: whatever it is told.
///
/// Faults are met in the order they were asked for, each by the next operation of its kind. Clones share them.
#[derive(Clone, Debug)]
pub struct Faulty<S> {
    inner: S,
    faults: Arc<Mutex<VecDeque<(Op, Fault)>>>,
}

impl<S: Admin> Faulty<S> {
    /// A storage without faults yet.
    pub fn new(inner: S) -> Self {
        Self { inner, faults: Arc::default() }
    }

    /// The storage behind.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// The next `n` operations of the kind happen, but their answer is lost: [`Indeterminate`](ErrorKind::Indeterminate).
    pub fn lose_answers(&self, op: Op, n: usize) {
        self.add(op, &Fault::LoseAnswer, n);
    }

    /// The next `n` operations of the kind do not happen: [`Unavailable`](ErrorKind::Unavailable).
    pub fn refuse(&self, op: Op, n: usize) {
        self.add(op, &Fault::Refuse, n);
    }

    /// The next operation of the kind waits at `point` before it happens.
    pub fn hold(&self, op: Op, point: &Rendezvous) {
        self.add(op, &Fault::Hold(point.clone()), 1);
    }

    fn add(&self, op: Op, fault: &Fault, n: usize) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(std::iter::repeat_n((op, fault.clone()), n));
    }

    fn next(&self, op: Op) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let at = faults.iter().position(|(known, _)| *known == op)?;
        faults.remove(at).map(|(_, fault)| fault)
    }

    async fn through<T>(&self, op: Op, operation: impl Future<Output = Result<T>> + Send) -> Result<T> {
        match self.next(op) {
            None => operation.await,
            Some(Fault::Refuse) => Err(Error::new(ErrorKind::Unavailable, "the suite made the storage unreachable")),
            Some(Fault::LoseAnswer) => {
                operation.await?;
                Err(Error::new(ErrorKind::Indeterminate, "the suite lost the answer"))
            }
            Some(Fault::Hold(point)) => {
                point.pause().await;
                operation.await
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: Admin> Storage for Faulty<S> {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn wakeups(&self) -> &WakeHub {
        self.inner.wakeups()
    }

    fn notifier(&self) -> Option<Arc<dyn Notifier>> {
        self.inner.notifier()
    }

    fn migrations(&self) -> &[Migration] {
        self.inner.migrations()
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.now().await
    }

    async fn schema(&self) -> Result<SchemaStatus> {
        self.inner.schema().await
    }

    async fn migrate(&self) -> Result<Migrated> {
        self.inner.migrate().await
    }

    async fn enqueue(&self, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
        self.through(Op::Enqueue, self.inner.enqueue(batch)).await
    }

    async fn register(&self, registration: &Registration) -> Result<()> {
        self.through(Op::Register, self.inner.register(registration)).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        self.through(Op::Claim, self.inner.claim(request)).await
    }

    async fn settle(&self, batch: &[Settlement]) -> Result<Vec<Settled>> {
        self.through(Op::Settle, self.inner.settle(batch)).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat> {
        self.through(Op::Heartbeat, self.inner.heartbeat(heartbeat)).await
    }

    async fn adopt(&self, token: Token) -> Result<Option<Claim>> {
        self.through(Op::Adopt, self.inner.adopt(token)).await
    }

    async fn end_exclusive(&self, token: Token) -> Result<bool> {
        self.through(Op::EndExclusive, self.inner.end_exclusive(token)).await
    }

    async fn retire(&self, worker: WorkerId, reason: &str) -> Result<Retired> {
        self.through(Op::Retire, self.inner.retire(worker, reason)).await
    }

    async fn promote(&self, limit: u32) -> Result<Promoted> {
        self.through(Op::Promote, self.inner.promote(limit)).await
    }

    async fn reclaim(&self, request: &ReclaimRequest) -> Result<Reclaimed> {
        self.through(Op::Reclaim, self.inner.reclaim(request)).await
    }

    async fn purge(&self, request: &PurgeRequest) -> Result<Purged> {
        self.through(Op::Purge, self.inner.purge(request)).await
    }

    async fn stats(&self, request: &StatsRequest) -> Result<Stats> {
        self.inner.stats(request).await
    }

    async fn pause(&self, request: &PauseRequest) -> Result<bool> {
        self.through(Op::Admin, self.inner.pause(request)).await
    }

    async fn acquire_lock(&self, name: &str, holder: WorkerId, ttl: Duration) -> Result<Option<Lock>> {
        self.through(Op::Lock, self.inner.acquire_lock(name, holder, ttl)).await
    }

    async fn renew_lock(&self, lock: &Lock, ttl: Duration) -> Result<bool> {
        self.through(Op::Lock, self.inner.renew_lock(lock, ttl)).await
    }

    async fn release_lock(&self, lock: &Lock) -> Result<bool> {
        self.through(Op::Lock, self.inner.release_lock(lock)).await
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: Admin> Admin for Faulty<S> {
    async fn get(&self, id: MessageId) -> Result<Option<MessageRecord>> {
        self.inner.get(id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<MessageRecord>> {
        self.inner.list(query).await
    }

    async fn history(&self, id: MessageId) -> Result<Vec<Transition>> {
        self.inner.history(id).await
    }

    async fn list_dead(&self, query: &DeadQuery) -> Result<Page<DeadLetter>> {
        self.inner.list_dead(query).await
    }

    async fn requeue(&self, selection: &Selection, due: Due) -> Result<Acted> {
        self.through(Op::Admin, self.inner.requeue(selection, due)).await
    }

    async fn kill(&self, selection: &Selection, reason: &str) -> Result<Acted> {
        self.through(Op::Admin, self.inner.kill(selection, reason)).await
    }

    async fn discard(&self, selection: &Selection) -> Result<Acted> {
        self.through(Op::Admin, self.inner.discard(selection)).await
    }

    async fn reschedule(&self, selection: &Selection, due: Due) -> Result<Acted> {
        self.through(Op::Admin, self.inner.reschedule(selection, due)).await
    }

    async fn resume(&self, scope: &PauseScope) -> Result<bool> {
        self.through(Op::Admin, self.inner.resume(scope)).await
    }

    async fn paused(&self) -> Result<Vec<Pause>> {
        self.inner.paused().await
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>> {
        self.inner.workers().await
    }

    async fn audit(&self) -> Result<Audit> {
        self.inner.audit().await
    }
}
