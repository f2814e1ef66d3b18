//! The heartbeat: one sign of life for all that the worker holds, and the reconciliation with what the storage knows.
//!
//! It runs on a thread of its own, so that handlers which block every thread of the runtime cannot cost the lease.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::incarnation::Incarnation;
use super::liveness::Blockade;
use super::state::Reconciled;
use super::{LATE, OPERATION_MAX, Run, lock, verdict::Facts};
use crate::door::{clock, task};
use crate::error::{Error, ErrorKind, Result};
use crate::id::Token;
use crate::observe::ErrorEventKind;
use crate::panic;
use crate::storage::{Beat, ClaimedMessage, Heartbeat, SettleOutcome, Settlement, Storage};

/// A heartbeat that runs.
pub(super) struct Beating(oneshot::Receiver<()>);

impl Beating {
    /// Waits for its end: in order after the run is over, else by a panic.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.0).await;
    }
}

thread_local! {
    static IS_HEARTBEAT: Cell<bool> = const { Cell::new(false) };
}

/// Whether the current thread is that of a worker's heartbeat.
///
/// For adapters: the heartbeat has a runtime of its own, and works while every thread of the application's runtime is blocked. It
/// then settles and adopts too. A connection that a task of the application's runtime drives stands still meanwhile, so that an
/// adapter whose connections are driven by tasks opens one on the current runtime instead.
pub fn on_heartbeat_thread() -> bool {
    IS_HEARTBEAT.get()
}

/// How often the heartbeat's thread checks the application's runtime, as a part of the lease.
const LOOKS: u32 = 10;
/// The shortest time between two looks.
const LOOK_MIN: Duration = Duration::from_millis(20);
/// The longest: so much later than it could be a runtime that is blocked is noticed.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// Starts the heartbeat: on its own thread, or, under a clock that a test may pause, as a task.
pub(super) fn start(run: Arc<Run>) -> Beating {
    let (done, ended) = oneshot::channel();
    let main = Handle::current();
    if run.plan.config.clock.is_runtime() {
        task::spawn(async move {
            run.heartbeat_loop(main).await;
            let _ = done.send(());
        });
        return Beating(ended);
    }
    let fallback = Arc::clone(&run);
    let handle = main.clone();
    let thread = std::thread::Builder::new().name("tickr-heartbeat".to_owned()).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                IS_HEARTBEAT.set(true);
                runtime.block_on(run.heartbeat_loop(handle));
            }
            Err(error) => tracing::error!(%error, "the heartbeat has no runtime; the lease will run out"),
        }
        let _ = done.send(());
    });
    if let Err(error) = thread {
        tracing::error!(%error, "the heartbeat has no thread of its own and shares the runtime's");
        let (done, ended) = oneshot::channel();
        task::spawn(async move {
            fallback.heartbeat_loop(main).await;
            let _ = done.send(());
        });
        return Beating(ended);
    }
    Beating(ended)
}

impl Run {
    async fn heartbeat_loop(self: Arc<Self>, main: Handle) {
        let lease = self.plan.config.lease;
        let mut pause = lease / 3;
        let mut blockade = Blockade::default();
        loop {
            tokio::select! {
                biased;
                () = self.over.cancelled() => return,
                () = self.beat_now.notified() => {}
                () = self.watch_over(pause, &mut blockade) => {}
            }
            let incarnation = Arc::clone(&self.state().incarnation);
            let now = self.now();
            lock(&self.pulse).beat_tried = Some(now);
            if !incarnation.is_trusted(now) {
                // Too late to extend it: others may have begun to drop what it holds. The claim loop registers a new one and calls.
                self.lose_incarnation(&incarnation, LATE);
                pause = lease / 3;
                continue;
            }
            if blockade.is_stuck {
                // What is left can only be done by others.
                pause = lease / 20;
                continue;
            }
            // A task of a runtime that is blocked would never run.
            let main = if blockade.is_reported() { Handle::current() } else { main.clone() };
            let beaten = tokio::select! {
                biased;
                beaten = self.beat(&incarnation, &main) => beaten,
                () = self.over.cancelled() => return,
            };
            pause = match beaten {
                Ok(()) => lease / 3,
                Err(error) => {
                    self.beat_failed(&incarnation, error);
                    lease / 20
                }
            };
        }
    }

