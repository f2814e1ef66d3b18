#![doc = include_str!("../README.md")]

mod decode;

use std::any::type_name;
use std::fmt;
use std::ops::Deref;

use tickr_core::testing::{Bodies, Decode};
use tickr_core::{BoxError, Context, Event, EventBody, Failure, FromMessage, IntoMessage, Message, Result, StoredMessage};

pub use decode::DecodeError;

/// The content type of the messages that this crate makes, as
/// [IANA has it](https://www.iana.org/assignments/media-types/application/protobuf).
pub const CONTENT_TYPE: &str = "application/protobuf";

/// A body in protobuf: the argument of a handler, and what a client enqueues.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prost<T>(pub T);

/// Makes a message of a body, to be given options:
/// `prost::message(&order).idempotency_key("order-7")`.
///
/// There is no error: protobuf can hold every value of such a type.
pub fn message<T: prost::Message + Event>(body: &T) -> Message {
    message_of(T::TYPE, body)
}

/// Makes a message of a body that has no [`Event`] of its own.
pub fn message_of<T: prost::Message>(event_type: &str, body: &T) -> Message {
    Message::new(event_type, body.encode_to_vec()).content_type(CONTENT_TYPE)
}

impl<T: prost::Message + Event> IntoMessage for Prost<T> {
    /// Encodes the body, which cannot fail.
    fn into_message(self) -> Result<Message> {
        Ok(message(&self.0))
    }
}

impl<T: prost::Message + Default> FromMessage for Prost<T> {
    /// Decodes the body. What fails is [`Failure::dead`] with a [`DecodeError`]: no further attempt could go better.
    /// An empty body does not fail: it is a message whose fields all have their defaults.
    fn from_message(context: &Context) -> Result<Self, Failure> {
        let message = context.message();
        let decoded = decode::decode(&message.event_type, message.content_type.as_deref(), &message.payload);
        decoded.map(Self).map_err(Failure::dead)
    }
}

impl<T: prost::Message + Default + Event> EventBody for Prost<T> {
    type Event = T;
}

/// Protobuf, among the codecs that [`assert_enqueued!`](tickr_core::assert_enqueued) can decode a body by.
#[derive(Debug)]
pub struct ProstCodec;

impl<T: prost::Message + Default> Decode<ProstCodec, T> for Bodies {
    fn decode(message: &StoredMessage) -> Result<T, BoxError> {
        Ok(decode::decode(&message.event_type, message.content_type.as_deref(), &message.payload)?)
    }
}

impl<T> Deref for Prost<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Prost<T> {
    /// Never shows the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prost<{}>(..)", type_name::<T>())
    }
}

#[cfg(test)]
mod tests;
