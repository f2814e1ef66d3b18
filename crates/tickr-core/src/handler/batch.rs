//! Handlers that take many messages at once.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use tower_layer::Layer;
use tower_service::Service;

use super::context::Context;
use super::extract::{FromMessage, Requirements, State};
use super::failure::{Failure, IntoVerdict, Outcome, Verdict};
use super::layer::{Call, HandlerService};
use super::options::{BatchOptions, ConfiguredBatch};
use super::retry::RetryPolicy;
use crate::client::Client;
use crate::panic::caught;
use crate::storage::AnyStorage;
use tokio_util::sync::CancellationToken;

/// One decoded member of a batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BatchItem<T> {
    /// The body.
    pub body: T,
    /// The message and its attempt.
    pub context: Context,
}

impl<T> BatchItem<T> {
    /// A member with its message, for tests of a batch handler.
    pub const fn new(body: T, context: Context) -> Self {
        Self { body, context }
    }
}

/// The members of a batch that could be decoded; the others are DEAD, one by one.
///
/// ```
/// use tickr_core::{Batch, BatchHandler, Failure, Outcome, Raw, Registry, Verdict};
///
/// // One answer for all...
/// async fn store(rows: Batch<Raw>) -> Result<(), Failure> {
///     println!("{} rows in one statement", rows.len());
///     Ok(())
/// }
///
/// // ...or one for each member, in their order.
/// async fn send(mails: Batch<Raw>) -> Vec<Verdict> {
///     let send = |body: &[u8]| if body.is_empty() { Err(Failure::dead("nothing to send")) } else { Ok(Outcome::Done) };
///     mails.iter().map(|mail| send(&mail.body.0)).collect()
/// }
///
/// let handlers = Registry::new().on_batch("row.added", store.max_batch(500)).on_batch("mail", send);
/// # assert_eq!(handlers.event_types().count(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct Batch<T>(pub Vec<BatchItem<T>>);

impl<T> Batch<T> {
    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none (then the handler is not called).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members.
    pub fn iter(&self) -> std::slice::Iter<'_, BatchItem<T>> {
        self.0.iter()
    }
}

impl<T> IntoIterator for Batch<T> {
    type Item = BatchItem<T>;
    type IntoIter = std::vec::IntoIter<BatchItem<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// What a batch handler gets beside the batch.
#[derive(Clone, Debug)]
pub struct BatchContext {
    first: Context,
}

impl BatchContext {
    /// Fires when the handler should stop.
    pub fn cancelled(&self) -> &CancellationToken {
        self.first.cancelled()
    }

    /// A client on the worker's storage.
    pub fn client(&self) -> &Client<AnyStorage> {
        self.first.client()
    }

    /// The name of the worker.
    pub fn worker(&self) -> &str {
        self.first.worker()
    }
}

/// A further argument of a batch handler: [`State`] or [`BatchContext`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a further argument of a batch handler",
    note = "after the `Batch<Json<T>>` come `State<T>` and `BatchContext`"
)]
pub trait FromBatch: Sized + Send {
    /// Makes the argument.
    ///
    /// # Errors
    /// A [`Failure`], which ends the attempt of the whole batch.
    fn from_batch(context: &BatchContext) -> Result<Self, Failure>;

    /// Says what the argument needs to be there when the worker is built.
    fn requires(_requirements: &mut Requirements) {}
}

impl FromBatch for BatchContext {
    fn from_batch(context: &BatchContext) -> Result<Self, Failure> {
        Ok(context.clone())
    }
}

impl<T: Clone + Send + Sync + 'static> FromBatch for State<T> {
    fn from_batch(context: &BatchContext) -> Result<Self, Failure> {
        context.first.states().extract()
    }

    fn requires(requirements: &mut Requirements) {
        requirements.state::<T>();
    }
}

/// What became of a batch: one verdict for all, or one per member in their order.
#[derive(Debug)]
#[non_exhaustive]
pub enum BatchResults {
    /// One for all.
    All(Verdict),
    /// One per member of the [`Batch`]. Missing ones count as failed.
    Each(Vec<Verdict>),
}