    /// Waits until the next heartbeat, and checks the application's runtime meanwhile.
    async fn watch_over(self: &Arc<Self>, pause: Duration, blockade: &mut Blockade) {
        if self.plan.config.clock.is_runtime() {
            return clock::sleep(pause).await;
        }
        let every = (self.plan.config.lease / LOOKS).clamp(LOOK_MIN, LOOK_MAX);
        let until = clock::runtime_now() + pause;
        loop {
            self.look_after_runtime(blockade, self.now());
            let look = clock::runtime_now() + every;
            clock::sleep_until(look.min(until)).await;
            if look >= until {
                return;
            }
        }
    }

    /// Sends one heartbeat; gives up while there is time for another, and when the lease cannot be trusted any more.
    async fn beat(self: &Arc<Self>, incarnation: &Arc<Incarnation>, main: &Handle) -> Result<()> {
        let sent = self.now();
        let known = self.state().ledger.known_tokens();
        let mut heartbeat = Heartbeat::new(incarnation.id, self.plan.config.lease);
        heartbeat.idle = self.idle.load(Ordering::Relaxed);
        // One that hangs must not cost the lease: there is time for another.
        let limit = (heartbeat.lease / 3).max(Duration::from_secs(1)).min(incarnation.trusted_until().since(sent));
        let Beat { open, suspects } =
            self.within(limit.max(Duration::from_millis(1)), "heartbeat", self.plan.storage.heartbeat(&heartbeat)).await?;
        incarnation.trust_until(self.trust_from(sent));
        lock(&self.unbroken_since).get_or_insert(sent);
        lock(&self.pulse).beat = Some(sent);
        let Reconciled { orphans, losses } = {
            let mut state = self.state();
            if incarnation.is_lost() {
                return Ok(());
            }
            state.suspects = suspects;
            state.reconcile(&open, &known, sent)
        };
        if suspects.is_some() {
            self.urgent.notify_one();
        }
        if !losses.is_empty() {
            tracing::warn!(lost = losses.len(), "messages were taken away from this worker");
            self.report_losses(&losses);
            self.progress.notify_waiters();
            self.urgent.notify_one();
        }
        for token in orphans {
            let run = Arc::clone(self);
            main.spawn(async move {
                match AssertUnwindSafe(run.release_orphan(token)).catch_unwind().await.map_err(panic::text) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(%error, %token, "a claim whose answer was lost could not be given back yet"),
                    Err(panic) => tracing::error!(%token, panic, "giving back a claim whose answer was lost panicked"),
                }
                run.state().ledger.orphan_done(token);
            });
        }
        Ok(())
    }

    fn beat_failed(&self, incarnation: &Arc<Incarnation>, error: Error) {
        *lock(&self.unbroken_since) = None;
        tracing::warn!(%error, worker = %self.plan.config.name, "heartbeat failed");
        let gone = error.kind() == ErrorKind::LeaseLost;
        self.alerts.core(ErrorEventKind::Lease, error);
        if gone {
            self.lose_incarnation(incarnation, "the storage says that the lease is gone");
        } else if !incarnation.is_trusted(self.now()) {
            self.lose_incarnation(incarnation, LATE);
        }
    }

    /// A claim whose answer was lost did happen: everything of it is given back.
    async fn release_orphan(&self, token: Token) -> Result<()> {
        let Some(claim) = self.within(OPERATION_MAX, "adopt", self.plan.storage.adopt(token)).await? else { return Ok(()) };
        self.give_back_unrun(token, claim.members, &claim.messages, "the answer of the claim was lost").await?;
        tracing::warn!(%token, released = claim.messages.len(), "a claim whose answer was lost was given back");
        self.urgent.notify_one();
        Ok(())
    }

    /// Settles members that never came to a handler: released, or dead when their body is missing or cannot be read.
    pub(super) async fn give_back_unrun(&self, token: Token, members: u32, messages: &[ClaimedMessage], reason: &str) -> Result<()> {
        let mut settlement = Settlement::new(token, members);
        let outcome = |message: &ClaimedMessage| match &message.body {
            Ok(_) => SettleOutcome::Released { reason: reason.to_owned() },
            Err(fault) => SettleOutcome::Dead { error: fault.to_string() },
        };
        settlement.others = messages.iter().map(|message| Facts::of(message).settled(&message.event_type, outcome(message))).collect();
        self.within(OPERATION_MAX, "settle", self.plan.storage.settle(&[settlement])).await.map(drop)
    }
}
