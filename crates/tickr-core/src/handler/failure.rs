//! What a handler answers.

use std::fmt;
use std::time::Duration;

use crate::error::BoxError;
use crate::panic;
use crate::storage::PauseEnd;

/// How a handler ended well.
///
/// ```
/// use std::time::Duration;
/// use tickr_core::{Context, Outcome, State};
///
/// async fn remind(State(paid): State<bool>, context: Context) -> Outcome {
///     if paid {
///         return Outcome::skip("paid meanwhile"); // a success; the history shows why
///     }
///     if context.headers().get("quiet").is_some() {
///         return Outcome::snooze(Duration::from_secs(3_600)); // again in an hour; no attempt is used up
///     }
///     Outcome::Done
/// }
/// # let _ = tickr_core::Registry::new().on("payment.due", remind);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Done.
    #[default]
    Done,
    /// There was nothing to do; recorded as a success, with the reason in the history.
    Skip(String),
    /// To be called again after this time; the attempt is given back.
    Snooze(Duration),
}

impl Outcome {
    /// Nothing to do, because of `reason`.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self::Skip(reason.into())
    }

    /// Call again after `delay`, without burning an attempt.
    pub const fn snooze(delay: Duration) -> Self {
        Self::Snooze(delay)
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Done
    }
}

/// How a handler failed: an error, and what follows from it.
///
/// Made by `?` from every error (then the handler's retry policy decides), or by [`dead`](Self::dead),
/// [`retry_after`](Self::retry_after) and [`pause_type`](Self::pause_type). It is no [`std::error::Error`] itself, as `anyhow::Error` is not.
///
/// ```
/// use std::time::Duration;
/// use tickr_core::{Failure, Raw};
///
/// async fn charge(Raw(body): Raw) -> Result<(), Failure> {
///     let text = std::str::from_utf8(&body)?; // any error: tried again after the handler's back-off
///     match text {
///         "declined" => Err(Failure::dead("the bank declines the card")), // no further attempts
///         "busy" => Err(Failure::retry_after(Duration::from_secs(30), "the bank is busy")),
///         _ => Ok(()),
///     }
/// }
/// # let _ = tickr_core::Registry::new().on("payment.due", charge);
/// ```
pub struct Failure {
    error: BoxError,
    follow: Follow,
}

/// How many causes of an error are recorded with it.
const CAUSES_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    Policy,
    RetryAfter(Duration),
    PauseType(PauseEnd),
    Dead,
}

impl Failure {
    /// Fails; the retry policy says when the next attempt follows.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self { error: error.into(), follow: Follow::Policy }
    }

    /// Fails for good: no further attempts.
    pub fn dead(error: impl Into<BoxError>) -> Self {
        Self { error: error.into(), follow: Follow::Dead }
    }

    /// Fails; the next attempt follows after exactly `delay`, whatever the policy says. DEAD when attempts are used up.
    pub fn retry_after(delay: Duration, error: impl Into<BoxError>) -> Self {
        Self { error: error.into(), follow: Follow::RetryAfter(delay) }
    }

    /// Pauses the event type of this message for all workers on the database: for an API that answers "too many requests", or
    /// that is down for everybody. `end` is a [`Duration`] from now, at least one second, or a moment of the database's clock.
    ///
    /// The message goes back to the front of its type and its attempt is given back, so that it never dies of this. So does what
    /// this worker holds of the type and has not started; what runs goes on, here and elsewhere. A pause of the type that ends
    /// later stays as it is, such as one by an operator. If the pause cannot be stored, the message is snoozed for that time (30 s if
    /// `end` is no duration), the log says so, and other messages of the type go on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tickr_core::Failure;
    ///
    /// fn limited(retry_after_secs: u64) -> Failure {
    ///     Failure::pause_type(Duration::from_secs(retry_after_secs), "the mail API answered 429")
    /// }
    /// # limited(30);
    /// ```
    pub fn pause_type(end: impl Into<PauseEnd>, reason: impl Into<BoxError>) -> Self {
        Self { error: reason.into(), follow: Follow::PauseType(end.into()) }
    }

    /// Whether no further attempts follow.
    pub fn is_dead(&self) -> bool {
        self.follow == Follow::Dead
    }

    /// The delay that was asked for.
    pub const fn delay(&self) -> Option<Duration> {
        match self.follow {
            Follow::RetryAfter(delay) => Some(delay),
            Follow::Policy | Follow::PauseType(_) | Follow::Dead => None,
        }
    }

    /// The error.
    pub fn error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.error
    }

    /// The error, owned.
    pub fn into_error(mut self) -> BoxError {
        self.take()
    }

    /// The failure of an attempt that panicked.
    pub(crate) fn of_panic(text: &str) -> Self {
        Self::new(format!("handler panicked: {text}"))
    }

    fn take(&mut self) -> BoxError {
        std::mem::replace(&mut self.error, Box::new(Taken))
    }
}

impl Drop for Failure {
    /// The engine drops failures in many places, and none of them may panic because the destructor of an application's error does.
    fn drop(&mut self) {
        panic::dispose(self.take());
    }
}

/// Stands where the error was.
#[derive(Debug)]
struct Taken;

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("taken")
    }
}

impl std::error::Error for Taken {}

impl<E: Into<BoxError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Display for Failure {
    /// The error with its causes, `outer: inner: innermost`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        // An error that is its own cause would never end.
        std::iter::successors(self.error.source(), |cause| cause.source()).take(CAUSES_MAX).try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("error", &self.error).field("follow", &self.follow).finish()
    }
}

/// What a handler's attempt came to.
pub type Verdict = Result<Outcome, Failure>;

/// What a handler may return: `()`, [`Outcome`], or a `Result` of either with any error.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    note = "return `()`, `Outcome`, or a `Result` of `()` or `Outcome` with any error; every error converts into `Failure` with `?`"
)]
pub trait IntoVerdict {
    /// Converts.
    ///
    /// # Errors
    /// The handler's own failure.
    fn into_verdict(self) -> Verdict;
}

impl IntoVerdict for () {
    fn into_verdict(self) -> Verdict {
        Ok(Outcome::Done)
    }
}

impl IntoVerdict for Outcome {
    fn into_verdict(self) -> Verdict {
        Ok(self)
    }
}

impl<T: Into<Outcome>, E: Into<Failure>> IntoVerdict for Result<T, E> {
    fn into_verdict(self) -> Verdict {
        self.map(Into::into).map_err(Into::into)
    }
}

/// An error that many messages of a batch share.
#[derive(Clone, Debug)]
struct Shared(std::sync::Arc<BoxError>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Failure {
    /// The same failure for each of `count` messages.
    pub(crate) fn repeat(self, count: usize) -> Vec<Self> {
        let follow = self.follow;
        let shared = Shared(std::sync::Arc::new(self.into_error()));
        (0..count).map(|_| Self { error: Box::new(shared.clone()), follow }).collect()
    }

    pub(crate) const fn follow(&self) -> Follow {
        self.follow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct OwnCause;

    impl fmt::Display for OwnCause {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("again")
        }
    }

    impl std::error::Error for OwnCause {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(self)
        }
    }

    #[test]
    fn causes_are_shown_and_end() {
        let causes = Failure::new(OwnCause).to_string();
        assert_eq!(causes.split(": ").count(), 1 + CAUSES_MAX);
    }
}
