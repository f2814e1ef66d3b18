//! Plain async functions as handlers.

use std::future::Future;

use super::context::Context;
use super::extract::{FromMessage, Requirements};
use super::failure::{IntoVerdict, Verdict};

/// A function that handles one message: `async fn(Json<Order>, State<Bank>, Context) -> Result<(), Failure>`.
///
/// Implemented for async functions of up to eight extractors. Handlers are called at least once per message and must
/// be idempotent: after a crash the same message comes again.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "a handler is an `async fn` of up to eight extractors (`Json<T>`, `State<T>`, `Context`, ...)",
    note = "that returns `()`, `Outcome`, or `Result<_, Failure>`, and whose future is `Send`"
)]
pub trait Handler<Args>: Send + Sync + 'static {
    /// Calls the function.
    fn call(&self, context: Context) -> impl Future<Output = Verdict> + Send + 'static;

    /// What its arguments need.
    fn requires(requirements: &mut Requirements);
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
