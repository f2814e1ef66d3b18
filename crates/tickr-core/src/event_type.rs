//! The name of what happened.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The type of a message, such as `order.created`: 1 to 255 bytes, printable. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Arc<str>);

impl EventType {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// Checks a name.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) when it is empty, longer than [`BYTES_MAX`](Self::BYTES_MAX) bytes, or
    /// has a control character.
    pub fn new(name: &str) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::config("event type is empty"));
        }
        if name.len() > Self::BYTES_MAX {
            return Err(Error::config(format!("event type has {} bytes, the limit is {}", name.len(), Self::BYTES_MAX)));
        }
        if name.chars().any(char::is_control) {
            return Err(Error::config(format!("event type {name:?} has a control character")));
        }
        Ok(Self(name.into()))
    }

    /// Takes a stored name, which was checked when it was enqueued.
    pub fn from_stored(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventType {
    type Err = Error;

    /// As [`EventType::new`].
    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl Deref for EventType {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for EventType {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Ties a body to its event type, so that producer and handler cannot drift apart.
///
/// ```
/// struct OrderCreated { id: u64 }
/// impl tickr_core::Event for OrderCreated {
///     const TYPE: &'static str = "order.created";
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the trait bound `{Self}: Event` is not satisfied",
    label = "`{Self}` has no event type",
    note = "derive it: `#[derive(tickr::Event)]` with `#[event(type = \"order.placed\")]`"
)]
pub trait Event {
    /// The event type of every message with this body.
    const TYPE: &'static str;
}

impl<E: Event + ?Sized> Event for &E {
    const TYPE: &'static str = E::TYPE;
}
