#![doc = include_str!("../README.md")]

mod decode;

use std::any::type_name;
use std::fmt;
use std::ops::Deref;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tickr_core::testing::{Bodies, Decode};
use tickr_core::{
    BoxError, Context, Error, ErrorKind, Event, EventBody, Failure, FromMessage, IntoMessage, Message, Result, StoredMessage,
};

pub use decode::DecodeError;

/// The content type of the messages that this crate makes.
pub const CONTENT_TYPE: &str = "application/json";

/// A body in JSON: the argument of a handler, and what a client enqueues.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json<T>(pub T);

/// Makes a message of a body, to be given options:
/// `json::message(&order)?.idempotency_key("order-7")`.
///
/// # Errors
/// [`Codec`](ErrorKind::Codec) when the body cannot be written as JSON, such as a map whose keys are no strings.
pub fn message<T: Serialize + Event>(body: &T) -> Result<Message> {
    message_of(T::TYPE, body)
}

/// Makes a message of a body that has no [`Event`] of its own.
///
/// # Errors
/// As [`message`].
pub fn message_of<T: Serialize + ?Sized>(event_type: &str, body: &T) -> Result<Message> {
    let payload = serde_json::to_vec(body).map_err(|source| {
        Error::new(ErrorKind::Codec, format!("the body of {event_type} cannot be written as JSON")).with_source(source)
    })?;
    Ok(Message::new(event_type, payload).content_type(CONTENT_TYPE))
}

impl<T: Serialize + Event> IntoMessage for Json<T> {
    fn into_message(self) -> Result<Message> {
        message(&self.0)
    }
}

impl<T: DeserializeOwned + Send> FromMessage for Json<T> {
    /// Decodes the body. What fails is [`Failure::dead`] with a [`DecodeError`]: no further attempt could go better.
    fn from_message(context: &Context) -> Result<Self, Failure> {
        let message = context.message();
        let decoded = decode::decode(&message.event_type, message.content_type.as_deref(), &message.payload);
        decoded.map(Self).map_err(Failure::dead)
    }
}

impl<T: DeserializeOwned + Send + Event> EventBody for Json<T> {
    type Event = T;
}

/// JSON, among the codecs that [`assert_enqueued!`](tickr_core::assert_enqueued) can decode a body by.
#[derive(Debug)]
pub struct JsonCodec;

impl<T: DeserializeOwned> Decode<JsonCodec, T> for Bodies {
    fn decode(message: &StoredMessage) -> Result<T, BoxError> {
        Ok(decode::decode(&message.event_type, message.content_type.as_deref(), &message.payload)?)
    }
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Json<T> {
    /// Never shows the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json<{}>(..)", type_name::<T>())
    }
}

#[cfg(test)]
mod tests;
