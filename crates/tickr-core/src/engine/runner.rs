//! Runners: tasks that call handlers, one message or one batch after another.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::task::coop;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::Run;
use super::incarnation::ClaimInfo;
use super::outbox::Finished;
use super::state::{Assignment, Cause, Member, Running, RunningMember, Sign};
use super::type_pause::TypePause;
use super::verdict::{self, Facts};
use crate::door::clock::{self, Tick};
use crate::door::task;
use crate::handler::{Context, ContextParts, Entry, Failure, Invoke, Verdict};
use crate::id::Token;
use crate::message::InboundMessage;
use crate::observe::{AttemptError, HandlerOutcome, Span};
use crate::panic::{self, caught_future};
use crate::storage::SettleOutcome;

/// How a call of a handler ended.
pub(super) enum End<T> {
    Returned(T),
    /// It returned after its time was over and its context was cancelled.
    ReturnedLate(T),
    Panicked(String),
    TimedOut,
    /// It was cancelled and did not end in time, or the worker could not wait any longer.
    Abandoned,
}

/// What the engine has in hand of a handler that runs.
struct Reins<'r> {
    cancel: CancellationToken,
    sign: &'r Sign,
}

/// How much later than its timeout an attempt that blocks its thread is taken from its runner.
const OVERDUE: Duration = Duration::from_millis(500);

/// How long the retry policy and the predicate may take to decide over an attempt that is overdue.
const ASK_MAX: Duration = Duration::from_secs(2);

/// How long a runner may go on from handler to handler without letting others run.
const YIELD_EVERY: Duration = Duration::from_millis(1);

impl Run {
    /// Works through the queue until it is empty, then ends: runners are tasks that cost nothing while there is nothing to do.
    pub(super) async fn runner(self: Arc<Self>, slot: usize) {
        let sign = self.state().sign(slot);
        let mut next = self.assign(slot);
        self.report_in_flight();
        let mut yielded = None;
        while let Some(mut assignment) = next {
            // Tasks that this one has woken may only run on this thread, and the next handler may block it: they go first. And a queue
            // of handlers that never wait must not keep the thread from others.
            let is_long = |yielded| assignment.since.since(yielded) >= YIELD_EVERY;
            if yielded.is_none_or(is_long) || !coop::has_budget_remaining() {
                tokio::task::yield_now().await;
                // Others may have had the thread for so long that the messages were given back meanwhile.
                if !self.state().is_assigned(slot, assignment.generation) {
                    return self.state().abandoned_ended();
                }
                // And this moment decides whether the lease is still to be trusted.
                assignment.since = self.now();
                yielded = Some(assignment.since);
            }
            coop::consume_budget().await;
            let generation = assignment.generation;
            // Panics of handlers and tracers are caught where they are called; this one is of a subscriber of events.
            let Ok((finished, pause)) = AssertUnwindSafe(self.handle(slot, &sign, assignment)).catch_unwind().await.map_err(|panic| {
                let (now, text) = (self.now(), panic::text(panic));
                self.abandon(
                    |running| running.generation == generation,
                    |running, member| self.failed_without_runner(running, member, Failure::of_panic(&text), now),
                );
                // This runner is the one that it was taken from, and blocks nothing.
                self.state().abandoned_ended();
                self.recruit();
            }) else {
                return;
            };
            next = match self.finish_and_assign(slot, generation, finished, pause) {
                Some(next) => next,
                None => return,
            };
        }
    }

    fn assign(&self, slot: usize) -> Option<Assignment> {
        let now = self.now();
        let (assignment, hungry) = {
            let mut state = self.state();
            let assignment = state.assign(slot, now, |type_index| self.overdue_after(type_index));
            (assignment, state.queued())
        };
        self.after_assign(assignment.is_none(), hungry);
        assignment
    }

