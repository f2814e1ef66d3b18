//! The name of what happened.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The type of a message, such as `order.created`: 1 to 255 bytes, printable (no control or format characters, no line separators). Cheap
/// to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Arc<str>);

impl EventType {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// Checks a name.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) when it is empty, longer than [`BYTES_MAX`](Self::BYTES_MAX) bytes, or
    /// has a character that is not printable: control and format characters, separators of lines and paragraphs, fillers.
    pub fn new(name: &str) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::config("event type is empty"));
        }
        if name.len() > Self::BYTES_MAX {
            return Err(Error::config(format!("event type has {} bytes, the limit is {}", name.len(), Self::BYTES_MAX)));
        }
        if let Some(c) = name.chars().find(|c| !is_printable(*c)) {
            return Err(Error::config(format!("event type {name:?} has the character U+{:04X}, which is not printable", u32::from(c))));
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

/// Whether a character shows. Two names that look alike must not differ: format characters are refused, and what is as invisible.
///
/// The general categories Cc, Cf, Zl and Zp of Unicode 16 (<https://www.unicode.org/Public/16.0.0/ucd/extracted/DerivedGeneralCategory.txt>),
/// and what has the property `Default_Ignorable_Code_Point`, such as variation selectors and the Hangul fillers
/// (<https://www.unicode.org/Public/16.0.0/ucd/DerivedCoreProperties.txt>).
pub(crate) fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_refused() {
        for c in [
            '\0',
            '\n',
            '\u{7f}',
            '\u{85}',
            '\u{ad}',
            '\u{200b}',
            '\u{200d}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{34f}',
            '\u{17b4}',
            '\u{180b}',
            '\u{fe0f}',
            '\u{fff0}',
            '\u{e0041}',
            '\u{e0100}',
        ] {
            let error = EventType::new(&format!("order{c}paid")).unwrap_err().to_string();
            assert!(error.contains(&format!("U+{:04X}", u32::from(c))), "{error}");
        }
    }

    #[test]
    fn visible_characters_are_accepted() {
        for name in ["order.paid", "заказ", "注文 完了", "🦀", "e\u{301}", "a\u{a0}b"] {
            assert_eq!(EventType::new(name).unwrap().as_str(), name);
        }
    }
}
