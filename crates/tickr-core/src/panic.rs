//! Code of the application that panics, and values of it that panic when they are dropped.
//!
//! A panic carries a value of its own, and `std::panic::panic_any` takes any: one whose destructor panics would unwind a second
//! time into whoever caught the first panic, and end a task of the engine. A future that is dropped early can do the same.
//! Everything that calls or drops what the application has made does it by the functions here. They do not help against a destructor
//! that panics while another one unwinds: Rust then ends the process.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a panic carried, as [`catch_unwind`] gives it.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Calls code that may panic; the text of its panic is the error.
///
/// For adapters that call code of the application: what the panic carried is dropped here, and a panic of that goes no further.
///
/// # Errors
/// What the panic says, or `(no message)` if that is no text.
pub fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(text)
}

/// What a panic says; its payload is disposed of.
pub(crate) fn text(payload: Payload) -> String {
    let text = peek(&*payload).to_owned();
    dispose(payload);
    text
}

/// Drops a value of the application; a panic of its destructor is logged.
pub(crate) fn dispose<T>(value: T) {
    let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(value))) else { return };
    let panic = peek(&*second).to_owned();
    // The next destructor may panic as well, and so on without end: what is not known to be harmless is leaked.
    if !second.is::<String>() {
        std::mem::forget(second);
    }
    tracing::error!(panic, "a value of the application panicked when it was dropped");
}

fn peek(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(no message)")
}

/// A future of the application, which `make` makes of `argument` at the first poll: a panic is its result, whether `make` panics or
/// a poll. It may be dropped at any time.
///
/// `make` captures nothing: of a closure that borrows, the compiler does not see that a task which awaits this is `Send`.
pub(crate) const fn caught_future<A, F: Future + Unpin>(argument: A, make: fn(A) -> F) -> Caught<A, F> {
    Caught { make, argument: Some(argument), future: None }
}

/// See [`caught_future`].
pub(crate) struct Caught<A, F> {
    make: fn(A) -> F,
    argument: Option<A>,
    future: Option<F>,
}

impl<A: Unpin, F: Future + Unpin> Future for Caught<A, F> {
    type Output = Result<F::Output, String>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { make, argument, future } = self.get_mut();
        let polled = caught(|| {
            if let Some(argument) = argument.take() {
                *future = Some(make(argument));
            }
            future.as_mut().map_or(Poll::Pending, |future| Pin::new(future).poll(cx))
        });
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(panic) => Err(panic),
        };
        dispose(future.take());
        Poll::Ready(result)
    }
}

impl<A, F> Drop for Caught<A, F> {
    fn drop(&mut self) {
        dispose((self.argument.take(), self.future.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics with another one of itself, so that no number of attempts drops it.
    struct Hydra;

    impl Drop for Hydra {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }

    struct Ready;

    impl Future for Ready {
        type Output = u8;

        fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<u8> {
            Poll::Ready(7)
        }
    }

    impl Drop for Ready {
        fn drop(&mut self) {
            panic!("on purpose, by a test");
        }
    }

    #[test]
    fn a_panic_is_its_text_whatever_it_carries() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(caught(|| panic!("on purpose, by {}", "a test")), Err::<(), _>("on purpose, by a test".to_owned()));
        assert_eq!(caught(|| panic!("on purpose")), Err::<(), _>("on purpose".to_owned()));
        assert_eq!(caught(|| std::panic::panic_any(Hydra)), Err::<(), _>("(no message)".to_owned()));
        dispose(Hydra);
    }

    #[test]
    fn a_future_that_panics_when_it_is_dropped_gives_its_result_all_the_same() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut future = caught_future((), |()| Ready);
        assert_eq!(Pin::new(&mut future).poll(&mut cx), Poll::Ready(Ok(7)));
        let mut future = caught_future(Hydra, |hydra| -> Ready { std::panic::panic_any(hydra) });
        assert_eq!(Pin::new(&mut future).poll(&mut cx), Poll::Ready(Err("(no message)".to_owned())));
        drop(caught_future(Hydra, |_| Ready));
    }
}
