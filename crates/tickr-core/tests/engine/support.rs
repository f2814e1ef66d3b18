//! What the tests share: a queue under paused time, a storage that fails as told, probes and gates.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tickr_core::{
    Admin, Beat, Capabilities, Claim, ClaimRequest, Client, Clock, Enqueued, Error, ErrorKind, Heartbeat, Lock, MemoryStorage, Message,
    MessageId, MessageRecord, Migrated, Migration, NewMessage, Notifier, PauseRequest, Promoted, PurgeRequest, Purged, ReclaimRequest,
    Reclaimed, Registration, Result, Retired, SchemaStatus, Settled, Settlement, Stats, StatsRequest, Status, Storage, Timestamp, Token,
    WakeHub, Worker, WorkerBuilder, WorkerHandle, WorkerId,
};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout};

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Longer than anything here may take, in the runtime's time.
pub(crate) const PATIENCE: Duration = secs(10_000);

/// A queue whose time goes with the runtime's.
pub(crate) fn memory() -> MemoryStorage {
    MemoryStorage::builder().clock(Clock::runtime()).build()
}

/// A worker whose time goes with the runtime's, and whose random numbers repeat.
pub(crate) fn worker(storage: &(impl Storage + Clone)) -> WorkerBuilder {
    Worker::builder(storage.clone()).clock(Clock::runtime()).seed(7).name("w")
}

pub(crate) async fn enqueue(storage: &(impl Storage + Clone), message: Message) -> MessageId {
    Client::new(storage.clone()).enqueue(message).await.unwrap().id()
}

/// Enqueues `n` messages with the bodies 0, 1, 2, ...
pub(crate) async fn enqueue_many(storage: &(impl Storage + Clone), event_type: &str, n: usize) -> Vec<MessageId> {
    let messages = (0..n).map(|n| Message::new(event_type, n.to_string()));
    Client::new(storage.clone()).enqueue_all(messages).await.unwrap().into_iter().map(Enqueued::id).collect()
}

pub(crate) async fn record(storage: &MemoryStorage, id: MessageId) -> MessageRecord {
    storage.get(id).await.unwrap().unwrap()
}

pub(crate) async fn status(storage: &MemoryStorage, id: MessageId) -> Status {
    record(storage, id).await.status
}

/// The events of a message's history.
pub(crate) async fn steps(storage: &MemoryStorage, id: MessageId) -> Vec<&'static str> {
    storage.history(id).await.unwrap().into_iter().map(|step| step.event).collect()
}

/// The invariants of the protocol hold.
pub(crate) async fn sound(storage: &MemoryStorage) {
    assert_eq!(storage.audit().await.unwrap().findings, []);
}

/// Waits until a condition holds, in steps of a millisecond of paused time, or of a hundredth of what was waited.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "{what}: in vain");
        sleep((begun.elapsed() / 100).clamp(ms(1), secs(1))).await;
    }
}

pub(crate) async fn until_status(storage: &MemoryStorage, id: MessageId, wanted: Status) {
    eventually(&format!("{id} becomes {wanted}"), async || status(storage, id).await == wanted).await;
}

/// Shuts a worker down and waits for its end.
pub(crate) async fn stop(worker: WorkerHandle) {
    worker.shutdown();
    timeout(PATIENCE, worker.join()).await.expect("the worker ends").unwrap();
}

/// A worker that dies without a word when [`crash`](Self::crash) is called.
pub(crate) struct Mortal(tokio::task::JoinHandle<Result<()>>);

impl Mortal {
    pub(crate) fn start(worker: Worker) -> Self {
        Self(tokio::spawn(async move { worker.run().await }))
    }

    pub(crate) async fn crash(self) {
        self.0.abort();
        assert!(self.0.await.unwrap_err().is_cancelled());
    }
}

// --- probes and gates ---------------------------------------------------------------------------------------------

/// Takes notes that a test can wait for.
#[derive(Clone, Debug)]
pub(crate) struct Probe(Arc<Notes>);

#[derive(Debug)]
struct Notes {
    begun: Instant,
    notes: Mutex<Vec<(String, Duration)>>,
    changed: Notify,
}