    /// Records the end of an assignment and takes the next, under one lock. `None`: the watchdog has given this runner's place away.
    fn finish_and_assign(
        self: &Arc<Self>,
        slot: usize,
        generation: u64,
        mut finished: Vec<Finished>,
        pause: Option<TypePause>,
    ) -> Option<Option<Assignment>> {
        let now = self.now();
        let (assignment, queued) = {
            let mut state = self.state();
            // What the handler gave back is recorded after the pause: another worker would run it at once.
            let mut own = Vec::new();
            if pause.is_some() {
                own.extend(finished.extract_if(.., |finished| finished.outcome == HandlerOutcome::Released));
            }
            if !state.finish(slot, generation, finished) {
                return None;
            }
            if let Some(pause) = pause {
                let reason = pause.released();
                let give_back =
                    |Member { claim, type_index, message }: Member| self.given_back(type_index, claim, Facts::of(&message), &reason);
                let held = state.hold_back(pause.type_index, own, give_back);
                task::spawn(Arc::clone(self).pause_type(pause, held));
            }
            (state.assign(slot, now, |type_index| self.overdue_after(type_index)), state.queued())
        };
        self.results.notify_one();
        self.after_assign(assignment.is_none(), queued);
        Some(assignment)
    }

    /// Wakes the claim loop when the queue runs low, and those who wait for the last handler.
    fn after_assign(&self, ended: bool, queued: u32) {
        if ended || queued.is_multiple_of(32) || queued < 32 {
            self.room.notify_one();
        }
        if ended {
            self.report_in_flight();
            self.progress.notify_waiters();
        }
    }

    /// Reports how many runners there are, where that has changed: when one begins, ends, or is abandoned.
    fn report_in_flight(&self) {
        let Some(metrics) = &self.metrics else { return };
        let mut reported = super::lock(&self.reported_in_flight);
        let runners = self.state().runners();
        if *reported != runners {
            *reported = runners;
            metrics.in_flight(runners);
        }
    }

    /// When the watchdog may take an assignment away: its timeout, the time to end after a cancellation, and a little more.
    fn overdue_after(&self, type_index: usize) -> Option<Duration> {
        let timeout = self.plan.entries[type_index].options.timeout?;
        Some(timeout + self.plan.config.abandon_after + OVERDUE)
    }

    /// Calls the handler, and says what is to be recorded.
    async fn handle(&self, slot: usize, sign: &Sign, assignment: Assignment) -> (Vec<Finished>, Option<TypePause>) {
        let Assignment { since, members, type_index, cancel, generation } = assignment;
        sign.call(generation);
        let entry = &self.plan.entries[type_index];
        let mut finished = Vec::with_capacity(members.len());
        let mut contexts = Vec::with_capacity(members.len());
        let mut called = Vec::with_capacity(members.len());
        for member in members {
            match self.admit(member, entry, since, &cancel) {
                Ok((context, running)) => {
                    contexts.push(context);
                    called.push(running);
                }
                Err(Some(refused)) => finished.push(refused),
                Err(None) => {}
            }
        }
        if contexts.is_empty() {
            return (finished, None);
        }
        // A batch may have members of several claims.
        let token = called.first().map(|member| member.claim.token);
        let verdicts = self.call(type_index, &contexts, token, &Reins { cancel, sign }).await;
        let ran = self.now().since(since);
        let cause = self.state().cause(slot, generation);
        let pause = TypePause::of(type_index, &verdicts);
        for ((RunningMember { claim, facts, .. }, context), verdict) in called.into_iter().zip(contexts).zip(verdicts) {
            let concluded = self.conclude(entry, facts, claim.token, verdict, cause);
            let context = (concluded.0 == HandlerOutcome::Dead && entry.options.on_dead.is_some()).then_some(context);
            finished.push(Finished { ran: Some(ran), context, ..Finished::new(claim, type_index, facts, concluded) });
        }
        (finished, pause)
    }

    /// Checks a message before its handler is called. `Err(None)`: its lease is gone, and nothing of it is recorded.
    fn admit(
        &self,
        member: Member,
        entry: &Entry,
        now: Tick,
        cancel: &CancellationToken,
    ) -> Result<(Context, RunningMember), Option<Finished>> {
        let Member { claim, type_index, message } = member;
        if !claim.incarnation.is_trusted(now) {
            // With the whole incarnation, or a later heartbeat would extend a lease on a message that nobody runs.
            self.lose_incarnation(&claim.incarnation, "the lease ran out before a message was started");
            self.state().report.lost += 1;
            if let Some(metrics) = &self.metrics {
                metrics.lost_unrun(type_index);
            }
            return Err(None);
        }
        let facts = Facts::of(&message);
        let dead = |claim: Arc<ClaimInfo>, error: String| {
            Err(Some(Finished::new(claim, type_index, facts, (HandlerOutcome::Dead, Some(SettleOutcome::Dead { error })))))
        };
        let stored = match message.body {
            Ok(stored) => stored,
            Err(fault) => return dead(claim, fault.to_string()),
        };
        if facts.attempt > facts.max_attempts {
            return dead(claim, format!("attempt {} is above the maximum of {}; not run", facts.attempt, facts.max_attempts));
        }
        let inbound = InboundMessage::new(stored, facts.attempt, facts.max_attempts, message.last_error);
        let deadline = entry.options.timeout.map(|timeout| now.after(timeout));
        let parts = ContextParts { message: inbound, cancelled: cancel.clone(), deadline, around: Arc::clone(&self.plan.around) };
        Ok((Context::new(parts), RunningMember { claim, facts, loss_told: false }))
    }

