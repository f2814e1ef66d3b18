//! The error of every storage and client operation.

use std::borrow::Cow;
use std::fmt;

/// A boxed error of any kind, as handlers and adapters produce them.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The result of a storage or client operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in words that say what to do next.
///
/// An adapter maps its driver's codes to these kinds in one table (its `error.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or an option is wrong: change the call. Nothing was written.
    Config,
    /// This storage cannot do what was asked ([`Capabilities`](crate::Capabilities) says so beforehand).
    Unsupported,
    /// The named message, lock or worker does not exist.
    NotFound,
    /// Something else exists or happened in the way: a duplicate, a serialisation failure, a deadlock.
    Conflict,
    /// The lease of a worker or a claim is gone; its work belongs to somebody else now.
    LeaseLost,
    /// The database cannot be reached, or refuses for a while: busy, full, starting, out of connections. Nothing was written.
    Unavailable,
    /// The request was sent and its answer was lost: it may or may not have happened. Every tickr operation can be repeated.
    Indeterminate,
    /// A body or a header cannot be encoded or decoded.
    Codec,
    /// The schema is missing, too old, or newer than this library can read.
    Migration,
    /// Stored data cannot be read or contradicts itself. [`Admin::audit`](crate::Admin::audit) names what contradicts the protocol; a
    /// database that is damaged itself needs the means of the database.
    Corrupt,
    /// The client or the worker was shut down.
    Closed,
    /// A bug in tickr or in an adapter.
    Internal,
}

impl ErrorKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Config => "invalid argument",
            Self::Unsupported => "unsupported",
            Self::NotFound => "not found",
            Self::Conflict => "conflict",
            Self::LeaseLost => "lease lost",
            Self::Unavailable => "unavailable",
            Self::Indeterminate => "outcome unknown",
            Self::Codec => "codec",
            Self::Migration => "schema",
            Self::Corrupt => "corrupt data",
            Self::Closed => "closed",
            Self::Internal => "internal error",
        }
    }
}

/// What a caller may repeat after an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retry {
    /// Repeating gives the same error.
    Never,
    /// The same operation may be sent again.
    Operation,
    /// The caller's whole transaction must be rolled back and run again.
    Transaction,
}

/// The error of a storage or client operation: a kind, what may be repeated, a sentence and its cause.
///
/// The value is one pointer wide. The native error of the driver stays reachable through
/// [`source`](std::error::Error::source).
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    context: Cow<'static, str>,
    source: Option<BoxError>,
}

impl Error {
    /// Makes an error of `kind`; `context` is a lower-case sentence without a full stop that names the thing.
    ///
    /// [`ErrorKind::Unavailable`] and [`ErrorKind::Indeterminate`] may be repeated ([`Retry::Operation`]), all
    /// others may not, unless [`with_retry`](Self::with_retry) says otherwise.
    pub fn new(kind: ErrorKind, context: impl Into<Cow<'static, str>>) -> Self {
        let retry = match kind {
            ErrorKind::Unavailable | ErrorKind::Indeterminate => Retry::Operation,
            _ => Retry::Never,
        };
        Self(Box::new(Inner { kind, retry, context: context.into(), source: None }))
    }

    /// Shorthand for a [`ErrorKind::Config`] error.
    pub fn config(context: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, context)
    }

    /// Says what may be repeated.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts what was being done in front of the sentence: `claim: database is locked`. An operation that the sentence begins
    /// with already, because the adapter has named it, is not named again.
    #[must_use]
    pub fn during(mut self, operation: &str) -> Self {
        if self.0.context.strip_prefix(operation).is_some_and(|rest| rest.starts_with(": ")) {
            return self;
        }
        self.0.context = format!("{operation}: {}", self.0.context).into();
        self
    }

    /// The same without its cause, for others that it concerns too.
    pub(crate) fn copy(&self) -> Self {
        Self::new(self.0.kind, self.0.context.clone()).with_retry(self.0.retry)
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What may be repeated.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Whether sending the same operation again can succeed.
    pub fn is_transient(&self) -> bool {
        self.0.retry == Retry::Operation
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.name(), self.0.context)
    }
}

/// A program whose `main` returns this error prints it with `{:?}`, so that this is a sentence for people: the text of
/// [`Display`](fmt::Display). `{:#?}` shows every field and the cause.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return fmt::Display::fmt(self, f);
        }
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("retry", &self.0.retry)
            .field("context", &self.0.context)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unavailable_and_indeterminate_are_transient_by_default() {
        assert!(Error::new(ErrorKind::Unavailable, "x").is_transient());
        assert!(Error::new(ErrorKind::Indeterminate, "x").is_transient());
        assert!(!Error::config("x").is_transient());
    }

    #[test]
    fn the_sentence_names_kind_operation_and_thing() {
        let error = Error::new(ErrorKind::Unavailable, "database is locked").during("claim");
        assert_eq!(error.to_string(), "unavailable: claim: database is locked");
    }

    #[test]
    fn a_main_that_returns_it_prints_a_sentence() {
        let error = Error::config("there is no host").with_source("a cause");
        assert_eq!(format!("{error:?}"), "invalid argument: there is no host");
        let fields = format!("{error:#?}");
        assert!(fields.contains("Never") && fields.contains("a cause"), "{fields}");
    }

    #[test]
    fn an_operation_is_named_once() {
        let error = Error::new(ErrorKind::Unavailable, "the connection broke").during("claim").during("claim");
        assert_eq!(error.to_string(), "unavailable: claim: the connection broke");
        let error = Error::new(ErrorKind::Unavailable, "claimed by others").during("claim").during("settle");
        assert_eq!(error.to_string(), "unavailable: settle: claim: claimed by others");
    }
}
