//! Whether the work goes on, as seen from outside of the application's runtime.
//!
//! Handlers may block every thread of the runtime, and with it every task of the engine, the watchdog included. The thread of the
//! heartbeat is the one that goes on. It checks the *tick* that the watchdog leaves every 250 ms, and when that is old:
//!
//! 1. *Blocked*, after a third of the lease and at least a second without a tick: the worker is not ready, an error is logged and an
//!    alert raised. What has not started is given back. Outcomes that wait are recorded from the heartbeat's thread, and attempts
//!    that are overdue are taken from their handlers as the watchdog would do it. Claims without an answer are given up: a
//!    heartbeat finds what they bring.
//! 2. *Stuck*, after a lease without a tick while no handler that may still run has a thread: nothing is left that could be waited
//!    for. The worker is not live. If it still holds something, its lease is not extended, and others take it back.
//!
//! A handler without a timeout that blocks every thread is not stuck: it may run for hours, and keeps the lease.
//!
//! The claim loop and the settle loop say by when they will be back. One that is late, although the runtime runs, hangs or has
//! ended (a tracer blocks it, perhaps), and the worker is not live. Outcomes that wait for a settle loop that is late are recorded
//! from the heartbeat's thread.
//!
//! Nothing here runs code of the application, waits for its runtime, or needs a lock that is held while either runs. Under a clock
//! that a test may pause the heartbeat shares the runtime, and nothing is ever blocked.

use std::sync::Arc;
use std::time::Duration;

use super::heartbeat::on_heartbeat_thread;
use super::settle_loop::{BATCH_MAX, Way};
use super::state::State;
use super::{Pulse, Run, lock};
use crate::door::clock::Tick;
use crate::door::task;
use crate::error::{Error, ErrorKind};
use crate::observe::ErrorEventKind;

/// The shortest time without a tick after which the runtime counts as blocked.
const BLOCKED_MIN: Duration = Duration::from_secs(1);

/// A loop without which nothing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    Claim,
    Settle,
}

/// What the heartbeat's thread has done about a runtime that is blocked.
#[derive(Debug, Default)]
pub(super) struct Blockade {
    reported: bool,
    /// The lease is not extended.
    pub(super) is_stuck: bool,
}

impl Blockade {
    /// Whether the runtime is blocked, as far as was seen.
    pub(super) const fn is_reported(&self) -> bool {
        self.reported
    }
}

impl Run {
    /// Leaves a tick: the runtime runs the engine's tasks.
    pub(super) fn tick(&self, now: Tick) {
        let mut pulse = lock(&self.pulse);
        let silent = pulse.ticked.map(|ticked| now.since(ticked));
        if silent.is_some_and(|silent| silent >= BLOCKED_MIN) {
            pulse.late_until = Some(now.after(self.plan.config.lease));
        }
        pulse.ticked = Some(now);
    }

    /// Says that a loop will be back within `duration`.
    pub(super) fn expect_back(&self, which: Loop, duration: Duration) {
        if on_heartbeat_thread() {
            // Neither loop runs here: what is recorded from here says nothing about them.
            return;
        }
        // A busy machine is late with everything.
        let due = self.now().after(duration + self.plan.config.lease);
        lock(&self.pulse).set_due(which, Some(due));
    }

    /// A loop has ended in order.
    pub(super) fn expect_no_more(&self, which: Loop) {
        lock(&self.pulse).set_due(which, None);
    }

    /// For how long the runtime has run none of the engine's tasks, if that is too long.
    pub(super) fn blocked_for(&self, now: Tick) -> Option<Duration> {
        if self.plan.config.clock.is_runtime() {
            return None;
        }
        let silent = now.since(lock(&self.pulse).ticked?);
        (silent >= (self.plan.config.lease / 3).max(BLOCKED_MIN)).then_some(silent)
    }