    async fn call(&self, type_index: usize, contexts: &[Context], token: Option<Token>, reins: &Reins<'_>) -> Vec<End<Verdict>> {
        let entry = &self.plan.entries[type_index];
        let observers = &self.plan.observers;
        if let Some(metrics) = &self.metrics {
            metrics.handlers_started(type_index, contexts.iter().map(Context::attempt));
        }
        let span = observers.tracer.as_ref().map(|tracer| match contexts {
            [context] => tracer.start_handler_span(&[context.message()]),
            batch => tracer.start_handler_span(&batch.iter().map(Context::message).collect::<Vec<_>>()),
        });
        let log = handler_span(entry, contexts, &self.plan.config.name, token);
        let timeout = entry.options.timeout;
        let verdicts: Vec<End<Verdict>> = match &entry.invoke {
            Invoke::One(call) => {
                let Some(context) = contexts.first() else { return Vec::new() };
                let handler = caught_future((call, context.clone()), |(call, context)| call(context));
                vec![self.limit(in_span(handler.instrument(log), span.as_deref()), timeout, reins).await]
            }
            Invoke::Many { call, .. } => {
                let handler = caught_future((call, contexts.to_vec()), |(call, contexts)| call(contexts));
                each(self.limit(in_span(handler.instrument(log), span.as_deref()), timeout, reins).await, contexts.len())
            }
        };
        if let Some(span) = span {
            end_span(span, &verdicts);
        }
        verdicts
    }

    /// Runs a call until it ends, its time is over, or it must be dropped.
    async fn limit<T>(
        &self,
        call: impl Future<Output = Result<T, String>>,
        timeout: Option<Duration>,
        Reins { cancel, sign }: &Reins<'_>,
    ) -> End<T> {
        let ended = |result: Result<T, String>| match result {
            Ok(value) => End::Returned(value),
            Err(panic) => End::Panicked(Failure::of_panic(&panic).to_string()),
        };
        tokio::pin!(call);
        let mut call = pin!(noticed(call, &sign.polled));
        let timed_out = tokio::select! {
            biased;
            result = &mut call => return ended(result),
            () = super::sleep_or_forever(timeout) => true,
            () = cancel.cancelled() => false,
            () = self.abort.cancelled() => return End::Abandoned,
        };
        cancel.cancel();
        tokio::select! {
            biased;
            result = &mut call => match ended(result) {
                End::Returned(value) if timed_out => End::ReturnedLate(value),
                end => end,
            },
            () = clock::sleep(self.plan.config.abandon_after) => if timed_out { End::TimedOut } else { End::Abandoned },
            () = self.abort.cancelled() => if timed_out { End::TimedOut } else { End::Abandoned },
        }
    }

    fn conclude(
        &self,
        entry: &Entry,
        facts: Facts,
        token: Token,
        end: End<Verdict>,
        cause: Option<Cause>,
    ) -> (HandlerOutcome, Option<SettleOutcome>) {
        let late = matches!(end, End::ReturnedLate(_)).then_some(entry.options.timeout).flatten();
        let verdict = match end {
            // An error that a cancellation caused is no failure of the message.
            End::Returned(Err(_)) | End::ReturnedLate(Err(_)) | End::Abandoned if let Some(cause) = cause => {
                return (HandlerOutcome::Released, Some(SettleOutcome::Released { reason: cause.as_str().to_owned() }));
            }
            End::Returned(verdict) | End::ReturnedLate(verdict) => verdict,
            End::Panicked(panic) => {
                let (event_type, worker) = (&entry.event_type, &self.plan.config.name);
                tracing::error!(%event_type, message_id = %facts.id, attempt = facts.attempt, %worker, %token, panic, "handler panicked");
                Err(Failure::new(panic))
            }
            End::TimedOut => Err(timed_out(entry)),
            End::Abandoned => return (HandlerOutcome::Released, Some(SettleOutcome::Released { reason: "cancelled".to_owned() })),
        };
        verdict::decide(entry, facts, verdict, late)
    }

