//! A limit on everything that a caller can enqueue.

use std::collections::HashSet;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::event_type::EventType;
use crate::headers::Headers;
use crate::message::{Due, Message, NewMessage};
use crate::time::Timestamp;

/// What a client accepts. Anything beyond is a [`Config`](crate::ErrorKind::Config) error, and nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The largest body in bytes (default 900 KiB: with the largest headers it stays below the 1,000,000 bytes that brokers such as Kafka
    /// and NATS take by default, so that every message can be forwarded).
    pub payload_bytes: usize,
    /// The largest sum of header names and values in bytes (default 64 KiB).
    pub header_bytes: usize,
    /// The longest key, tenant, organisation, correlation id or content type in bytes (default and maximum 255).
    pub key_bytes: usize,
    /// How far in the future a message may be due (default ten years).
    pub delay_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { payload_bytes: 900 << 10, header_bytes: 64 << 10, key_bytes: 255, delay_max: Duration::from_secs(10 * 366 * 24 * 3_600) }
    }
}

impl Limits {
    /// Sets the largest body in bytes.
    #[must_use]
    pub const fn payload_bytes(mut self, bytes: usize) -> Self {
        self.payload_bytes = bytes;
        self
    }

    /// Sets how far in the future a message may be due.
    #[must_use]
    pub const fn delay_max(mut self, delay: Duration) -> Self {
        self.delay_max = delay;
        self
    }

    /// Checks a message; gives back its event type.
    pub(crate) fn check(&self, message: &Message) -> Result<EventType> {
        let event_type = EventType::new(&message.event_type)?;
        if message.payload.len() > self.payload_bytes {
            return Err(Error::config(format!(
                "payload of {event_type} has {} bytes, the limit is {}",
                message.payload.len(),
                self.payload_bytes
            )));
        }
        self.check_headers(&message.headers)?;
        for (name, key) in [
            ("content type", &message.content_type),
            ("idempotency key", &message.idempotency_key),
            ("ordering key", &message.ordering_key),
            ("tenant", &message.tenant),
            ("organisation", &message.organisation),
            ("correlation id", &message.correlation_id),
        ] {
            if let Some(key) = key {
                self.check_key(name, key)?;
            }
        }
        if message.max_attempts == Some(0) {
            return Err(Error::config(format!("max_attempts of a message of {event_type} is 0; leave it out to inherit the handler's")));
        }
        self.check_due(message.due)?;
        Ok(event_type)
    }

    /// Checks headers by themselves.
    pub(crate) fn check_headers(&self, headers: &Headers) -> Result<()> {
        let bytes = headers.bytes();
        if bytes > self.header_bytes {
            return Err(Error::config(format!("headers have {bytes} bytes, the limit is {}", self.header_bytes)));
        }
        for (name, value) in headers.iter() {
            if name.is_empty() {
                return Err(Error::config("a header has an empty name"));
            }
            if name.contains('\0') || value.contains('\0') {
                return Err(Error::config(format!("header {name:?} has a NUL byte")));
            }
        }
        Ok(())
    }

    fn check_key(&self, name: &str, key: &str) -> Result<()> {
        let limit = self.key_bytes.min(255);
        if key.is_empty() {
            return Err(Error::config(format!("{name} is empty; leave it out instead")));
        }
        if key.len() > limit {
            return Err(Error::config(format!("{name} has {} bytes, the limit is {limit}", key.len())));
        }
        if key.contains('\0') {
            return Err(Error::config(format!("{name} has a NUL byte")));
        }
        Ok(())
    }

    fn check_due(&self, due: Due) -> Result<()> {
        let delay = match due {
            Due::Now => return Ok(()),
            Due::After(delay) => delay,
            // The local clock is only asked whether the moment is absurd, not whether it is due.
            Due::At(at) => at.since(Timestamp::now()),
        };
        if delay > self.delay_max {
            return Err(Error::config(format!(
                "due in {} days, the limit is {}",
                delay.as_secs() / 86_400,
                self.delay_max.as_secs() / 86_400
            )));
        }
        Ok(())
    }
}

/// Refuses a batch in which two messages have the same id. Every adapter calls this first.
///
/// # Errors
/// [`Config`](crate::ErrorKind::Config), naming the id.
pub fn check_batch(batch: &[NewMessage]) -> Result<()> {
    if batch.len() < 2 {
        return Ok(());
    }
    let mut seen = HashSet::with_capacity(batch.len());
    for message in batch {
        if !seen.insert(message.id()) {
            return Err(Error::config(format!("message id {} is twice in one batch", message.id())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MessageId;

    fn refused(message: Message) -> String {
        NewMessage::check(message, MessageId::new(), &Limits::default()).unwrap_err().to_string()
    }

    #[test]
    fn names_the_field_and_its_limit() {
        assert_eq!(refused(Message::new("", "")), "invalid argument: event type is empty");
        assert_eq!(refused(Message::new("a".repeat(256), "")), "invalid argument: event type has 256 bytes, the limit is 255");
        assert_eq!(
            refused(Message::new("a\nb", "")),
            "invalid argument: event type \"a\\nb\" has the character U+000A, which is not printable"
        );
        assert_eq!(
            refused(Message::new("a", vec![0; (900 << 10) + 1])),
            "invalid argument: payload of a has 921601 bytes, the limit is 921600"
        );
        assert_eq!(
            refused(Message::new("a", "").header("h", "v".repeat(64 << 10))),
            "invalid argument: headers have 65537 bytes, the limit is 65536"
        );
        assert_eq!(refused(Message::new("a", "").tenant("t\0")), "invalid argument: tenant has a NUL byte");
        assert_eq!(
            refused(Message::new("a", "").idempotency_key("k".repeat(256))),
            "invalid argument: idempotency key has 256 bytes, the limit is 255"
        );
        assert_eq!(refused(Message::new("a", "").after(Duration::MAX)), "invalid argument: due in 213503982334601 days, the limit is 3660");
    }

    #[test]
    fn equal_ids_in_one_batch_are_refused() {
        let id = MessageId::new();
        let message = NewMessage::check(Message::new("a", ""), id, &Limits::default()).unwrap();
        assert!(check_batch(&[message.clone(), message]).unwrap_err().to_string().contains(&id.to_string()));
    }
}
