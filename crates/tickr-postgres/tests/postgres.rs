//! tickr-postgres as its users use it, on throw-away servers: what the conformance suite cannot ask, because only PostgreSQL has it.
//!
//! Without PostgreSQL on the machine these tests fail, and say what to install.
#![allow(clippy::disallowed_methods, reason = "servers run in real time, and the tests start their own tasks")]
#![allow(clippy::unwrap_used, reason = "also in what the tests share, a panic is how a test fails")]

mod postgres {
    pub(crate) mod support;

    mod blocked;
    mod claim;
    mod encoding;
    mod failover;
    mod input;
    mod killed;
    mod large;
    mod late;
    mod lease;
    mod partition;
    mod pool;
    mod published;
    mod quiet;
    mod restore;
    mod role;
    mod rows;
    mod sequence;
    mod single;
    mod standby;
    mod transaction;
    mod wakeup;
}
