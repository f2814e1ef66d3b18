//! What a handler is called with, beside the body.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::extract::StateMap;
use crate::client::Client;
use crate::door::Clock;
use crate::door::clock::Tick;
use crate::message::InboundMessage;
use crate::storage::AnyStorage;

/// The message, and everything around this attempt. Cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<ContextParts>);

pub(crate) struct ContextParts {
    pub(crate) message: InboundMessage,
    pub(crate) cancelled: CancellationToken,
    pub(crate) deadline: Option<Tick>,
    pub(crate) around: Arc<Surroundings>,
}

/// What all attempts of one worker share.
pub(crate) struct Surroundings {
    pub(crate) states: StateMap,
    pub(crate) client: Client<AnyStorage>,
    pub(crate) worker: String,
    pub(crate) clock: Clock,
}

impl Context {
    pub(crate) fn new(parts: ContextParts) -> Self {
        Self(Arc::new(parts))
    }

    /// The message.
    pub fn message(&self) -> &InboundMessage {
        &self.0.message
    }

    /// This attempt, from 1.
    pub fn attempt(&self) -> u16 {
        self.0.message.attempt
    }

    /// Whether the message is DEAD if this attempt fails.
    pub fn is_last_attempt(&self) -> bool {
        self.0.message.attempt >= self.0.message.max_attempts
    }

    /// Fires when the handler should stop: its time is over, its lease is gone, its message was killed, or the worker
    /// shuts down and the grace has passed.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.0.cancelled
    }

    /// How much of the attempt's time is left; `None` when it has no limit.
    pub fn remaining(&self) -> Option<Duration> {
        self.0.deadline.map(|deadline| deadline.since(self.0.around.clock.now()))
    }

    /// A client on the worker's storage, to enqueue what follows (sagas). It commits on its own: a handler that is
    /// called twice enqueues twice, unless the message has an idempotency key.
    pub fn client(&self) -> &Client<AnyStorage> {
        &self.0.around.client
    }

    /// The name of the worker.
    pub fn worker(&self) -> &str {
        &self.0.around.worker
    }

    pub(crate) fn states(&self) -> &StateMap {
        &self.0.around.states
    }
}

impl Deref for Context {
    type Target = InboundMessage;

    fn deref(&self) -> &InboundMessage {
        &self.0.message
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("message", &self.0.message).field("worker", &self.0.around.worker).finish_non_exhaustive()
    }
}