/// What a batch handler may return: what a handler may return, for all members; or [`BatchResults`], or a vector of verdicts.
#[diagnostic::on_unimplemented(
    message = "a batch handler cannot return `{Self}`",
    note = "return `()`, `Outcome`, or a `Result` of `()` or `Outcome` with any error for all members",
    note = "return `Vec<Verdict>` or `BatchResults` to give each member its own verdict"
)]
pub trait IntoBatchResults {
    /// Converts.
    fn into_batch_results(self) -> BatchResults;
}

impl IntoBatchResults for BatchResults {
    fn into_batch_results(self) -> BatchResults {
        self
    }
}

impl IntoBatchResults for Vec<Verdict> {
    fn into_batch_results(self) -> BatchResults {
        BatchResults::Each(self)
    }
}

impl IntoBatchResults for () {
    fn into_batch_results(self) -> BatchResults {
        BatchResults::All(Ok(Outcome::Done))
    }
}

impl IntoBatchResults for Outcome {
    fn into_batch_results(self) -> BatchResults {
        BatchResults::All(Ok(self))
    }
}

impl<T: Into<Outcome>, E: Into<Failure>> IntoBatchResults for Result<T, E> {
    fn into_batch_results(self) -> BatchResults {
        BatchResults::All(self.into_verdict())
    }
}

