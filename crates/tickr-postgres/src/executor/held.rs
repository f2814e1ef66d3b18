//! A connection in use.

use deadpool_postgres::{ClientWrapper, Object};

use crate::error::Fault;

/// A connection in use. Unless it is given back it is closed: nobody knows in which state it is.
pub(crate) struct Held(Source);

/// Where a connection comes from.
enum Source {
    /// The pool, to which it can be given back.
    Pool(Object),
    /// Opened for this operation, and closed after it in any case.
    Extra(ClientWrapper),
    /// It was given back or closed.
    Gone,
}

impl Held {
    pub(super) fn pooled(connection: Object) -> Self {
        Self(Source::Pool(connection))
    }

    pub(super) fn extra(connection: ClientWrapper) -> Self {
        Self(Source::Extra(connection))
    }

    pub(crate) fn client(&self) -> &ClientWrapper {
        match &self.0 {
            Source::Pool(connection) => connection,
            Source::Extra(connection) => connection,
            Source::Gone => unreachable!("only giving back and dropping take the connection, and both end the borrow"),
        }
    }

    /// Whether an operation had the connection before, since it was made.
    pub(super) fn is_used(&self) -> bool {
        match &self.0 {
            Source::Pool(connection) => Object::metrics(connection).recycle_count > 0,
            Source::Extra(_) | Source::Gone => false,
        }
    }

    /// Gives the connection back, unless the result says that it is of no more use.
    pub(crate) fn give_back<T>(mut self, result: Result<T, Fault>) -> Result<T, Fault> {
        let usable = result.as_ref().err().is_none_or(Fault::spares_connection);
        if usable {
            self.0 = Source::Gone;
        }
        result
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Source::Pool(connection) = std::mem::replace(&mut self.0, Source::Gone) {
            // The pool makes a new one in its place.
            drop(Object::take(connection));
        }
    }
}
