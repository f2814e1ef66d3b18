//! The service as operations see it: scraped by a real Prometheus, traced over the wire by two processes.
//!
//! Prometheus and promtool are taken from the machine, or from where `cargo xtask test` has fetched them; without them the tests fail.
#![allow(clippy::disallowed_methods, reason = "processes run in real time, and the tests start their own tasks")]
#![allow(clippy::unwrap_used, reason = "also in what the tests share, a panic is how a test fails")]

mod observed {
    pub(crate) mod support;

    mod probes;
    mod prometheus;
    mod traces;
}