    /// Leaves the ticks by which others see that the runtime runs, and takes assignments from runners whose handler blocks its
    /// thread, where no timeout can reach it.
    pub(super) async fn watchdog(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.over.cancelled() => return,
                () = clock::sleep(Duration::from_millis(250)) => {}
            }
            let now = self.now();
            self.tick(now);
            if self.take_overdue(now) {
                self.recruit();
            }
            self.log_more_dead(Some(now));
            self.dead_calls.tend();
        }
    }

    /// Takes assignments from runners that wait for their thread before they call the handler, and gives the messages back.
    pub(super) fn give_back_uncalled(&self, which: impl Fn(&Running) -> bool, reason: &str) {
        self.abandon(
            |running| !running.is_called() && which(running),
            |running, RunningMember { claim, facts, .. }| self.given_back(running.type_index, claim, facts, reason),
        );
    }

    /// Takes assignments that are overdue from their runners; says whether there were any. What becomes of their messages is for the
    /// application's code to say, on a thread of its own and within [`ASK_MAX`]: it may block as the handler does.
    pub(super) fn take_overdue(self: &Arc<Self>, now: Tick) -> bool {
        let is_overdue = |running: &Running| running.overdue_at.is_some_and(|at| now >= at);
        if !self.state().has_overdue(now) {
            return false;
        }
        // What was never called did not time out.
        self.give_back_uncalled(is_overdue, "the runtime was blocked");
        let taken = self.state().abandon(is_overdue);
        if taken.is_empty() {
            return true;
        }
        tracing::error!(abandoned = taken.len(), "handlers block their threads beyond their timeout; their messages go on without them");
        for running in taken {
            if self.plan.config.clock.is_runtime() {
                self.take_back(self.overdue_outcomes(&running, now, verdict::decide));
            } else {
                task::spawn(Arc::clone(self).ask_for_overdue(running, now));
            }
        }
        self.report_in_flight();
        self.room.notify_one();
        self.progress.notify_waiters();
        true
    }

    async fn ask_for_overdue(self: Arc<Self>, running: Running, now: Tick) {
        let running = Arc::new(running);
        let (answer, answered) = oneshot::channel();
        let (run, asked) = (Arc::clone(&self), Arc::clone(&running));
        let ask = move || drop(answer.send(run.overdue_outcomes(&asked, now, verdict::decide)));
        let is_asked = task::spawn_thread("tickr-ask", ask).is_ok();
        let finished = tokio::select! {
            biased;
            Ok(finished) = answered, if is_asked => finished,
            () = clock::sleep(ASK_MAX) => {
                let event_type = &self.plan.entries[running.type_index].event_type;
                tracing::error!(%event_type, "the retry policy takes longer than {ASK_MAX:?}; the default policy decides");
                self.overdue_outcomes(&running, now, |_, facts, verdict, _| verdict::decide_by_default(facts, verdict))
            }
        };
        self.take_back(finished);
    }

    /// What is recorded of an overdue assignment, by `decide`.
    fn overdue_outcomes(
        &self,
        running: &Running,
        now: Tick,
        decide: impl Fn(&Entry, Facts, Verdict, Option<Duration>) -> (HandlerOutcome, Option<SettleOutcome>),
    ) -> Vec<Finished> {
        let entry = &self.plan.entries[running.type_index];
        let outcome = |member: &RunningMember| {
            let decided = decide(entry, member.facts, Err(timed_out(entry)), None);
            let finished = Finished::new(Arc::clone(&member.claim), running.type_index, member.facts, decided);
            Finished { ran: Some(now.since(running.since)), loss_told: member.loss_told, ..finished }
        };
        running.members.iter().map(outcome).collect()
    }

    fn take_back(&self, finished: Vec<Finished>) {
        self.state().put_back(finished);
        self.results.notify_one();
        self.room.notify_one();
        self.progress.notify_waiters();
    }

    /// Takes assignments from their runners, and gives `settle` the say on each member: not under the lock, for it may ask the
    /// user's retry policy, which may ask for the worker's health.
    pub(super) fn abandon(&self, which: impl Fn(&Running) -> bool, settle: impl Fn(&Running, RunningMember) -> Finished) -> usize {
        let abandoned = self.state().abandon(which);
        let runners = abandoned.len();
        for mut running in abandoned {
            let members = std::mem::take(&mut running.members);
            let finished = members.into_iter().map(|member| settle(&running, member)).collect();
            self.state().put_back(finished);
        }
        self.report_in_flight();
        self.results.notify_one();
        self.room.notify_one();
        self.progress.notify_waiters();
        runners
    }

    /// What is recorded of a message whose runner did not come back with it.
    fn failed_without_runner(
        &self,
        running: &Running,
        RunningMember { claim, facts, loss_told }: RunningMember,
        failure: Failure,
        now: Tick,
    ) -> Finished {
        let type_index = running.type_index;
        let decided = verdict::decide(&self.plan.entries[type_index], facts, Err(failure), None);
        Finished { ran: Some(now.since(running.since)), loss_told, ..Finished::new(claim, type_index, facts, decided) }
    }

    /// Fills the places of runners that were abandoned.
    fn recruit(self: &Arc<Self>) {
        let recruits = self.state().recruit(self.plan.config.pool);
        for slot in recruits {
            task::spawn(Arc::clone(self).runner(slot));
        }
    }
}

