//! Decoding, with errors that never quote the body.

use std::fmt;

use tickr_core::EventType;

/// Why a body is not what its handler takes. It names the event type and the field, never what stands there: errors are
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
        field: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    NotProtobuf,
    CutOff,
    TooDeep,
    /// Protobuf, but not of the type; what the type wants, if it is known.
    NotTheType(Option<&'static str>),
}

impl DecodeError {
    /// The event type of the message.
    pub const fn event_type(&self) -> &EventType {
        &self.event_type
    }

    /// The field that could not be decoded, by its names in Rust, such as `Order.customer.name`. Absent when the content
    /// type was refused, and when the body went wrong outside of every field that the type has.
    pub fn field(&self) -> Option<&str> {
        match &self.problem {
            Problem::Body { field, .. } => field.as_deref(),
            Problem::ContentType(_) => None,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event_type = &self.event_type;
        let (what, field) = match &self.problem {
            Problem::ContentType(found) => return write!(f, "the content type of {event_type} is {found:?}, which is not protobuf"),
            Problem::Body { what, field } => (what, field),
        };
        write!(f, "the body of {event_type} ")?;
        match what {
            What::NotProtobuf => f.write_str("is not well-formed protobuf")?,
            What::CutOff => f.write_str("ends within a field")?,
            What::TooDeep => f.write_str("is nested too deep")?,
            What::NotTheType(None) => f.write_str("is not of the type that its handler takes")?,
            What::NotTheType(Some(wanted)) => write!(f, "is not of the type that its handler takes (expected {wanted})")?,
        }
        match field {
            Some(field) => write!(f, ", at {field}"),
            None => Ok(()),
        }
    }
}

// No source: prost's own message says what it found, and a failure is recorded with its causes.
impl std::error::Error for DecodeError {}

/// Decodes a body, unless its content type says that it is something else.
pub(crate) fn decode<T: prost::Message + Default>(
    event_type: &EventType,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<T, DecodeError> {
    let refuse = |problem| DecodeError { event_type: event_type.clone(), problem };
    if let Some(found) = content_type.filter(|found| !is_protobuf(found)) {
        return Err(refuse(Problem::ContentType(found.to_owned())));
    }
    T::decode(body).map_err(|error| refuse(Problem::Body { what: what(&error.to_string()), field: field(&error) }))
}

/// The [registered type](https://www.iana.org/assignments/media-types/application/protobuf) with its two deprecated names,
/// the one that was used before, or any type with the suffix `+protobuf` (in the manner of RFC 6839), whatever its parameters.
/// `application/protobuf+json` is JSON, as its suffix says.
fn is_protobuf(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or(content_type).trim().to_ascii_lowercase();
    let names = ["application/protobuf", "application/x-protobuf", "application/x-protobuffer", "application/vnd.google.protobuf"];
    names.contains(&essence.as_str()) || essence.ends_with("+protobuf")
}

/// Recognises prost's message, whose kinds it keeps to itself. Only words of this crate come out: the message may have
/// numbers and text of the body in it.
fn what(message: &str) -> What {
    let malformed = [
        "invalid varint",
        "invalid key value: ",
        "invalid tag value: 0",
        "invalid wire type value: ",
        "unexpected end group tag",
        "delimited length exceeded",
    ];
    if malformed.iter().any(|text| message.contains(text)) {
        return What::NotProtobuf;
    }
    if message.ends_with("buffer underflow") {
        return What::CutOff;
    }
    if message.ends_with("recursion limit reached") {
        return What::TooDeep;
    }
    // As <https://protobuf.dev/programming-guides/encoding/#structure> calls the wire types.
    let wanted = [
        ("data is not UTF-8 encoded", "UTF-8"),
        ("(expected Varint)", "the wire type VARINT"),
        ("(expected SixtyFourBit)", "the wire type I64"),
        ("(expected LengthDelimited)", "the wire type LEN"),
        ("(expected StartGroup)", "the wire type SGROUP"),
        ("(expected ThirtyTwoBit)", "the wire type I32"),
    ];
    What::NotTheType(wanted.iter().find(|(text, _)| message.ends_with(text)).map(|(_, wanted)| *wanted))
}

/// The names on prost's stack of fields, from the outermost type: they come from the Rust type.
///
/// prost shows its stack as text only. Of its two texts this takes the one for debugging, where the stack comes last, after
/// a description whose quotes are escaped: no text of a body can pass for a name.
fn field(error: &prost::DecodeError) -> Option<String> {
    let text = format!("{error:?}");
    let (_, stack) = text.rsplit_once("stack: [")?;
    let names: Vec<&str> = stack.split('"').skip(1).step_by(2).collect();
    let (innermost_first, _) = names.as_chunks();
    let [outermost, _] = innermost_first.last()?;
    let fields: Vec<&str> = innermost_first.iter().rev().map(|[_, field]| *field).collect();
    Some(format!("{outermost}.{}", fields.join(".")))
}