    /// Whether only a restart helps, apart from the heartbeat.
    pub(super) fn needs_restart(&self, state: &State, now: Tick) -> bool {
        match self.blocked_for(now) {
            Some(silent) => silent >= self.plan.config.lease && !state.has_busy_handler(now),
            None => {
                let pulse = lock(&self.pulse);
                pulse.is_late(Loop::Claim, now) || pulse.is_late(Loop::Settle, now)
            }
        }
    }

    /// Does what can be done for a runtime that is blocked, from the heartbeat's thread.
    pub(super) fn look_after_runtime(self: &Arc<Self>, blockade: &mut Blockade, now: Tick) {
        let Some(silent) = self.blocked_for(now) else {
            if std::mem::take(&mut blockade.reported) {
                tracing::warn!(worker = %self.plan.config.name, "the runtime runs again");
            }
            *blockade = Blockade::default();
            if lock(&self.pulse).is_late(Loop::Settle, now) {
                self.record_apart();
            }
            return;
        };
        if !std::mem::replace(&mut blockade.reported, true) {
            self.report_blocked(silent);
        }
        self.give_back_queue("the runtime is blocked");
        self.give_back_uncalled(|_| true, "the runtime is blocked");
        self.take_overdue(now);
        self.state().ledger.give_up_answers(now);
        self.record_apart();
        let is_stuck = {
            let state = self.state();
            silent >= self.plan.config.lease && !state.has_busy_handler(now) && !state.is_empty()
        };
        if is_stuck && !blockade.is_stuck {
            tracing::error!(worker = %self.plan.config.name, ?silent, "the runtime is stuck; the lease is not extended any more");
        }
        blockade.is_stuck = is_stuck;
    }

    /// Records the outcomes that wait, from this thread.
    fn record_apart(self: &Arc<Self>) {
        if !self.state().has_waiting_outcomes() {
            return;
        }
        let run = Arc::clone(self);
        task::spawn(async move {
            let batch = run.state().take_outbox(BATCH_MAX, run.now());
            if !batch.is_empty() {
                // What cannot be recorded is put back, and tried again.
                let _ = run.settle(batch, Way::Apart).await;
            }
        });
    }

    fn report_blocked(&self, silent: Duration) {
        let running = self.state().runners();
        let worker = &self.plan.config.name;
        tracing::error!(%worker, ?silent, running, "the runtime is blocked; handlers that block go to spawn_blocking");
        let text = format!("the runtime of worker {worker} is blocked: it has run none of the worker's tasks for {silent:?}");
        self.alerts.apart(ErrorEventKind::Blocked, Error::new(ErrorKind::Unavailable, text));
    }
}

impl Pulse {
    fn set_due(&mut self, which: Loop, due: Option<Tick>) {
        match which {
            Loop::Claim => self.claim_due = due,
            Loop::Settle => self.settle_due = due,
        }
    }

    /// Whether a loop is not back, although it had the time since the runtime was last late.
    fn is_late(&self, which: Loop, now: Tick) -> bool {
        let due = match which {
            Loop::Claim => self.claim_due,
            Loop::Settle => self.settle_due,
        };
        due.is_some_and(|due| now > due) && self.late_until.is_none_or(|until| now > until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Tick {
        Tick::default().after(Duration::from_secs(secs))
    }

    #[test]
    fn a_loop_is_late_when_it_is_not_back_and_had_the_time() {
        let mut pulse = Pulse::default();
        assert!(!pulse.is_late(Loop::Claim, at(1_000)), "it has not begun");
        pulse.set_due(Loop::Claim, Some(at(10)));
        assert!(!pulse.is_late(Loop::Claim, at(10)) && pulse.is_late(Loop::Claim, at(11)));
        assert!(!pulse.is_late(Loop::Settle, at(11)), "each by itself");
        // The machine slept, or the runtime was blocked: nobody was back in time.
        pulse.late_until = Some(at(40));
        assert!(!pulse.is_late(Loop::Claim, at(40)) && pulse.is_late(Loop::Claim, at(41)));
        pulse.set_due(Loop::Claim, None);
        assert!(!pulse.is_late(Loop::Claim, at(41)), "it has ended in order");
    }
}
