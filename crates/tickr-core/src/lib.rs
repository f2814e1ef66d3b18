#![doc = include_str!("../README.md")]

mod bits;
mod client;
mod door;
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
pub mod protocol;
mod status;
mod storage;
mod time;

pub use bits::Bits;
pub use bytes::Bytes;
pub use client::{Client, ClientBuilder};
pub use door::{Clock, Random};
pub use error::{BoxError, Error, ErrorKind, Result, Retry};
pub use event_type::{Event, EventType};
pub use handler::*;
pub use headers::Headers;
pub use id::{IdSource, MessageId, Token, WorkerId};
pub use limits::{Limits, check_batch};
pub use memory::{MemoryStorage, MemoryTx};
pub use message::{Due, InboundMessage, IntoMessage, Message, NewMessage, Priority, StoredMessage};
pub use notify::{Hint, Listener, Notifier, WakeHub, Wakeups};
pub use observe::{Alerter, ErrorEvent, ErrorEventKind, HandlerOutcome, LeaseLossPhase, Metrics, Span, Tracer};
pub use status::{ClaimEntry, OutcomeEntry, Status, Transition, assemble_history};
pub use storage::*;
pub use time::{ClockOffset, Timestamp};
pub use uuid::Uuid;
