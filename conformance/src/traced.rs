//! Remembers the last operations of a case with their answers, so that a failing case can show them.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tickr_core::{
    Acted, Admin, Audit, Beat, Capabilities, Claim, ClaimRequest, DeadLetter, DeadQuery, Due, Enqueued, Heartbeat, ListQuery, Lock,
    MessageId, MessageRecord, Migrated, Migration, NewMessage, Notifier, Page, Pause, PauseRequest, PauseScope, Promoted, PurgeRequest,
    Purged, ReclaimRequest, Reclaimed, Registration, Result, Retired, SchemaStatus, Selection, Settled, Settlement, Stats, StatsRequest,
    Storage, Timestamp, Token, Transition, WakeHub, WorkerId, WorkerRecord,
};

/// How many operations are remembered.
const OPERATIONS: usize = 10;
/// How much of a call, and of an answer, is shown.
const SHOWN: usize = 600;

/// The last operations of a case, on all of its handles.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    begun: u64,
    last: VecDeque<Operation>,
}

#[derive(Debug)]
struct Operation {
    number: u64,
    call: String,
    answer: Option<String>,
}

impl Trace {
    fn begin(&self, method: &str, arguments: &[&dyn Debug]) -> u64 {
        let mut call = Short(method.to_owned());
        // Fails when it is long enough.
        let _ = arguments.iter().try_for_each(|argument| write!(call, " {argument:?}"));
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.begun += 1;
        let number = state.begun;
        if state.last.len() == OPERATIONS {
            state.last.pop_front();
        }
        state.last.push_back(Operation { number, call: call.0, answer: None });
        number
    }

    fn end(&self, number: u64, answer: &dyn Debug) {
        let mut shown = Short(String::new());
        let _ = write!(shown, "{answer:?}");
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(operation) = state.last.iter_mut().find(|operation| operation.number == number) {
            operation.answer = Some(shown.0);
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Operation { number, call, answer } in &state.last {
            writeln!(f, "  {number}. {call}\n     -> {}", answer.as_deref().unwrap_or("no answer yet"))?;
        }
        Ok(())
    }
}

/// A text that takes no more than is shown.
struct Short(String);

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = SHOWN.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        self.0.push('…');
        Err(fmt::Error)
    }
}

/// A storage whose operations are remembered.
#[derive(Clone, Debug)]
pub(crate) struct Traced<S> {
    inner: S,
    trace: Trace,
}

impl<S> Traced<S> {
    pub(crate) const fn new(inner: S, trace: Trace) -> Self {
        Self { inner, trace }
    }
}

/// Methods that remember their call and its answer.
macro_rules! remembered {
    ($($method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)+) => {
        $(async fn $method(&self, $($argument: $type),*) -> Result<$answer> {
            let number = self.trace.begin(stringify!($method), &[$(&$argument),*]);
            let answer = self.inner.$method($($argument),*).await;
            self.trace.end(number, &answer);
            answer
        })+
    };
}

#[deny(clippy::missing_trait_methods)]
impl<S: Admin> Storage for Traced<S> {
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

    remembered! {
        now() -> Timestamp;
        schema() -> SchemaStatus;
        migrate() -> Migrated;
        enqueue(batch: &[NewMessage]) -> Vec<Enqueued>;
        register(registration: &Registration) -> ();
        claim(request: &ClaimRequest) -> Claim;
        settle(batch: &[Settlement]) -> Vec<Settled>;
        heartbeat(heartbeat: &Heartbeat) -> Beat;
        adopt(token: Token) -> Option<Claim>;
        retire(worker: WorkerId, reason: &str) -> Retired;
        promote(limit: u32) -> Promoted;
        reclaim(request: &ReclaimRequest) -> Reclaimed;
        purge(request: &PurgeRequest) -> Purged;
        stats(request: &StatsRequest) -> Stats;
        pause(request: &PauseRequest) -> bool;
        acquire_lock(name: &str, holder: WorkerId, ttl: Duration) -> Option<Lock>;
        renew_lock(lock: &Lock, ttl: Duration) -> bool;
        release_lock(lock: &Lock) -> bool;
        end_exclusive(token: Token) -> bool;
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: Admin> Admin for Traced<S> {
    remembered! {
        get(id: MessageId) -> Option<MessageRecord>;
        list(query: &ListQuery) -> Page<MessageRecord>;
        history(id: MessageId) -> Vec<Transition>;
        list_dead(query: &DeadQuery) -> Page<DeadLetter>;
        requeue(selection: &Selection, due: Due) -> Acted;
        kill(selection: &Selection, reason: &str) -> Acted;
        discard(selection: &Selection) -> Acted;
        reschedule(selection: &Selection, due: Due) -> Acted;
        resume(scope: &PauseScope) -> bool;
        paused() -> Vec<Pause>;
        workers() -> Vec<WorkerRecord>;
        audit() -> Audit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_ten_operations_are_shown_with_their_answers() {
        let trace = Trace::default();
        for n in 1..=12_u32 {
            let number = trace.begin("promote", &[&n]);
            if n != 12 {
                trace.end(number, &n);
            }
        }
        let shown = trace.to_string();
        assert!(shown.starts_with("  3. promote 3\n     -> 3\n"), "{shown}");
        assert!(shown.ends_with("  12. promote 12\n     -> no answer yet\n"), "{shown}");
    }

    #[test]
    fn long_calls_are_cut() {
        let trace = Trace::default();
        trace.begin("enqueue", &[&"ä".repeat(2_000)]);
        assert!(trace.to_string().len() < 2 * SHOWN);
    }
}
