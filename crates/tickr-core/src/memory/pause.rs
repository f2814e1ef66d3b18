//! Pauses: the rows, and what they stop.

use super::state::State;
use crate::error::Result;
use crate::event_type::EventType;
use crate::storage::{Pause, PauseRequest};
use crate::time::Timestamp;

impl State {
    pub(super) fn pause(&mut self, now: Timestamp, request: &PauseRequest) -> Result<bool> {
        let pause = request.check(now)?;
        let key = request.scope().key()?;
        self.pauses.retain(|_, pause| !pause.is_over(now));
        match self.pauses.get_mut(key) {
            Some(stored) => {
                if request.replaces(&pause, stored) {
                    *stored = pause;
                }
                Ok(false)
            }
            None => {
                self.pauses.insert(key.to_owned(), pause);
                Ok(true)
            }
        }
    }

    pub(super) fn is_paused(&self, now: Timestamp, event_type: &EventType) -> bool {
        // Everything is stored under the empty name.
        let holds = |key: &str| self.pauses.get(key).is_some_and(|pause| !pause.is_over(now));
        !self.pauses.is_empty() && (holds("") || holds(event_type))
    }

    /// Everything first, then by name: so the keys are ordered.
    pub(super) fn pauses_in_force(&self, now: Timestamp) -> Vec<Pause> {
        self.pauses.values().filter(|pause| !pause.is_over(now)).cloned().collect()
    }
}
