//! The engine on [`MemoryStorage`]: what a handler, a worker and an operator may rely on.
//!
//! Tests that depend on time run under tokio's paused clock: the queue, the lease and every pause of the engine go with it.
#![allow(clippy::disallowed_methods, reason = "the tests drive time and tasks themselves")]

mod engine {
    pub(crate) mod support;

    mod batch;
    mod retry;
    mod work;
}
