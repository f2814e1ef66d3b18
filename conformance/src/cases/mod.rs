//! The cases, a file per group. Each is one rule, told by its name and its first line.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a case is a test: it fails by panicking")]

pub mod adoption;
pub mod audit;
pub mod capabilities;
pub mod claim;
pub mod concurrency;
pub mod dedupe;
pub mod enqueue;
pub mod fence;
pub mod heartbeat;
pub mod history;
pub mod input;
pub mod kill;
pub mod lanes;
pub mod lease;
pub mod limits;
pub mod list;
pub mod locks;
pub mod migrate;
pub mod notify;
pub mod pause;
pub mod priority;
pub mod promise;
pub mod random;
pub mod reclaim;
pub mod release;
pub mod requeue;
pub mod retention;
pub mod schedule;
pub mod settle;
pub mod snooze;
pub mod stats;
pub mod status;
pub mod suspects;
pub mod tx;
pub mod version;
