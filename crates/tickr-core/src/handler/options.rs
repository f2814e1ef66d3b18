//! Options of handlers, and the wrappers that attach them to a handler.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;
use tower_service::Service;

use super::batch::BatchHandler;
use super::context::Context;
use super::extract::Requirements;
use super::failure::{Failure, Verdict};
use super::function::Handler;
use super::layer::{AnyLayer, Call, HandlerService};
use super::retry::RetryPolicy;
use crate::error::{Error, Result};

/// Says of an error that no further attempt can help.
pub(crate) type DeadLetterPredicate = Arc<dyn Fn(&(dyn std::error::Error + 'static)) -> bool + Send + Sync>;

/// Is told of a message that became DEAD, after that was recorded.
pub(crate) type OnDead = Arc<dyn Fn(&Context, &str) + Send + Sync>;

/// Options of a handler; each is absent until set, and what is absent comes from the worker.
///
/// [`Handler`] has a method of the same name for each option: `confirm.max_attempts(5).timeout(limit)`. A value of this type is
/// for options that several handlers share; [`Handler::with_options`] attaches it.
///
/// ```
/// use std::time::Duration;
/// use tickr_core::{Context, Handler, HandlerOptions, Registry};
///
/// async fn confirm(_: Context) {}
/// async fn refund(_: Context) {}
///
/// let patient = HandlerOptions::default().max_attempts(20).timeout(Duration::from_secs(60));
/// let registry = Registry::new()
///     .on("order.placed", confirm.with_options(patient.clone()))
///     .on("order.returned", refund.with_options(patient).max_in_flight(2));
/// assert_eq!(registry.event_types().count(), 2);
/// ```
#[derive(Clone)]
#[must_use]
pub struct HandlerOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_attempts: Option<u16>,
    pub(crate) max_in_flight: Option<u32>,
    /// Absent until the worker is built, which gives the default policy its random numbers.
    pub(crate) retry: Option<Arc<dyn RetryPolicy>>,
    pub(crate) dead_letter_if: Option<DeadLetterPredicate>,
    pub(crate) on_dead: Option<OnDead>,
    /// From the inside out.
    pub(crate) layers: Vec<AnyLayer>,
}

impl Default for HandlerOptions {
    fn default() -> Self {
        Self {
            timeout: Some(Self::TIMEOUT),
            max_attempts: None,
            max_in_flight: None,
            retry: None,
            dead_letter_if: None,
            on_dead: None,
            layers: Vec::new(),
        }
    }
}

impl HandlerOptions {
    /// The default limit of one attempt.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
    const TIMEOUT_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

    /// Limits one attempt (default 30 s): then its context is cancelled, and a little later it is abandoned.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Lets an attempt run as long as it wants; the lease is extended meanwhile.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// How often a message is tried before it is DEAD (default: the worker's, 10). A message's own maximum goes first.
    pub fn max_attempts(mut self, attempts: u16) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// How many messages of this type run at a time in this worker. Messages of a type with this cap are never
    /// prefetched, and a type at its cap never holds up another.
    pub fn max_in_flight(mut self, messages: u32) -> Self {
        self.max_in_flight = Some(messages);
        self
    }

    /// When the next attempt follows (default: [`ExponentialBackoff`](super::ExponentialBackoff)).
    pub fn retry(mut self, policy: impl RetryPolicy) -> Self {
        self.retry = Some(Arc::new(policy));
        self
    }

    /// Errors for which `predicate` is true are final.
    pub fn dead_letter_if(mut self, predicate: impl Fn(&(dyn std::error::Error + 'static)) -> bool + Send + Sync + 'static) -> Self {
        self.dead_letter_if = Some(Arc::new(predicate));
        self
    }

    /// Is called with a message that became DEAD by this handler and the reason, after that was recorded. At most
    /// once per process; not for messages that died by a crash or a kill, or whose handler blocked its thread.
    ///
    /// Calls come from a thread of the worker's own, within the application's runtime, one after the other in the order in which the
    /// deaths were recorded. They may block: no outcome waits for them. Up to 1,024 calls wait, further ones are dropped and logged; a
    /// call that takes longer than 30 s loses its thread, up to four times, and the next ones go on. The end of a run waits up to
    /// 10 s for calls that wait, and drops the rest. Panics are caught and logged.
    pub fn on_dead(mut self, callback: impl Fn(&Context, &str) + Send + Sync + 'static) -> Self {
        self.on_dead = Some(Arc::new(callback));
        self
    }

    /// Wraps the handler in a layer of tower, outside of those that it has already and inside those of the worker
    /// ([`WorkerBuilder::layer`](crate::WorkerBuilder::layer)).
    ///
    /// A layer is applied once, when the worker is built: `ConcurrencyLimitLayer` limits this handler, in this worker. The time
    /// that a layer waits is part of the attempt, and limited by its timeout. An error of a layer is a failure of every message of
    /// the call.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<HandlerService> + Send + Sync + 'static,
        L::Service: Service<Call, Response = Vec<Verdict>, Error: Into<Failure>, Future: Send> + Clone + Send + Sync + 'static,
    {
        self.layers.push(AnyLayer::new(layer));
        self
    }

    pub(crate) fn check(&self, event_type: &str) -> Result<()> {
        if let Some(timeout) = self.timeout
            && (timeout.is_zero() || timeout > Self::TIMEOUT_MAX)
        {
            return Err(Error::config(format!("timeout of {event_type} is {timeout:?}; it must be above zero and at most 30 days")));
        }
        if self.max_attempts.map(NonZeroU16::new) == Some(None) {
            return Err(Error::config(format!("max_attempts of {event_type} is 0; leave it out to inherit the worker's")));
        }
        if self.max_in_flight == Some(0) {
            return Err(Error::config(format!("max_in_flight of {event_type} is 0; pause the type instead")));
        }
        Ok(())
    }
}

impl fmt::Debug for HandlerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerOptions")
            .field("timeout", &self.timeout)
            .field("max_attempts", &self.max_attempts)
            .field("max_in_flight", &self.max_in_flight)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// Options of a batch handler; [`BatchHandler`] has a method of the same name for each.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct BatchOptions {
    pub(crate) handler: HandlerOptions,
    pub(crate) max_batch: u32,
}

impl BatchOptions {
    const BATCH_MAX: u32 = 100_000;

    pub(crate) fn check(&self, event_type: &str) -> Result<()> {
        if self.max_batch > Self::BATCH_MAX {
            return Err(Error::config(format!("max_batch of {event_type} is {}; it must be at most {}", self.max_batch, Self::BATCH_MAX)));
        }
        Ok(())
    }

    /// How many messages one call gets at most (default 0: what one claim brought of the type; at most 100000).
    pub const fn max_batch(mut self, messages: u32) -> Self {
        self.max_batch = messages;
        self
    }

    /// Limits one call (default 30 s).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.handler = self.handler.timeout(limit);
        self
    }

    /// Lets a call run as long as it wants; the lease is extended meanwhile.
    pub fn no_timeout(mut self) -> Self {
        self.handler = self.handler.no_timeout();
        self
    }

    /// How often a message is tried before it is DEAD.
    pub fn max_attempts(mut self, attempts: u16) -> Self {
        self.handler = self.handler.max_attempts(attempts);
        self
    }

    /// When the next attempt follows.
    pub fn retry(mut self, policy: impl RetryPolicy) -> Self {
        self.handler = self.handler.retry(policy);
        self
    }

    /// Errors for which `predicate` is true are final.
    pub fn dead_letter_if(mut self, predicate: impl Fn(&(dyn std::error::Error + 'static)) -> bool + Send + Sync + 'static) -> Self {
        self.handler = self.handler.dead_letter_if(predicate);
        self
    }

    /// Is called with a message that became DEAD by this handler and the reason, after that was recorded.
    pub fn on_dead(mut self, callback: impl Fn(&Context, &str) + Send + Sync + 'static) -> Self {
        self.handler = self.handler.on_dead(callback);
        self
    }
}

impl BatchOptions {
    /// Wraps the handler in a layer of tower; see [`HandlerOptions::layer`].
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<HandlerService> + Send + Sync + 'static,
        L::Service: Service<Call, Response = Vec<Verdict>, Error: Into<Failure>, Future: Send> + Clone + Send + Sync + 'static,
    {
        self.handler = self.handler.layer(layer);
        self
    }
}

/// A handler with options: what [`Handler::timeout`] and its siblings return.
#[must_use = "a handler does nothing until it is registered"]
pub struct Configured<H, Args> {
    pub(crate) handler: H,
    pub(crate) options: HandlerOptions,
    pub(crate) args: PhantomData<fn(Args)>,
}

impl<H: Handler<Args>, Args: 'static> Handler<Args> for Configured<H, Args> {
    fn call(&self, context: Context) -> impl Future<Output = Verdict> + Send + 'static {
        self.handler.call(context)
    }

    fn requires(requirements: &mut Requirements) {
        H::requires(requirements);
    }

    fn options(&self) -> HandlerOptions {
        self.options.clone()
    }
}

impl<H: Clone, Args> Clone for Configured<H, Args> {
    fn clone(&self) -> Self {
        Self { handler: self.handler.clone(), options: self.options.clone(), args: PhantomData }
    }
}

impl<H, Args> fmt::Debug for Configured<H, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configured").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A batch handler with options: what [`BatchHandler::max_batch`] and its siblings return.
#[must_use = "a handler does nothing until it is registered"]
pub struct ConfiguredBatch<H, Args> {
    pub(crate) handler: H,
    pub(crate) options: BatchOptions,
    pub(crate) args: PhantomData<fn(Args)>,
}

impl<H: BatchHandler<Args>, Args: 'static> BatchHandler<Args> for ConfiguredBatch<H, Args> {
    fn call(&self, contexts: Vec<Context>) -> impl Future<Output = Vec<Verdict>> + Send + 'static {
        self.handler.call(contexts)
    }

    fn requires(requirements: &mut Requirements) {
        H::requires(requirements);
    }

    fn options(&self) -> BatchOptions {
        self.options.clone()
    }
}

impl<H: Clone, Args> Clone for ConfiguredBatch<H, Args> {
    fn clone(&self) -> Self {
        Self { handler: self.handler.clone(), options: self.options.clone(), args: PhantomData }
    }
}

impl<H, Args> fmt::Debug for ConfiguredBatch<H, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfiguredBatch").field("options", &self.options).finish_non_exhaustive()
    }
}
