//! Log lines about dead messages, coalesced as alerts are: a poisoned deployment kills thousands of messages in a second, and a
//! line for each would bury every other one.
//!
//! The first dead message of a type is logged at once, with its details. Those that follow within [`WINDOW`] are logged at level
//! debug and counted; when the window closes, one line says how many there were.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::lock;
use crate::door::clock::Tick;

/// How long dead messages of one type share a line.
const WINDOW: Duration = Duration::from_secs(10);

/// The open windows, by the index of the type.
#[derive(Debug, Default)]
pub(super) struct DeadLetters(Mutex<HashMap<usize, Window>>);

#[derive(Debug)]
struct Window {
    closes: Tick,
    /// Dead messages that have not been logged by themselves.
    more: u64,
}

impl DeadLetters {
    /// Counts a dead message of a type; `true` if it is the first of its window, to be logged by itself.
    pub(super) fn is_first(&self, type_index: usize, now: Tick) -> bool {
        let mut windows = lock(&self.0);
        if let Some(window) = windows.get_mut(&type_index) {
            window.more += 1;
            return false;
        }
        windows.insert(type_index, Window { closes: now.after(WINDOW), more: 0 });
        true
    }

    /// Closes the windows that are over by `now`, or all. Gives the types of which more messages died, and how many.
    pub(super) fn close(&self, now: Option<Tick>) -> Vec<(usize, u64)> {
        let mut closed = Vec::new();
        lock(&self.0).retain(|type_index, window| {
            let is_over = now.is_none_or(|now| now >= window.closes);
            if !is_over {
                return true;
            }
            if window.more == 0 {
                return false;
            }
            closed.push((*type_index, std::mem::take(&mut window.more)));
            // More may follow: they share the next line.
            window.closes = window.closes.after(WINDOW);
            now.is_some()
        });
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Tick {
        Tick::default().after(Duration::from_secs(secs))
    }

    #[test]
    fn the_first_of_a_type_is_logged_at_once_and_the_rest_of_a_window_together() {
        let letters = DeadLetters::default();
        assert!(letters.is_first(0, at(0)) && letters.is_first(1, at(0)));
        for second in 1..=5 {
            assert!(!letters.is_first(0, at(second)));
        }
        assert_eq!(letters.close(Some(at(9))), []);
        assert_eq!(letters.close(Some(at(10))), [(0, 5)]);
        assert!(!letters.is_first(0, at(12)), "the next window has begun");
        assert!(letters.is_first(1, at(12)), "nothing more died of this type");
        assert_eq!(letters.close(None), [(0, 1)], "the end of the run closes all windows");
        assert_eq!(letters.close(None), []);
    }
}
