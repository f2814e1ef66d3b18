// The examples of the page need these features; `cargo test --all-features` compiles them.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(all(feature = "json", feature = "postgres", feature = "sqlite"), doc = include_str!("../README.md"))]
#![cfg_attr(
    not(all(feature = "json", feature = "postgres", feature = "sqlite")),
    doc = "Transactional outbox and durable message queue whose queue is the application's own database."
)]
//!
//! # What is where
//!
//! - Enqueue: [`Client`], [`Message`], [`EnqueueIn`], [`Event`](macro@Event).
//! - Handle: [`Handler`] with its options, [`Registry`], [`Context`], [`Outcome`], [`Failure`], [`Batch`], [`debug_handler`].
//! - Run: [`Worker`], [`WorkerHandle`], [`WorkerHealth`], [`Retention`], [`shutdown_signal`].
//! - Operate: [`Admin`], and [`admin`] for what it answers.
//! - Observe: [`Alerter`], and [`observe`] for metrics and traces of your own.
//! - Test: [`MemoryStorage`], [`assert_enqueued!`], [`testing`].
//! - Write an adapter: [`Storage`] and the rest of [`adapter`].
//!
//! Each feature adds a module:
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
#![cfg_attr(feature = "serde", doc = "- `serde`: `Serialize` and `Deserialize` for what a storage keeps, such as [`StoredMessage`].")]
#![cfg_attr(not(feature = "serde"), doc = "- `serde`.")]
#![cfg_attr(feature = "sqlite", doc = "- `sqlite`: [`sqlite`], the storage and its driver.")]
#![cfg_attr(not(feature = "sqlite"), doc = "- `sqlite`.")]

mod connect;

/// The contract between a worker and a database, for adapters: everything of `tickr-core`.
pub mod adapter {
    #[doc(no_inline)]
    pub use tickr_core::*;
}

/// What [`Admin`] and [`Storage::stats`] answer.
pub mod admin {
    #[doc(inline)]
    pub use tickr_core::{
        Acted, Audit, Count, DeadLetter, Finding, MessageRecord, Page, Pause, PauseEnd, Stats, StatsRequest, Transition, TypeStats,
        WorkerRecord,
    };
}

/// Metrics and traces of an application's own: what [`prom`](crate#what-is-where) and [`otel`](crate#what-is-where) implement.
pub mod observe {
    #[doc(inline)]
    pub use tickr_core::{AttemptError, HandlerOutcome, LeaseLossPhase, Metrics, Span, Tracer};
}

pub use connect::connect;
#[doc(inline)]
pub use tickr_core::{
    Admin, Alerter, AnyAdmin, Batch, BatchContext, BatchHandler, BatchItem, BatchOptions, BoxError, BoxFuture, Call, Client, ClockOffset,
    Context, DeadQuery, DispatchReport, Due, EnqueueIn, Enqueued, Error, ErrorEvent, ErrorEventKind, ErrorKind, Event, EventType,
    ExponentialBackoff, Failure, FromMessage, Handler, HandlerOptions, HandlerService, Headers, IntoMessage, Limits, ListQuery,
    MemoryStorage, Message, MessageId, Outcome, PauseRequest, PauseScope, Prefetch, Priority, Raw, Registry, Result, Retention, Retry,
    RetryPolicy, Selection, State, Status, Storage, StoredMessage, Timestamp, Verdict, Worker, WorkerBuilder, WorkerHandle, WorkerHealth,
    assert_enqueued, shutdown_signal, testing,
};
#[doc(inline)]
#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub use tickr_json::{self as json, Json};
pub use tickr_macros::{Event, debug_handler};
#[doc(inline)]
#[cfg(feature = "opentelemetry")]
#[cfg_attr(docsrs, doc(cfg(feature = "opentelemetry")))]
pub use tickr_opentelemetry as otel;
#[doc(inline)]
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use tickr_postgres as postgres;
#[doc(inline)]
#[cfg(feature = "prometheus")]
#[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
pub use tickr_prometheus as prom;
#[doc(inline)]
#[cfg(feature = "prost")]
#[cfg_attr(docsrs, doc(cfg(feature = "prost")))]
pub use tickr_prost::{self as protobuf, Prost};
#[doc(inline)]
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use tickr_sqlite as sqlite;

/// The examples of the documentation compile.
#[cfg(all(doctest, feature = "json", feature = "postgres", feature = "sqlite"))]
#[doc = include_str!("../../../docs/pause.md")]
struct Pauses;

/// The programs of the workspace's README compile.
#[cfg(all(doctest, feature = "json", feature = "postgres", feature = "sqlite"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
