#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod bits;
mod client;
mod door;
mod engine;
mod error;
mod event_type;
mod handler;
mod headers;
mod id;
mod limits;
mod memory;
mod message;
mod notify;
mod observe;
mod panic;
pub mod protocol;
mod signal;
mod status;
mod storage;
pub mod testing;
mod time;
#[cfg(feature = "serde")]
mod wire;
mod worker;

pub use bits::Bits;
pub use bytes::Bytes;
pub use client::{Client, ClientBuilder};
pub use door::{Clock, Random};
pub use engine::on_heartbeat_thread;
pub use error::{BoxError, Error, ErrorKind, Result, Retry};
pub use event_type::{Event, EventType};
pub use handler::*;
pub use headers::Headers;
pub use id::{IdSource, MessageId, Token, WorkerId};
pub use limits::{Limits, check_batch};
pub use memory::{MemoryBuilder, MemoryStorage, MemoryTx};
pub use message::{Due, InboundMessage, IntoMessage, Message, NewMessage, Priority, StoredMessage};
pub use notify::{Hint, Listener, Notifier, WakeHub, Wakeups};
pub use observe::{Alerter, AttemptError, ErrorEvent, ErrorEventKind, HandlerOutcome, LeaseLossPhase, Metrics, Span, Tracer};
pub use panic::caught;
pub use signal::shutdown_signal;
pub use status::{ClaimEntry, OutcomeEntry, Status, Transition, assemble_history};
pub use storage::*;
pub use time::{ClockOffset, Timestamp};
pub use uuid::Uuid;
pub use worker::{DispatchReport, Prefetch, Worker, WorkerBuilder, WorkerConfig, WorkerHandle, WorkerHealth};
