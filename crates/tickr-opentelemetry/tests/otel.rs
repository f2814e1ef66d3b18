//! What a client and a worker tell OpenTelemetry, with in-memory exporters on [`tickr_core::MemoryStorage`].
//!
//! Tests that depend on time run under tokio's paused clock.
#![allow(clippy::disallowed_methods, reason = "the tests drive time and tasks themselves")]
#![allow(clippy::unwrap_used, reason = "also in what the tests share, a panic is how a test fails")]

mod otel {
    pub(crate) mod support;

    mod context;
    mod cost;
    mod engine;
    mod failures;
    mod links;
    mod metrics;
    mod spans;
}