/// A function that handles many messages of one type: `async fn(Batch<Json<Row>>, State<Db>) -> Result<(), Failure>`.
///
/// The methods of this trait attach options, so import it to set one: `store.max_batch(500)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a batch handler",
    note = "a batch handler is an `async fn(Batch<Json<T>>, ...)` with up to three further arguments (`State<T>`, `BatchContext`)",
    note = "that returns `()`, `Outcome`, a `Result` of `()` or `Outcome` with any error, or `Vec<Verdict>`, and whose future is `Send`",
    note = "put `#[tickr::debug_handler]` on the function to learn which argument or value is wrong"
)]
pub trait BatchHandler<Args>: Sized + Send + Sync + 'static {
    /// Decodes each member, and calls the function with those that could be decoded. The answer is parallel to `contexts`.
    fn call(&self, contexts: Vec<Context>) -> impl Future<Output = Vec<Verdict>> + Send + 'static;

    /// What its arguments need.
    fn requires(requirements: &mut Requirements);

    /// Its options: the defaults, unless it was given some.
    fn options(&self) -> BatchOptions {
        BatchOptions::default()
    }

    /// Replaces all options.
    fn with_options(self, options: BatchOptions) -> ConfiguredBatch<Self, Args> {
        ConfiguredBatch { handler: self, options, args: PhantomData }
    }

    /// How many messages one call gets at most; see [`BatchOptions::max_batch`].
    fn max_batch(self, messages: u32) -> ConfiguredBatch<Self, Args> {
        let options = self.options().max_batch(messages);
        self.with_options(options)
    }

    /// Limits one call; see [`BatchOptions::timeout`].
    fn timeout(self, limit: Duration) -> ConfiguredBatch<Self, Args> {
        let options = self.options().timeout(limit);
        self.with_options(options)
    }

    /// Lets a call run as long as it wants; see [`BatchOptions::no_timeout`].
    fn no_timeout(self) -> ConfiguredBatch<Self, Args> {
        let options = self.options().no_timeout();
        self.with_options(options)
    }

    /// How often a message is tried before it is DEAD; see [`BatchOptions::max_attempts`].
    fn max_attempts(self, attempts: u16) -> ConfiguredBatch<Self, Args> {
        let options = self.options().max_attempts(attempts);
        self.with_options(options)
    }

    /// When the next attempt follows; see [`BatchOptions::retry`].
    fn retry(self, policy: impl RetryPolicy) -> ConfiguredBatch<Self, Args> {
        let options = self.options().retry(policy);
        self.with_options(options)
    }

    /// Errors for which `predicate` is true are final; see [`BatchOptions::dead_letter_if`].
    fn dead_letter_if(
        self,
        predicate: impl Fn(&(dyn std::error::Error + 'static)) -> bool + Send + Sync + 'static,
    ) -> ConfiguredBatch<Self, Args> {
        let options = self.options().dead_letter_if(predicate);
        self.with_options(options)
    }

    /// Wraps the handler in a layer of tower; see [`BatchOptions::layer`].
    fn layer<L>(self, layer: L) -> ConfiguredBatch<Self, Args>
    where
        L: Layer<HandlerService> + Send + Sync + 'static,
        L::Service: Service<Call, Response = Vec<Verdict>, Error: Into<Failure>, Future: Send> + Clone + Send + Sync + 'static,
    {
        let options = self.options().layer(layer);
        self.with_options(options)
    }

    /// Is called with a message that became DEAD by this handler; see [`BatchOptions::on_dead`].
    fn on_dead(self, callback: impl Fn(&Context, &str) + Send + Sync + 'static) -> ConfiguredBatch<Self, Args> {
        let options = self.options().on_dead(callback);
        self.with_options(options)
    }
}

macro_rules! batch_handler {
    ($($argument:ident),*) => {
        impl<Function, Answer, Returned, Body, $($argument),*> BatchHandler<(Body, $($argument,)*)> for Function
        where
            Function: Fn(Batch<Body>, $($argument),*) -> Answer + Clone + Send + Sync + 'static,
            Answer: Future<Output = Returned> + Send + 'static,
            Returned: IntoBatchResults + 'static,
            Body: FromMessage + 'static,
            $($argument: FromBatch + 'static,)*
        {
            #[allow(non_snake_case, unused_variables, reason = "one macro for every number of arguments")]
            fn call(&self, contexts: Vec<Context>) -> impl Future<Output = Vec<Verdict>> + Send + 'static {
                let function = self.clone();
                async move {
                    let mut decoded = Decoded::of(contexts);
                    let Some(context) = decoded.context() else { return decoded.verdicts(Vec::new()) };
                    $(let $argument = match $argument::from_batch(&context) {
                        Ok(argument) => argument,
                        Err(failure) => return decoded.uniform(Err(failure)),
                    };)*
                    let batch = decoded.take();
                    match function(batch, $($argument),*).await.into_batch_results() {
                        BatchResults::All(verdict) => decoded.uniform(verdict),
                        BatchResults::Each(verdicts) => decoded.verdicts(verdicts),
                    }
                }
            }

            #[allow(unused_variables, reason = "one macro for every number of arguments")]
            fn requires(requirements: &mut Requirements) {
                Body::requires(requirements);
                $($argument::requires(requirements);)*
            }
        }
    };
}

batch_handler!();
batch_handler!(A);
batch_handler!(A, B);
batch_handler!(A, B, C);

/// A batch on its way through the decoder and back to one verdict per message.
struct Decoded<T> {
    items: Vec<BatchItem<T>>,
    /// Per message of the claim: why it could not be decoded.
    refused: Vec<Option<Failure>>,
}

impl<T: FromMessage> Decoded<T> {
    fn of(contexts: Vec<Context>) -> Self {
        let mut decoded = Self { items: Vec::with_capacity(contexts.len()), refused: Vec::with_capacity(contexts.len()) };
        for context in contexts {
            // A decoder that panics fails its own message only, as it does in a handler of single messages.
            let body = caught(|| T::from_message(&context));
            match body.unwrap_or_else(|panic| Err(Failure::of_panic(&panic))) {
                Ok(body) => {
                    decoded.items.push(BatchItem::new(body, context));
                    decoded.refused.push(None);
                }
                Err(failure) => decoded.refused.push(Some(failure)),
            }
        }
        decoded
    }

    fn context(&self) -> Option<BatchContext> {
        self.items.first().map(|item| BatchContext { first: item.context.clone() })
    }

    fn take(&mut self) -> Batch<T> {
        Batch(std::mem::take(&mut self.items))
    }

    fn uniform(self, verdict: Verdict) -> Vec<Verdict> {
        let count = self.refused.iter().filter(|refused| refused.is_none()).count();
        let mut all = Vec::with_capacity(count);
        match verdict {
            Ok(outcome) => all.resize_with(count, || Ok(outcome.clone())),
            Err(failure) => all.extend(failure.repeat(count).into_iter().map(Err)),
        }
        self.verdicts(all)
    }

    fn verdicts(self, given: Vec<Verdict>) -> Vec<Verdict> {
        let mut given = given.into_iter();
        let missing = || Err(Failure::new("the batch handler gave no result for this message"));
        self.refused.into_iter().map(|refused| refused.map_or_else(|| given.next().unwrap_or_else(missing), Err)).collect()
    }
}
