// The examples of the README need these features; `cargo test --all-features` compiles them.
#![cfg_attr(all(feature = "json", feature = "postgres", feature = "sqlite"), doc = include_str!("../README.md"))]
#![cfg_attr(
    not(all(feature = "json", feature = "postgres", feature = "sqlite")),
    doc = "Transactional outbox, inbox and durable message queue whose queue is the application's own database."
)]
//!
//! # What is where
//!
//! Everything of `tickr-core` is here at the top level: [`Client`], [`Worker`], [`Message`], the traits [`Storage`],
//! [`Admin`] and [`EnqueueIn`], [`MemoryStorage`] and [`testing`] for tests. Each feature adds a module:
#![cfg_attr(feature = "json", doc = "- `json` (default): [`Json`], and [`json`] for messages with options.")]
#![cfg_attr(not(feature = "json"), doc = "- `json` (default).")]
#![cfg_attr(feature = "opentelemetry", doc = "- `opentelemetry`: [`otel`], traces and metrics.")]
#![cfg_attr(not(feature = "opentelemetry"), doc = "- `opentelemetry`.")]
#![cfg_attr(
    feature = "postgres",
    doc = "- `postgres`: [`postgres`], the storage and its driver; with TLS: `postgres-rustls`, `postgres-native-tls`."
)]
#![cfg_attr(not(feature = "postgres"), doc = "- `postgres`; with TLS: `postgres-rustls`, `postgres-native-tls`.")]
#![cfg_attr(feature = "prometheus", doc = "- `prometheus`: [`prom`], metrics.")]
#![cfg_attr(not(feature = "prometheus"), doc = "- `prometheus`.")]
#![cfg_attr(feature = "prost", doc = "- `prost`: [`Prost`], and [`protobuf`] for messages with options.")]
#![cfg_attr(not(feature = "prost"), doc = "- `prost`.")]
#![cfg_attr(feature = "sqlite", doc = "- `sqlite`: [`sqlite`], the storage and its driver.")]
#![cfg_attr(not(feature = "sqlite"), doc = "- `sqlite`.")]

mod connect;

pub use connect::connect;
/// The contract between a worker and a database, for adapters: everything of `tickr-core`.
pub mod adapter {
    pub use tickr_core::*;
}

pub use tickr_core::*;
#[cfg(feature = "json")]
pub use tickr_json::{self as json, Json};
pub use tickr_macros::{Event, debug_handler};
#[cfg(feature = "opentelemetry")]
pub use tickr_opentelemetry as otel;
#[cfg(feature = "postgres")]
pub use tickr_postgres as postgres;
#[cfg(feature = "prometheus")]
pub use tickr_prometheus as prom;
#[cfg(feature = "prost")]
pub use tickr_prost::{self as protobuf, Prost};
#[cfg(feature = "sqlite")]
pub use tickr_sqlite as sqlite;

/// The examples of the documentation compile.
#[cfg(all(doctest, feature = "json", feature = "postgres", feature = "sqlite"))]
#[doc = include_str!("../../../docs/pause.md")]
struct Pauses;
