//! The door to randomness.
#![expect(clippy::disallowed_methods, reason = "this is the door")]

use std::sync::{Mutex, PoisonError};

/// The random numbers of one worker: jitter and rotation. Seeded, they repeat.
#[derive(Debug)]
pub struct Random(Mutex<fastrand::Rng>);

impl Random {
    /// Numbers that differ in every process.
    pub fn from_entropy() -> Self {
        Self(Mutex::new(fastrand::Rng::new()))
    }

    /// Numbers that repeat with `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// Numbers of their own, which repeat if these do.
    pub(crate) fn child(&self) -> Self {
        Self(Mutex::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).fork()))
    }

    /// A number in `[0, 1)`.
    pub fn unit(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::from_entropy()
    }
}