fn timed_out(entry: &Entry) -> Failure {
    Failure::new(verdict::timeout_text(entry.options.timeout.unwrap_or_default()))
}

/// One end per message of a batch, also when a handler of somebody's own gives fewer verdicts.
fn each(end: End<Vec<Verdict>>, messages: usize) -> Vec<End<Verdict>> {
    let each_of = |verdicts: Vec<Verdict>| {
        let missing = std::iter::repeat_with(|| Err(Failure::new("the batch handler gave no result for this message")));
        verdicts.into_iter().chain(missing).take(messages)
    };
    match end {
        End::Returned(verdicts) => each_of(verdicts).map(End::Returned).collect(),
        End::ReturnedLate(verdicts) => each_of(verdicts).map(End::ReturnedLate).collect(),
        End::Panicked(text) => (0..messages).map(|_| End::Panicked(text.clone())).collect(),
        End::TimedOut => (0..messages).map(|_| End::TimedOut).collect(),
        End::Abandoned => (0..messages).map(|_| End::Abandoned).collect(),
    }
}

/// The span that a handler's own events belong to. Never anything of a payload.
fn handler_span(entry: &Entry, contexts: &[Context], worker: &str, token: Option<Token>) -> tracing::Span {
    let Some(first) = contexts.first() else { return tracing::Span::none() };
    tracing::info_span!(
        "tickr.handler",
        event_type = %entry.event_type,
        message_id = %first.message().id,
        attempt = first.attempt(),
        messages = contexts.len(),
        worker,
        token = token.map(tracing::field::display),
    )
}

/// Polls `call`, and notes meanwhile that it has its thread.
async fn noticed<F: Future>(mut call: Pin<&mut F>, polled: &AtomicBool) -> F::Output {
    /// Also when the poll panics.
    struct Left<'a>(&'a AtomicBool);

    impl Drop for Left<'_> {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Relaxed);
        }
    }
    std::future::poll_fn(|cx| {
        polled.store(true, Ordering::Relaxed);
        let _left = Left(polled);
        call.as_mut().poll(cx)
    })
    .await
}

/// Polls `call` with the tracer's span as the current one.
async fn in_span<F: Future>(call: F, span: Option<&dyn Span>) -> F::Output {
    let Some(span) = span else { return call.await };
    tokio::pin!(call);
    std::future::poll_fn(move |cx| {
        let mut result = Poll::Pending;
        span.scope(&mut || result = call.as_mut().poll(cx));
        result
    })
    .await
}

fn end_span(span: Box<dyn Span>, ends: &[End<Verdict>]) {
    let failed = ends.iter().find_map(|end| match end {
        End::Returned(Err(failure)) => Some(AttemptError::Failed(verdict::text_of(failure))),
        End::Returned(Ok(_)) | End::ReturnedLate(Ok(_)) => None,
        End::Panicked(text) => Some(AttemptError::Panicked(text.clone())),
        End::TimedOut | End::ReturnedLate(Err(_)) => Some(AttemptError::TimedOut),
        End::Abandoned => Some(AttemptError::Cancelled),
    });
    span.end(failed.as_ref().map(|error| error as _));
}
