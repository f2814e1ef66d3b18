//! Identifiers: of messages, of claims (tokens) and of worker incarnations.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use uuid::{ContextV7, Uuid};

use crate::door::clock;
use crate::error::{Error, Result};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new one from this machine's clock and random bits. It is never repeated.
            #[expect(clippy::new_without_default, reason = "every value is different, which a default is not")]
            pub fn new() -> Self {
                Self(new_v7(0))
            }

            /// Takes a stored UUID as it is.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            /// The 16 bytes, big-endian, as databases store and order them.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Reads the 16 bytes that [`as_bytes`](Self::as_bytes) gave.
            ///
            /// # Errors
            /// [`Corrupt`](crate::ErrorKind::Corrupt) when there are not exactly 16 bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self> {
                Uuid::from_slice(bytes).map(Self).map_err(|source| {
                    Error::new(crate::ErrorKind::Corrupt, concat!("stored ", $what, " is not 16 bytes")).with_source(source)
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|source| Error::config(format!(concat!($what, " {:?} is not a UUID"), text)).with_source(source))
            }
        }
    };
}

id! {
    /// Identifies a message (UUIDv7, made by the client). Enqueueing the same id again changes nothing.
    MessageId, "message id"
}
id! {
    /// Identifies one claim. The client makes it before the claim is sent, so that a claim whose answer is lost is still known.
    Token, "token"
}
id! {
    /// Identifies one incarnation of a worker: a worker that lost its lease goes on under a new one.
    WorkerId, "worker id"
}

/// Makes ids in the database's time: ids only *place* messages, so a clock that is years off must not scatter them.
#[derive(Debug, Default)]
pub struct IdSource {
    /// Database time minus local time, in microseconds.
    offset_us: AtomicI64,
}

impl IdSource {
    /// Records how far the database's clock is ahead of the local one (negative: behind), in microseconds.
    pub fn set_offset_us(&self, offset_us: i64) {
        self.offset_us.store(offset_us, Ordering::Relaxed);
    }

    /// Makes the next message id.
    pub fn next(&self) -> MessageId {
        MessageId(new_v7(self.offset_us.load(Ordering::Relaxed)))
    }
}

/// A UUIDv7 of local time plus `offset_us`, increasing within this process (RFC 9562, section 6.2, method 1).
fn new_v7(offset_us: i64) -> Uuid {
    static CONTEXT: std::sync::Mutex<ContextV7> = std::sync::Mutex::new(ContextV7::new());
    let micros = clock::wall_us().saturating_add(offset_us).max(0).unsigned_abs();
    let since_epoch = Duration::from_micros(micros);
    let context = CONTEXT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Uuid::new_v7(uuid::Timestamp::from_unix(&*context, since_epoch.as_secs(), since_epoch.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_increase_within_a_process() {
        let ids: Vec<_> = (0..10_000).map(|_| MessageId::new()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn ids_are_made_in_database_time() {
        let source = IdSource::default();
        let before = source.next();
        source.set_offset_us(365 * 24 * 3_600 * 1_000_000);
        assert!(
            source.next().as_uuid().get_timestamp().unwrap().to_unix().0
                > before.as_uuid().get_timestamp().unwrap().to_unix().0 + 364 * 24 * 3_600
        );
    }

    #[test]
    fn a_bad_id_is_named() {
        let error = "12x".parse::<MessageId>().unwrap_err();
        assert_eq!(error.to_string(), "invalid argument: message id \"12x\" is not a UUID");
    }
}
