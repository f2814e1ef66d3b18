//! The engine on [`MemoryStorage`]: what a handler, a worker and an operator may rely on.
//!
//! Tests that depend on time run under tokio's paused clock: the queue, the lease and every pause of the engine go with it.
#![allow(clippy::disallowed_methods, reason = "the tests drive time and tasks themselves")]
#![allow(clippy::unwrap_used, reason = "also in what the tests share, a panic is how a test fails")]

mod engine {
    pub(crate) mod support;

    mod batch;
    mod blocked;
    mod chaos;
    mod clock;
    mod determinism;
    mod health;
    mod hooks;
    mod input;
    mod layer;
    mod lease;
    mod limits;
    mod log;
    mod observe;
    mod observers;
    mod panics;
    mod pause;
    mod pitfalls;
    mod reentry;
    mod registration;
    mod retry;
    mod settle;
    mod shutdown;
    mod start;
    mod suspects;
    mod testing;
    mod wakeup;
    mod work;
}