impl Probe {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Notes { begun: Instant::now(), notes: Mutex::default(), changed: Notify::new() }))
    }

    pub(crate) fn note(&self, note: impl Into<String>) {
        self.0.notes.lock().unwrap().push((note.into(), self.0.begun.elapsed()));
        self.0.changed.notify_waiters();
    }

    /// The time since the probe was made.
    pub(crate) fn now(&self) -> Duration {
        self.0.begun.elapsed()
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.0.notes.lock().unwrap().iter().map(|(note, _)| note.clone()).collect()
    }

    /// When each note was taken, since the probe was made.
    pub(crate) fn times(&self) -> Vec<Duration> {
        self.0.notes.lock().unwrap().iter().map(|(_, at)| *at).collect()
    }

    pub(crate) fn count(&self, note: &str) -> usize {
        self.0.notes.lock().unwrap().iter().filter(|(known, _)| known == note).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.notes.lock().unwrap().len()
    }

    /// Waits until there are `n` notes.
    pub(crate) async fn reached(&self, n: usize) {
        self.until(|notes| notes.len() >= n, &format!("{n} notes")).await;
    }

    /// Waits for a note.
    pub(crate) async fn noted(&self, note: &str) {
        self.until(|notes| notes.iter().any(|(known, _)| known == note), note).await;
    }

    async fn until(&self, wanted: impl Fn(&[(String, Duration)]) -> bool, what: &str) {
        let waiting = async {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if wanted(&self.0.notes.lock().unwrap()) {
                    return;
                }
                changed.await;
            }
        };
        let in_time = timeout(PATIENCE, waiting).await;
        assert!(in_time.is_ok(), "waited for {what} in vain; there are {:?}", self.notes());
    }
}

/// A point that others wait at until a test lets them pass.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }

    /// Arrives, and waits to be let through.
    pub(crate) async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }

    /// Waits for one arrival.
    pub(crate) async fn arrived(&self) {
        timeout(PATIENCE, self.arrived.acquire()).await.expect("somebody arrives at the gate").unwrap().forget();
    }

    /// Lets `n` through.
    pub(crate) fn admit(&self, n: usize) {
        self.open.add_permits(n);
    }

    /// Lets everybody through from now on.
    pub(crate) fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS / 2);
    }
}

/// Counts who is inside, and the most that ever were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crowd(Arc<Mutex<(usize, usize)>>);

impl Crowd {
    pub(crate) fn enter(&self) -> Inside {
        let mut crowd = self.0.lock().unwrap();
        crowd.0 += 1;
        crowd.1 = crowd.1.max(crowd.0);
        Inside(self.clone())
    }

    pub(crate) fn now(&self) -> usize {
        self.0.lock().unwrap().0
    }

    pub(crate) fn most(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

pub(crate) struct Inside(Crowd);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().0 -= 1;
    }
}

// --- faults ---------------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Schema,
    Now,
    Enqueue,
    Register,
    /// Of ordinary work, or beside it.
    Claim,
    /// Of a suspect that is to be alone: a look for one is a worker's first claim.
    ClaimExclusive,
    Settle,
    Heartbeat,
    Adopt,
    EndExclusive,
    Retire,
    Promote,
    Reclaim,
    Purge,
    Stats,
    Pause,
    Lock,
}

