//! What a case sees: one database, and short words for what cases do with it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tickr_core::{
    Acted, Admin, AnyAdmin, Audit, Bits, Capabilities, Claim, Due, Enqueued, Message, MessageId, MessageRecord, NewMessage, Pause,
    PauseRequest, PauseScope, PurgeRequest, Purged, ReclaimRequest, Reclaimed, Result, Retention, Settled, Settlement, Stats, StatsRequest,
    Status, Storage, Timestamp, Transition, WorkerId,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::harness::{Sabotage, TxReport, TxStep};
use crate::run::DynHarness;
use crate::traced::{Trace, Traced};
use crate::words::types_of;
pub(crate) use crate::words::{
    LEASE, MAX, ORDER, WithMax, all_ok, and, bits, checked, dead, each, event_type, exhausted, failed, failed_for, group, ids, keyed, ok,
    order, ordinary, released, skipped, snoozed, split, these, with,
};
pub(crate) use crate::worker::Worker;

/// One database under test.
#[derive(Clone)]
pub struct World {
    harness: Arc<dyn DynHarness>,
    storage: AnyAdmin,
    without: &'static [(&'static str, &'static str)],
    damaged: Arc<AtomicBool>,
    trace: Trace,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("storage", &self.storage).finish_non_exhaustive()
    }
}

impl World {
    pub(crate) fn new(harness: Arc<dyn DynHarness>, without: &'static [(&'static str, &'static str)]) -> Self {
        let trace = Trace::default();
        let storage = AnyAdmin::new(Traced::new(harness.dyn_storage(), trace.clone()));
        Self { harness, storage, without, damaged: Arc::default(), trace }
    }

    /// The last operations of the case.
    pub(crate) const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The storage.
    pub(crate) fn storage(&self) -> &AnyAdmin {
        &self.storage
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        self.storage.capabilities()
    }

    /// Whether the suite was told to leave `what` (a group, or `group::case`) out.
    pub(crate) fn leaves_out(&self, what: &str) -> bool {
        let group = what.split("::").next().unwrap_or(what);
        self.without.iter().any(|(left_out, _)| *left_out == what || *left_out == group)
    }

    /// An independent second handle to the same database.
    pub(crate) async fn connect(&self) -> AnyAdmin {
        let handle = self.harness.dyn_connect().await.expect("a second handle to the database");
        AnyAdmin::new(Traced::new(handle, self.trace.clone()))
    }

    /// The same database, used through another handle.
    pub(crate) fn through(&self, storage: AnyAdmin) -> Self {
        Self { storage, ..self.clone() }
    }

    /// A fresh database without schema.
    pub(crate) async fn unmigrated(&self) -> Self {
        Self::new(self.harness.dyn_unmigrated().await.expect("a database without schema"), self.without)
    }

    pub(crate) async fn version(&self) -> String {
        self.harness.dyn_version().await
    }

    /// Moves the database's clock.
    pub(crate) fn advance(&self, by: Duration) {
        self.harness.dyn_advance(by);
    }

    /// Sets the database's clock back.
    pub(crate) fn set_back(&self, by: Duration) {
        self.harness.dyn_set_back(by);
    }

    pub(crate) fn advance_secs(&self, secs: u64) {
        self.advance(Duration::from_secs(secs));
    }

    /// The database's clock.
    pub(crate) async fn now(&self) -> Timestamp {
        self.storage.now().await.expect("now")
    }

    pub(crate) async fn run_tx(&self, steps: Vec<TxStep>) -> Result<Vec<TxReport>> {
        self.harness.dyn_run_tx(steps).await
    }

    pub(crate) async fn business_rows(&self) -> Vec<String> {
        let mut rows = self.harness.dyn_business_rows().await.expect("business rows");
        rows.sort();
        rows
    }

    /// Damages the database; the audit at the end of the case is then the case's own affair.
    pub(crate) async fn sabotage(&self, damage: Sabotage) {
        self.damaged.store(true, Ordering::SeqCst);
        self.harness.dyn_sabotage(damage).await.expect("sabotage");
    }

    /// Runs something beside the case, on the other thread.
    pub(crate) fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Handle::current().spawn(work)
    }
}

/// Enqueueing.
impl World {
    /// Enqueues `n` orders; their ids in order.
    pub(crate) async fn enqueue(&self, n: usize) -> Vec<MessageId> {
        self.enqueue_all((0..n).map(|_| order()).collect()).await
    }

