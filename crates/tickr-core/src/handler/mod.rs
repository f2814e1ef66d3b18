//! Handlers: functions that are called with messages.

mod batch;
mod context;
mod event;
mod extract;
mod failure;
mod function;
mod layer;
mod options;
mod registry;
mod retry;

pub use batch::{Batch, BatchContext, BatchHandler, BatchItem, BatchResults, FromBatch, IntoBatchResults};
pub use context::Context;
pub use event::{BatchEvent, EventBody, NamesEvent, Nth};
pub use extract::{FromMessage, Raw, Requirements, State};
pub use failure::{Failure, IntoVerdict, Outcome, Verdict};
pub use function::Handler;
pub use layer::{Call, HandlerService};
pub use options::{BatchOptions, Configured, ConfiguredBatch, HandlerOptions};
pub use registry::Registry;
pub use retry::{ExponentialBackoff, RetryPolicy};

pub(crate) use context::{ContextParts, Surroundings};
pub(crate) use extract::StateMap;
pub(crate) use failure::Follow;
pub(crate) use layer::AnyLayer;
pub(crate) use options::OnDead;

pub(crate) use registry::{Entry, Invoke};
