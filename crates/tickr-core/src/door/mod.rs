//! The doors: the only places where the engine reads a clock, draws a random number or starts a task.
//!
//! Everything else is banned by `clippy.toml` (`disallowed-methods`), so that the engine runs under paused time and
//! a seed, and so that a simulation sees every source of non-determinism.

pub(crate) mod clock;
pub(crate) mod random;
pub(crate) mod task;

pub use clock::Clock;
pub use random::Random;
