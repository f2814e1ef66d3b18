//! From a handler's verdict to what is recorded.

use std::time::Duration;

use crate::event_type::EventType;
use crate::handler::{Entry, ExponentialBackoff, Failure, Follow, Outcome, Verdict};
use crate::id::MessageId;
use crate::message::Priority;
use crate::observe::HandlerOutcome;
use crate::panic::caught;
use crate::storage::{ClaimedMessage, SettleOutcome, SettledMember};

/// The longest error text that is stored, in bytes.
const ERROR_BYTES_MAX: usize = 8 << 10;
/// The longest delay that is stored: ten years, as for what clients enqueue. Databases differ in what they can add to a time.
pub(super) const DELAY_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3_600);

/// What a settlement says of a member, whatever its outcome.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) index: u32,
    pub(super) id: MessageId,
    pub(super) priority: Priority,
    pub(super) attempt: u16,
    pub(super) max_attempts: u16,
    pub(super) crashes: u16,
}

impl Facts {
    pub(super) fn of(message: &ClaimedMessage) -> Self {
        Self {
            index: message.index,
            id: message.id,
            priority: message.priority(),
            attempt: message.attempt,
            max_attempts: message.max_attempts,
            crashes: message.crashes,
        }
    }

    pub(super) fn settled(self, event_type: &EventType, outcome: SettleOutcome) -> SettledMember {
        SettledMember {
            index: self.index,
            id: self.id,
            event_type: event_type.clone(),
            priority: self.priority,
            attempt: self.attempt,
            crashes: self.crashes,
            outcome,
        }
    }
}

/// What is recorded of an attempt that ended with `verdict`; `None` for a plain success. `late` is the timeout of an attempt that
/// returned after it: its error is recorded as a timeout, because what a cancelled handler makes of it is rarely more than
/// "cancelled".
pub(super) fn decide(entry: &Entry, facts: Facts, verdict: Verdict, late: Option<Duration>) -> (HandlerOutcome, Option<SettleOutcome>) {
    match verdict {
        Ok(Outcome::Done) => (HandlerOutcome::Success, None),
        Ok(Outcome::Skip(reason)) => (HandlerOutcome::Skip, Some(SettleOutcome::Skipped { reason: storable(&reason) })),
        Ok(Outcome::Snooze(delay)) => (HandlerOutcome::Snooze, Some(SettleOutcome::Snoozed { delay: delay.min(DELAY_MAX) })),
        Err(failure) => failed(entry, facts, &failure, late),
    }
}

/// The same for a failed attempt, without the application's policy and predicate.
pub(super) fn decide_by_default(facts: Facts, verdict: Verdict) -> (HandlerOutcome, Option<SettleOutcome>) {
    let error = verdict.err().map_or_else(String::new, |failure| storable(&text_of(&failure)));
    if facts.attempt >= facts.max_attempts {
        return (HandlerOutcome::Dead, Some(SettleOutcome::Exhausted { error }));
    }
    let delay = ExponentialBackoff::default().delay(facts.attempt);
    (HandlerOutcome::Retry, Some(SettleOutcome::Failed { error, delay }))
}

fn failed(entry: &Entry, facts: Facts, failure: &Failure, late: Option<Duration>) -> (HandlerOutcome, Option<SettleOutcome>) {
    let text = text_of(failure);
    let error = match late {
        None => storable(&text),
        Some(timeout) => storable(&format!("{}: {text}", timeout_text(timeout))),
    };
    if let Follow::PauseType(_) = failure.follow() {
        return (HandlerOutcome::Released, Some(SettleOutcome::Released { reason: storable(&format!("type paused: {text}")) }));
    }
    if failure.is_dead() || is_dead_by_predicate(entry, failure) {
        return (HandlerOutcome::Dead, Some(SettleOutcome::Dead { error }));
    }
    if facts.attempt >= facts.max_attempts {
        return (HandlerOutcome::Dead, Some(SettleOutcome::Exhausted { error }));
    }
    let delay = match failure.follow() {
        Follow::RetryAfter(delay) => delay,
        Follow::Policy | Follow::PauseType(_) | Follow::Dead => policy_delay(entry, facts.attempt, failure),
    };
    (HandlerOutcome::Retry, Some(SettleOutcome::Failed { error, delay: delay.min(DELAY_MAX) }))
}

/// How the history names a timeout.
pub(super) fn timeout_text(timeout: Duration) -> String {
    format!("handler timed out after {timeout:?}")
}

/// The user's error may panic while it is printed; then the panic is the text.
pub(super) fn text_of(failure: &Failure) -> String {
    caught(|| failure.to_string()).unwrap_or_else(|panic| Failure::of_panic(&panic).to_string())
}

/// The user's predicate may panic; then it does not say that the error is final.
fn is_dead_by_predicate(entry: &Entry, failure: &Failure) -> bool {
    let Some(predicate) = &entry.options.dead_letter_if else { return false };
    caught(|| predicate(failure.error())).unwrap_or_else(|panic| {
        tracing::error!(event_type = %entry.event_type, panic, "the dead-letter predicate panicked");
        false
    })
}

/// The user's policy may panic; then the default policy decides.
fn policy_delay(entry: &Entry, attempt: u16, failure: &Failure) -> Duration {
    let Some(policy) = &entry.options.retry else { return ExponentialBackoff::default().delay(attempt) };
    caught(|| policy.next_delay(attempt, failure.error())).unwrap_or_else(|panic| {
        tracing::error!(event_type = %entry.event_type, panic, "the retry policy panicked");
        ExponentialBackoff::default().delay(attempt)
    })
}

/// Text that every database stores: no NUL bytes, not too long.
pub(super) fn storable(text: &str) -> String {
    let mut text = text.replace('\0', "\u{fffd}");
    if text.len() > ERROR_BYTES_MAX {
        let mut end = ERROR_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(" ... (cut)");
    }
    text
}
