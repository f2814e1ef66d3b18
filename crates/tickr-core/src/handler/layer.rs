//! Layers of tower around handlers.
//!
//! A layer wraps a [`HandlerService`], whose request is a [`Call`] and whose response is one verdict per message of it. Layers of one
//! handler are kept with its [options](super::HandlerOptions) and are inside those of the worker; [`Invoke::layered`] applies them once,
//! when the worker is built. A handler without layers is called as if this module did not exist.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::context::Context;
use super::failure::{Failure, Verdict};
use super::registry::Invoke;
use crate::event_type::EventType;
use crate::storage::BoxFuture;

/// What a layer around a handler receives: the messages of one call. One message, or up to
/// [`max_batch`](super::BatchOptions::max_batch) of a batch handler, all of one event type.
#[derive(Clone, Debug)]
pub struct Call {
    first: Context,
    others: Vec<Context>,
}

impl Call {
    fn new(mut contexts: Vec<Context>) -> Option<Self> {
        if contexts.is_empty() {
            return None;
        }
        let others = contexts.split_off(1);
        Some(Self { first: contexts.pop()?, others })
    }

    /// The message with its attempt; of a batch, its first member.
    pub const fn context(&self) -> &Context {
        &self.first
    }

    /// Every message of the call, in order.
    pub fn contexts(&self) -> impl Iterator<Item = &Context> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// How many messages the call has; at least 1.
    #[allow(clippy::len_without_is_empty, reason = "a call is never empty")]
    pub const fn len(&self) -> usize {
        1 + self.others.len()
    }

    /// The event type of every message.
    pub fn event_type(&self) -> &EventType {
        self.first.event_type()
    }
}

/// A handler as a service of tower: what a layer wraps. Its response has one verdict per message of the [`Call`], in their order.
///
/// ```
/// use std::task::{Context, Poll};
/// use tickr_core::{Call, HandlerService, MemoryStorage, Verdict, Worker};
/// # use tower::{Layer, Service};
///
/// /// Prints how often each event type is called.
/// #[derive(Clone)]
/// struct Print<S>(S);
///
/// impl<S: Service<Call, Response = Vec<Verdict>>> Service<Call> for Print<S> {
///     type Response = Vec<Verdict>;
///     type Error = S::Error;
///     type Future = S::Future;
///
///     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
///         self.0.poll_ready(cx)
///     }
///
///     fn call(&mut self, call: Call) -> S::Future {
///         println!("{} messages of {}", call.len(), call.event_type());
///         self.0.call(call)
///     }
/// }
///
/// # fn main() -> tickr_core::Result<()> {
/// let worker = Worker::builder(MemoryStorage::new())
///     .on("order.placed", async || ())
///     .layer(tower::layer::layer_fn(Print::<HandlerService>))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct HandlerService(Arc<dyn Fn(Call) -> BoxFuture<'static, Vec<Verdict>> + Send + Sync>);

impl Service<Call> for HandlerService {
    type Response = Vec<Verdict>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Vec<Verdict>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let verdicts = (self.0)(call);
        Box::pin(async move { Ok(verdicts.await) })
    }
}

impl fmt::Debug for HandlerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerService(..)")
    }
}

impl HandlerService {
    async fn verdicts(self, contexts: Vec<Context>) -> Vec<Verdict> {
        match Call::new(contexts) {
            Some(call) => (self.0)(call).await,
            None => Vec::new(),
        }
    }
}

/// A layer, its type erased.
#[derive(Clone)]
pub(crate) struct AnyLayer(Arc<dyn Fn(HandlerService) -> HandlerService + Send + Sync>);

impl AnyLayer {
    pub(crate) fn new<L>(layer: L) -> Self
    where
        L: Layer<HandlerService> + Send + Sync + 'static,
        L::Service: Service<Call, Response = Vec<Verdict>, Error: Into<Failure>, Future: Send> + Clone + Send + Sync + 'static,
    {
        Self(Arc::new(move |inner| {
            let service = layer.layer(inner);
            HandlerService(Arc::new(move |call| {
                let mut service = service.clone();
                let messages = call.len();
                Box::pin(async move {
                    let answer: Result<_, Failure> = match poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into) {
                        Ok(()) => service.call(call).await.map_err(Into::into),
                        Err(refused) => Err(refused),
                    };
                    answer.unwrap_or_else(|failure| failure.repeat(messages).into_iter().map(Err).collect())
                })
            }))
        }))
    }
}

impl fmt::Debug for AnyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyLayer(..)")
    }
}

impl Invoke {
    /// The handler inside `layers`, the last of which is the outermost.
    pub(crate) fn layered<'a>(self, layers: impl IntoIterator<Item = &'a AnyLayer>) -> Self {
        let mut layers = layers.into_iter().peekable();
        if layers.peek().is_none() {
            return self;
        }
        let wrap = |inner: HandlerService| layers.fold(inner, |service, layer| (layer.0)(service));
        match self {
            Self::One(call) => {
                let service = wrap(HandlerService(Arc::new(move |request| {
                    let verdict = call(request.first);
                    Box::pin(async move { vec![verdict.await] })
                })));
                Self::One(Arc::new(move |context| {
                    let verdicts = service.clone().verdicts(vec![context]);
                    Box::pin(async move {
                        let first = verdicts.await.into_iter().next();
                        first.unwrap_or_else(|| Err(Failure::new("a layer of the handler gave no result for this message")))
                    })
                }))
            }
            Self::Many { max_batch, call } => {
                let service =
                    wrap(HandlerService(Arc::new(move |request| call(std::iter::once(request.first).chain(request.others).collect()))));
                Self::Many { max_batch, call: Arc::new(move |contexts| Box::pin(service.clone().verdicts(contexts))) }
            }
        }
    }
}