/// What an operation is about to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call<'a> {
    Claim(&'a ClaimRequest),
    Settle(&'a [Settlement]),
    Heartbeat(&'a Heartbeat),
    Other(Op),
}

impl Call<'_> {
    pub(crate) fn op(self) -> Op {
        match self {
            Self::Claim(request) if request.solo => Op::ClaimExclusive,
            Self::Claim(_) => Op::Claim,
            Self::Settle(_) => Op::Settle,
            Self::Heartbeat(_) => Op::Heartbeat,
            Self::Other(op) => op,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It does not happen.
    Refuse(ErrorKind),
    /// It happens, and its answer is lost.
    LoseAnswer,
    /// It happens when the gate is passed, whether anybody still waits for the answer or not.
    Late(Gate),
    /// It happens at once, and its answer comes when the gate is passed.
    LateAnswer(Gate),
    /// It happens, and takes its time.
    Slow(Duration),
    /// It neither happens nor answers.
    Hang,
}

type Script = dyn FnMut(Call<'_>) -> Option<Fault> + Send;

/// A storage that fails as told. Clones share what they are told.
#[derive(Clone)]
pub(crate) struct Faulty {
    pub(crate) inner: MemoryStorage,
    once: Arc<Mutex<VecDeque<(Op, Fault)>>>,
    script: Arc<Mutex<Option<Box<Script>>>>,
    log: Arc<Mutex<Vec<(Op, Duration)>>>,
    notifier: Option<Arc<dyn Notifier>>,
    begun: Instant,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Faulty {
    pub(crate) fn new() -> Self {
        Self::over(memory())
    }

    pub(crate) fn over(inner: MemoryStorage) -> Self {
        Self { inner, once: Arc::default(), script: Arc::default(), log: Arc::default(), notifier: None, begun: Instant::now() }
    }

    /// The storage can tell other processes.
    pub(crate) fn with_notifier(mut self, notifier: Arc<dyn Notifier>) -> Self {
        self.notifier = Some(notifier);
        self
    }

    /// The next operation of this kind meets this fault.
    pub(crate) fn next(&self, op: Op, fault: Fault) {
        self.once.lock().unwrap().push_back((op, fault));
    }

    /// From now on every operation asks this.
    pub(crate) fn script(&self, script: impl FnMut(Call<'_>) -> Option<Fault> + Send + 'static) {
        *self.script.lock().unwrap() = Some(Box::new(script));
    }

    /// Nothing works any more.
    pub(crate) fn go_down(&self) {
        self.script(|_| Some(Fault::Refuse(ErrorKind::Unavailable)));
    }

    /// All is well again.
    pub(crate) fn heal(&self) {
        *self.script.lock().unwrap() = None;
    }

    /// How often an operation was called.
    pub(crate) fn calls(&self, op: Op) -> usize {
        self.log.lock().unwrap().iter().filter(|(known, _)| *known == op).count()
    }

    /// When an operation was called, since the beginning.
    pub(crate) fn times(&self, op: Op) -> Vec<Duration> {
        self.log.lock().unwrap().iter().filter(|(known, _)| *known == op).map(|(_, at)| *at).collect()
    }

    async fn through<T: Send + 'static>(&self, call: Call<'_>, run: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let op = call.op();
        self.log.lock().unwrap().push((op, self.begun.elapsed()));
        let once = {
            let mut once = self.once.lock().unwrap();
            let at = once.iter().position(|(known, _)| *known == op);
            at.and_then(|at| once.remove(at)).map(|(_, fault)| fault)
        };
        let fault = once.or_else(|| self.script.lock().unwrap().as_mut().and_then(|script| script(call)));
        match fault {
            None => run.await,
            Some(Fault::Refuse(kind)) => Err(Error::new(kind, "refused by the test")),
            Some(Fault::LoseAnswer) => {
                run.await?;
                Err(Error::new(ErrorKind::Indeterminate, "the test lost the answer"))
            }
            Some(Fault::Late(gate)) => {
                let late = tokio::spawn(async move {
                    gate.pass().await;
                    run.await
                });
                late.await.unwrap()
            }
            Some(Fault::LateAnswer(gate)) => {
                let answer = run.await;
                gate.pass().await;
                answer
            }
            Some(Fault::Slow(time)) => {
                sleep(time).await;
                run.await
            }
            Some(Fault::Hang) => std::future::pending().await,
        }
    }
}

impl Storage for Faulty {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn wakeups(&self) -> &WakeHub {
        self.inner.wakeups()
    }

    fn notifier(&self) -> Option<Arc<dyn Notifier>> {
        self.notifier.clone()
    }

    fn migrations(&self) -> &[Migration] {
        self.inner.migrations()
    }

    async fn now(&self) -> Result<Timestamp> {
        let inner = self.inner.clone();
        self.through(Call::Other(Op::Now), async move { inner.now().await }).await
    }

    async fn schema(&self) -> Result<SchemaStatus> {
        let inner = self.inner.clone();
        self.through(Call::Other(Op::Schema), async move { inner.schema().await }).await
    }

    async fn migrate(&self) -> Result<Migrated> {
        self.inner.migrate().await
    }

    async fn enqueue(&self, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
        let (inner, batch) = (self.inner.clone(), batch.to_vec());
        self.through(Call::Other(Op::Enqueue), async move { inner.enqueue(&batch).await }).await
    }

    async fn register(&self, registration: &Registration) -> Result<()> {
        let (inner, registration) = (self.inner.clone(), registration.clone());
        self.through(Call::Other(Op::Register), async move { inner.register(&registration).await }).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        let (inner, owned) = (self.inner.clone(), request.clone());
        self.through(Call::Claim(request), async move { inner.claim(&owned).await }).await
    }

    async fn settle(&self, batch: &[Settlement]) -> Result<Vec<Settled>> {
        let (inner, owned) = (self.inner.clone(), batch.to_vec());
        self.through(Call::Settle(batch), async move { inner.settle(&owned).await }).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat> {
        let (inner, owned) = (self.inner.clone(), *heartbeat);
        self.through(Call::Heartbeat(heartbeat), async move { inner.heartbeat(&owned).await }).await
    }

    async fn adopt(&self, token: Token) -> Result<Option<Claim>> {
        let inner = self.inner.clone();
        self.through(Call::Other(Op::Adopt), async move { inner.adopt(token).await }).await
    }

    async fn end_exclusive(&self, token: Token) -> Result<bool> {
        let inner = self.inner.clone();
        self.through(Call::Other(Op::EndExclusive), async move { inner.end_exclusive(token).await }).await
    }

    async fn retire(&self, worker: WorkerId, reason: &str) -> Result<Retired> {
        let (inner, reason) = (self.inner.clone(), reason.to_owned());
        self.through(Call::Other(Op::Retire), async move { inner.retire(worker, &reason).await }).await
    }

    async fn promote(&self, limit: u32) -> Result<Promoted> {
        let inner = self.inner.clone();
        self.through(Call::Other(Op::Promote), async move { inner.promote(limit).await }).await
    }

    async fn reclaim(&self, request: &ReclaimRequest) -> Result<Reclaimed> {
        let (inner, request) = (self.inner.clone(), *request);
        self.through(Call::Other(Op::Reclaim), async move { inner.reclaim(&request).await }).await
    }

    async fn purge(&self, request: &PurgeRequest) -> Result<Purged> {
        let (inner, request) = (self.inner.clone(), *request);
        self.through(Call::Other(Op::Purge), async move { inner.purge(&request).await }).await
    }

    async fn stats(&self, request: &StatsRequest) -> Result<Stats> {
        let (inner, request) = (self.inner.clone(), *request);
        self.through(Call::Other(Op::Stats), async move { inner.stats(&request).await }).await
    }

    async fn pause(&self, request: &PauseRequest) -> Result<bool> {
        let (inner, request) = (self.inner.clone(), request.clone());
        self.through(Call::Other(Op::Pause), async move { inner.pause(&request).await }).await
    }

    async fn acquire_lock(&self, name: &str, holder: WorkerId, ttl: Duration) -> Result<Option<Lock>> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        self.through(Call::Other(Op::Lock), async move { inner.acquire_lock(&name, holder, ttl).await }).await
    }

    async fn renew_lock(&self, lock: &Lock, ttl: Duration) -> Result<bool> {
        let (inner, lock) = (self.inner.clone(), lock.clone());
        self.through(Call::Other(Op::Lock), async move { inner.renew_lock(&lock, ttl).await }).await
    }

    async fn release_lock(&self, lock: &Lock) -> Result<bool> {
        let (inner, lock) = (self.inner.clone(), lock.clone());
        self.through(Call::Other(Op::Lock), async move { inner.release_lock(&lock).await }).await
    }
}
