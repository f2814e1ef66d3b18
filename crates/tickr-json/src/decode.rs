//! Decoding, with errors that never quote the body.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tickr_core::EventType;

/// Why a body is not what its handler takes. It names the event type and the place, never what stands there: errors are
/// stored in the history, logged and shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    event_type: EventType,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    /// The message says that its body is something else.
    ContentType(String),
    Body {
        what: What,
        line: usize,
        column: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    NotJson,
    CutOff,
    /// JSON, but not of the type; what the type wants, if it can be said without quoting the body.
    NotTheType(Option<String>),
}

impl DecodeError {
    /// The event type of the message.
    pub const fn event_type(&self) -> &EventType {
        &self.event_type
    }

    /// Line and column in the body, from 1; absent when the content type was refused.
    pub const fn position(&self) -> Option<(usize, usize)> {
        match self.problem {
            Problem::Body { line, column, .. } => Some((line, column)),
            Problem::ContentType(_) => None,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event_type = &self.event_type;
        let (what, line, column) = match &self.problem {
            Problem::ContentType(found) => return write!(f, "the content type of {event_type} is {found:?}, which is not JSON"),
            Problem::Body { what, line, column } => (what, line, column),
        };
        write!(f, "the body of {event_type} ")?;
        match what {
            What::NotJson => f.write_str("is not JSON")?,
            What::CutOff => f.write_str("ends too early")?,
            What::NotTheType(None) => f.write_str("is not of the type that its handler takes")?,
            What::NotTheType(Some(wanted)) => write!(f, "is not of the type that its handler takes ({wanted})")?,
        }
        write!(f, ", line {line} column {column}")
    }
}

// No source: serde_json's own message quotes the body, and a failure is recorded with its causes.
impl std::error::Error for DecodeError {}

/// Decodes a body, unless its content type says that it is something else.
pub(crate) fn decode<T: DeserializeOwned>(event_type: &EventType, content_type: Option<&str>, body: &[u8]) -> Result<T, DecodeError> {
    let refuse = |problem| DecodeError { event_type: event_type.clone(), problem };
    if let Some(found) = content_type.filter(|found| !is_json(found)) {
        return Err(refuse(Problem::ContentType(found.to_owned())));
    }
    serde_json::from_slice(body).map_err(|error| {
        let what = match error.classify() {
            Category::Eof => What::CutOff,
            Category::Data => What::NotTheType(wanted(&error.to_string())),
            Category::Syntax | Category::Io => What::NotJson,
        };
        refuse(Problem::Body { what, line: error.line(), column: error.column() })
    })
}

/// `application/json` or any type with the suffix `+json` (RFC 6839), whatever its parameters.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or(content_type).trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// Picks from serde's message what comes from the Rust type: names of its fields, and what is `expected`. The rest of the
/// message quotes the body.
fn wanted(message: &str) -> Option<String> {
    // The place follows from the error itself.
    let message = message.rsplit_once(" at line ").map_or(message, |(text, _)| text);
    let names_a_field = ["missing field `", "duplicate field `"];
    if names_a_field.iter().any(|start| message.starts_with(start)) {
        return Some(message.to_owned());
    }
    let says_what_it_expects = ["invalid type: ", "invalid value: ", "invalid length ", "unknown field `", "unknown variant `"];
    if says_what_it_expects.iter().any(|start| message.starts_with(start)) {
        // The last one: a quoted string may say ", expected " too.
        return message.rsplit_once(", expected ").map(|(_, expected)| format!("expected {expected}"));
    }
    None
}