    /// Enqueues one message that is no duplicate.
    pub(crate) async fn put(&self, message: Message) -> MessageId {
        self.enqueue_all(vec![message]).await[0]
    }

    /// Enqueues messages that are no duplicates; their ids in order.
    pub(crate) async fn enqueue_all(&self, messages: Vec<Message>) -> Vec<MessageId> {
        let answers = self.try_enqueue(messages).await.expect("enqueue");
        answers
            .into_iter()
            .map(|answer| match answer {
                Enqueued::Stored { id } => id,
                Enqueued::Duplicate { existing } => panic!("stored messages expected, got a duplicate of {existing}"),
            })
            .collect()
    }

    pub(crate) async fn try_enqueue(&self, messages: Vec<Message>) -> Result<Vec<Enqueued>> {
        let batch: Vec<NewMessage> = messages.into_iter().map(checked).collect();
        self.storage.enqueue(&batch).await
    }

    /// Enqueues `n` orders and claims them all, by a new worker.
    pub(crate) async fn claimed(&self, n: usize) -> (Worker, Claim) {
        self.enqueue(n).await;
        let worker = self.worker().await;
        let claim = worker.claim(u32::try_from(n).expect("a small number")).await;
        assert_eq!(claim.messages.len(), n, "not everything could be claimed");
        (worker, claim)
    }

    /// Enqueues `n` orders and lets two workers die with all of them: they are suspects, with two attempts and two crashes.
    pub(crate) async fn suspects(&self, n: usize) -> Vec<MessageId> {
        let (worker, claim) = self.claimed(n).await;
        self.crash(&worker).await;
        self.crash_again(n).await;
        ids(&claim)
    }

    /// Lets another worker die with the `n` orders that wait.
    pub(crate) async fn crash_again(&self, n: usize) -> Reclaimed {
        let worker = self.worker().await;
        assert_eq!(worker.claim(u32::try_from(n).expect("a small number")).await.messages.len(), n);
        self.crash(&worker).await
    }

    /// Enqueues one order and fails it with its last attempt.
    pub(crate) async fn dead(&self, message: Message) -> MessageId {
        let event_type = message.event_type.clone();
        let id = self.put(message).await;
        let worker = self.worker().await;
        let claim = worker.claim_of(&[&event_type], 1).await;
        assert_eq!(ids(&claim), [id]);
        self.settle(with(&claim, 0, dead("no use"))).await;
        id
    }
}

/// Workers.
impl World {
    /// Registers a worker with a lease of 30 seconds.
    pub(crate) async fn worker(&self) -> Worker {
        self.worker_with(LEASE).await
    }

    /// Registers a worker whose lease outlives every case.
    pub(crate) async fn immortal(&self) -> Worker {
        self.worker_with(Duration::from_secs(400 * 24 * 3_600)).await
    }

    pub(crate) async fn worker_with(&self, lease: Duration) -> Worker {
        self.worker_for(&[ORDER], lease).await
    }

    pub(crate) async fn worker_for(&self, types: &[&str], lease: Duration) -> Worker {
        let worker = Worker { world: self.clone(), id: WorkerId::new(), name: "host-1".to_owned(), types: types_of(types), lease };
        worker.register().await.expect("register");
        worker
    }

    /// Lets the lease of `worker` run out and takes back what it holds. Other workers must have a longer lease.
    pub(crate) async fn crash(&self, worker: &Worker) -> Reclaimed {
        self.advance(worker.lease + Duration::from_secs(1));
        self.reclaim().await
    }

    /// Condemns who is expired and takes back up to 1,000 claims.
    pub(crate) async fn reclaim(&self) -> Reclaimed {
        self.storage.reclaim(&ReclaimRequest::condemning(1_000)).await.expect("reclaim")
    }

    /// Settles one claim.
    pub(crate) async fn settle(&self, settlement: Settlement) -> Settled {
        self.settle_all(&[settlement]).await.remove(0)
    }

    pub(crate) async fn settle_all(&self, batch: &[Settlement]) -> Vec<Settled> {
        let answers = self.storage.settle(batch).await.expect("settle");
        assert_eq!(answers.len(), batch.len(), "answers are parallel to the batch");
        for (answer, settlement) in answers.iter().zip(batch) {
            assert_partition(answer, &settlement.asked());
        }
        answers
    }

