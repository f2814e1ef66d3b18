//! Plain async functions as handlers.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use tower_layer::Layer;
use tower_service::Service;

use super::context::Context;
use super::extract::{FromMessage, Requirements};
use super::failure::{Failure, IntoVerdict, Verdict};
use super::layer::{Call, HandlerService};
use super::options::{Configured, HandlerOptions};
use super::retry::RetryPolicy;

/// A function that handles one message: `async fn(Json<Order>, State<Bank>, Context) -> Result<(), Failure>`.
///
/// Implemented for async functions of up to eight extractors. Handlers are called at least once per message and must
/// be idempotent: after a crash the same message comes again.
///
/// The methods of this trait attach options, so import it to set one. A closure needs parentheses: `(async || ()).timeout(limit)`.
///
/// ```
/// use std::time::Duration;
/// use tickr_core::{Context, Failure, Handler, Registry};
///
/// async fn confirm(context: Context) -> Result<(), Failure> {
///     println!("attempt {}", context.attempt());
///     Ok(())
/// }
///
/// let plain = Registry::new().on("order.placed", confirm);
/// let careful = Registry::new().on("order.placed", confirm.max_attempts(5).timeout(Duration::from_secs(10)));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "a handler is an `async fn` of up to eight extractors (`Json<T>`, `State<T>`, `Context`, ...)",
    note = "that returns `()`, `Outcome`, or a `Result` of `()` or `Outcome` with any error, and whose future is `Send`",
    note = "a function of a `Batch<Json<T>>` is a batch handler: register it with `on_batch`",
    note = "put `#[tickr::debug_handler]` on the function to learn which argument or value is wrong"
)]
pub trait Handler<Args>: Sized + Send + Sync + 'static {
    /// Calls the function.
    fn call(&self, context: Context) -> impl Future<Output = Verdict> + Send + 'static;

    /// What its arguments need.
    fn requires(requirements: &mut Requirements);

    /// Its options: the defaults, unless it was given some.
    fn options(&self) -> HandlerOptions {
        HandlerOptions::default()
    }

    /// Replaces all options.
    fn with_options(self, options: HandlerOptions) -> Configured<Self, Args> {
        Configured { handler: self, options, args: PhantomData }
    }

    /// Limits one attempt; see [`HandlerOptions::timeout`].
    fn timeout(self, limit: Duration) -> Configured<Self, Args> {
        let options = self.options().timeout(limit);
        self.with_options(options)
    }

    /// Lets an attempt run as long as it wants; see [`HandlerOptions::no_timeout`].
    fn no_timeout(self) -> Configured<Self, Args> {
        let options = self.options().no_timeout();
        self.with_options(options)
    }

    /// How often a message is tried before it is DEAD; see [`HandlerOptions::max_attempts`].
    fn max_attempts(self, attempts: u16) -> Configured<Self, Args> {
        let options = self.options().max_attempts(attempts);
        self.with_options(options)
    }

    /// How many messages of this type run at a time in this worker; see [`HandlerOptions::max_in_flight`].
    fn max_in_flight(self, messages: u32) -> Configured<Self, Args> {
        let options = self.options().max_in_flight(messages);
        self.with_options(options)
    }

    /// When the next attempt follows; see [`HandlerOptions::retry`].
    fn retry(self, policy: impl RetryPolicy) -> Configured<Self, Args> {
        let options = self.options().retry(policy);
        self.with_options(options)
    }

    /// Errors for which `predicate` is true are final; see [`HandlerOptions::dead_letter_if`].
    fn dead_letter_if(
        self,
        predicate: impl Fn(&(dyn std::error::Error + 'static)) -> bool + Send + Sync + 'static,
    ) -> Configured<Self, Args> {
        let options = self.options().dead_letter_if(predicate);
        self.with_options(options)
    }

    /// Wraps the handler in a layer of tower; see [`HandlerOptions::layer`].
    fn layer<L>(self, layer: L) -> Configured<Self, Args>
    where
        L: Layer<HandlerService> + Send + Sync + 'static,
        L::Service: Service<Call, Response = Vec<Verdict>, Error: Into<Failure>, Future: Send> + Clone + Send + Sync + 'static,
    {
        let options = self.options().layer(layer);
        self.with_options(options)
    }

    /// Is called with a message that became DEAD by this handler; see [`HandlerOptions::on_dead`].
    fn on_dead(self, callback: impl Fn(&Context, &str) + Send + Sync + 'static) -> Configured<Self, Args> {
        let options = self.options().on_dead(callback);
        self.with_options(options)
    }
}

macro_rules! handler {
    ($($argument:ident),*) => {
        impl<Function, Answer, Returned, $($argument),*> Handler<($($argument,)*)> for Function
        where
            Function: Fn($($argument),*) -> Answer + Clone + Send + Sync + 'static,
            Answer: Future<Output = Returned> + Send + 'static,
            Returned: IntoVerdict + 'static,
            $($argument: FromMessage + 'static,)*
        {
            #[allow(non_snake_case, unused_variables, reason = "one macro for every number of arguments")]
            fn call(&self, context: Context) -> impl Future<Output = Verdict> + Send + 'static {
                let function = self.clone();
                async move {
                    $(let $argument = $argument::from_message(&context)?;)*
                    drop(context);
                    function($($argument),*).await.into_verdict()
                }
            }

            #[allow(unused_variables, reason = "one macro for every number of arguments")]
            fn requires(requirements: &mut Requirements) {
                $($argument::requires(requirements);)*
            }
        }
    };
}

handler!();
handler!(A);
handler!(A, B);
handler!(A, B, C);
handler!(A, B, C, D);
handler!(A, B, C, D, E);
handler!(A, B, C, D, E, F);
handler!(A, B, C, D, E, F, G);
handler!(A, B, C, D, E, F, G, H);
