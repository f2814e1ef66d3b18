//! Pauses that a handler asks for: [`Failure::pause_type`](crate::Failure::pause_type).
//!
//! A runner hands over what its handler gave back and what waits in the queue of the type. The task here stores the pause first and
//! lets them be recorded then: in the other order, another worker would run them at once. Meanwhile they count as being settled, so
//! that a drain and a shutdown wait for them, and the worker claims nothing of the type.

use std::sync::Arc;
use std::time::Duration;

use super::outbox::Finished;
use super::runner::End;
use super::verdict::{storable, text_of};
use super::{OPERATION_MAX, Run};
use crate::error::ErrorKind;
use crate::handler::{Follow, Verdict};
use crate::observe::{ErrorEventKind, HandlerOutcome};
use crate::storage::{PauseEnd, PauseRequest, SettleOutcome, Storage};

/// The shortest pause. A server that says "again after 0 seconds" must not be asked in a loop.
const SHORTEST: Duration = Duration::from_secs(1);
/// How long messages are snoozed when a pause to a moment could not be stored.
const SNOOZE: Duration = Duration::from_secs(30);

/// A pause that the handler of a type asked for.
#[derive(Debug)]
pub(super) struct TypePause {
    pub(super) type_index: usize,
    end: PauseEnd,
    reason: String,
}

impl TypePause {
    /// What the verdicts of one call ask for: of several ends the last one that is known, which is that of a moment before that of a
    /// duration.
    pub(super) fn of(type_index: usize, verdicts: &[End<Verdict>]) -> Option<Self> {
        let asked = verdicts.iter().filter_map(|end| match end {
            End::Returned(Err(failure)) | End::ReturnedLate(Err(failure)) => match failure.follow() {
                Follow::PauseType(end) => Some((end, failure)),
                _ => None,
            },
            _ => None,
        });
        let rank = |end: &PauseEnd| match end {
            PauseEnd::After(duration) => (0, i128::try_from(duration.as_micros()).unwrap_or(i128::MAX)),
            PauseEnd::At(at) => (1, i128::from(at.as_micros())),
            PauseEnd::Never => (2, 0),
        };
        let (end, failure) = asked.max_by_key(|(end, _)| rank(end))?;
        let end = match end {
            PauseEnd::After(duration) => PauseEnd::After(duration.max(SHORTEST)),
            end => end,
        };
        Some(Self { type_index, end, reason: storable(&text_of(failure)) })
    }

    /// What the history says of the messages that are given back.
    pub(super) fn released(&self) -> String {
        format!("type paused: {}", self.reason)
    }
}

impl Run {
    /// Stores a pause, and lets `held` be recorded after it: given back, or, if the pause cannot be stored, snoozed.
    pub(super) async fn pause_type(self: Arc<Self>, pause: TypePause, mut held: Vec<Finished>) {
        let event_type = &self.plan.entries[pause.type_index].event_type;
        let mut reason = pause.reason;
        reason.truncate(reason.floor_char_boundary(PauseRequest::REASON_BYTES_MAX));
        let mut by = self.plan.config.name.clone();
        by.truncate(by.floor_char_boundary(PauseRequest::BY_BYTES_MAX));
        let request = PauseRequest::event_type(event_type).until(pause.end).reason(&*reason).by(by).keep_longer();
        let patience = (self.plan.config.lease / 3).min(OPERATION_MAX);
        match self.within(patience, "pause", self.plan.storage.pause(&request)).await {
            Ok(_) => tracing::warn!(%event_type, reason, end = ?pause.end, "a handler paused its event type"),
            Err(error) => {
                tracing::error!(%event_type, reason, %error, "a handler's pause could not be stored; its messages are snoozed");
                let delay = match pause.end {
                    PauseEnd::After(duration) => duration,
                    // The moment had come already.
                    PauseEnd::At(_) if error.kind() == ErrorKind::Config => SHORTEST,
                    PauseEnd::At(_) | PauseEnd::Never => SNOOZE,
                };
                self.alerts.core(ErrorEventKind::Storage, error);
                for finished in &mut held {
                    finished.outcome = HandlerOutcome::Snooze;
                    finished.other = Some(SettleOutcome::Snoozed { delay: delay.min(super::verdict::DELAY_MAX) });
                }
            }
        }
        {
            let mut state = self.state();
            state.types[pause.type_index].pausing -= 1;
            state.put_back(held);
        }
        self.results.notify_one();
        self.room.notify_one();
        self.progress.notify_waiters();
    }
}