    /// Records the success of every member that the claim answered; nothing may be lost.
    pub(crate) async fn settle_ok(&self, claim: &Claim) {
        let settled = self.settle(all_ok(claim)).await;
        assert_eq!(settled.applied.count() as usize, claim.messages.len(), "{settled:?}");
    }

    pub(crate) async fn promote(&self) -> u32 {
        self.storage.promote(10_000).await.expect("promote").moved
    }
}

/// Looking.
impl World {
    pub(crate) async fn find(&self, id: MessageId) -> Option<MessageRecord> {
        self.storage.get(id).await.expect("get")
    }

    pub(crate) async fn record(&self, id: MessageId) -> MessageRecord {
        self.find(id).await.unwrap_or_else(|| panic!("message {id} has no body"))
    }

    pub(crate) async fn status(&self, id: MessageId) -> Status {
        self.record(id).await.status
    }

    /// Status and attempt.
    pub(crate) async fn state(&self, id: MessageId) -> (Status, u16) {
        let record = self.record(id).await;
        (record.status, record.attempt)
    }

    pub(crate) async fn assert_status(&self, ids: &[MessageId], expected: Status) {
        for id in ids {
            assert_eq!(self.status(*id).await, expected, "status of {id}");
        }
    }

    pub(crate) async fn history(&self, id: MessageId) -> Vec<Transition> {
        self.storage.history(id).await.expect("history")
    }

    /// The events of a history.
    pub(crate) async fn events(&self, id: MessageId) -> Vec<&'static str> {
        self.history(id).await.into_iter().map(|step| step.event).collect()
    }

    pub(crate) async fn stats(&self) -> Stats {
        self.storage.stats(&StatsRequest::default()).await.expect("stats")
    }

    pub(crate) async fn audit(&self) -> Audit {
        self.storage.audit().await.expect("audit")
    }

    pub(crate) async fn assert_clean_audit(&self) {
        let audit = self.audit().await;
        assert!(audit.findings.is_empty(), "the audit found contradictions: {:?}", audit.findings);
    }

    /// What every case leaves behind is free of contradictions, unless the case itself did the damage.
    pub(crate) async fn assert_left_clean(&self) {
        if !self.damaged.load(Ordering::SeqCst) {
            self.assert_clean_audit().await;
        }
    }
}

/// Operators.
impl World {
    pub(crate) async fn kill(&self, ids: &[MessageId]) -> Acted {
        self.storage.kill(&these(ids), "not wanted").await.expect("kill")
    }

    pub(crate) async fn requeue(&self, ids: &[MessageId]) -> Acted {
        self.storage.requeue(&these(ids), Due::Now).await.expect("requeue")
    }

    /// Pauses a type without an end.
    pub(crate) async fn pause(&self, name: &str) -> bool {
        self.pause_as(PauseRequest::event_type(name)).await
    }

    pub(crate) async fn pause_as(&self, request: PauseRequest) -> bool {
        self.storage.pause(&request).await.expect("pause")
    }

    pub(crate) async fn resume(&self, name: &str) -> bool {
        self.storage.resume(&PauseScope::from(name)).await.expect("resume")
    }

    pub(crate) async fn resume_everything(&self) -> bool {
        self.storage.resume(&PauseScope::Everything).await.expect("resume")
    }

    /// The pauses in force.
    pub(crate) async fn paused(&self) -> Vec<Pause> {
        self.storage.paused().await.expect("paused")
    }

    /// Purges until nothing is left to purge.
    pub(crate) async fn purge(&self, retention: Retention) -> Purged {
        let mut sum = Purged::default();
        loop {
            let purged = self.storage.purge(&PurgeRequest::default().retention(retention).limit(1_000)).await.expect("purge");
            sum.bodies += purged.bodies;
            sum.dead += purged.dead;
            sum.journal += purged.journal;
            sum.keys += purged.keys;
            if !purged.more {
                return sum;
            }
        }
    }
}

/// Each member asked for is in exactly one of the three.
fn assert_partition(settled: &Settled, asked: &Bits) {
    let union = settled.applied.union(&settled.already).union(&settled.lost);
    assert_eq!(bits(&union), bits(asked), "asked for and answered differ: {settled:?}");
    let sum = settled.applied.count() + settled.already.count() + settled.lost.count();
    assert_eq!(sum, asked.count(), "a member is in two answers: {settled:?}");
}
