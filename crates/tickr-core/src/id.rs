//! Identifiers: of messages, of claims (tokens) and of worker incarnations.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use uuid::{ContextV7, Uuid};

use crate::door::Clock;
use crate::door::clock::{self, Tick};
use crate::error::{Error, Result};
use crate::time::Timestamp;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new one from this machine's clock and random bits. It is never repeated.
            #[expect(clippy::new_without_default, reason = "every value is different, which a default is not")]
            pub fn new() -> Self {
                Self(new_v7(clock::wall_us()))
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
///
/// Between two readings of the database's clock the time goes on by this machine's monotonic clock, so that a step of its wall
/// clock moves no id.
#[derive(Debug)]
pub struct IdSource {
    /// Database time minus the monotonic clock, in microseconds; [`UNKNOWN`](Self::UNKNOWN) before the first reading.
    base_us: AtomicI64,
}

impl Default for IdSource {
    /// Makes ids by this machine's wall clock, until the database's clock is known.
    fn default() -> Self {
        Self { base_us: AtomicI64::new(Self::UNKNOWN) }
    }
}

impl IdSource {
    const UNKNOWN: i64 = i64::MIN;

    /// Records that the database's clock read `database` at `at`.
    pub(crate) fn set(&self, database: Timestamp, at: Tick) {
        let base_us = database.as_micros().saturating_sub(at.as_micros());
        self.base_us.store(base_us.max(Self::UNKNOWN + 1), Ordering::Relaxed);
    }

    /// Makes the next message id.
    pub fn next(&self) -> MessageId {
        let now_us = match self.base_us.load(Ordering::Relaxed) {
            Self::UNKNOWN => clock::wall_us(),
            base_us => base_us.saturating_add(Clock::Boot.now().as_micros()),
        };
        MessageId(new_v7(now_us))
    }
}

/// A UUIDv7 of the moment `now_us` after 1970, increasing within this process (RFC 9562, section 6.2, method 1).
fn new_v7(now_us: i64) -> Uuid {
    static CONTEXT: std::sync::Mutex<ContextV7> = std::sync::Mutex::new(ContextV7::new());
    let since_epoch = Duration::from_micros(now_us.max(0).unsigned_abs());
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
        let seconds = |id: MessageId| id.as_uuid().get_timestamp().unwrap().to_unix().0;
        let year = 365 * 24 * 3_600;
        let before = seconds(source.next());
        source.set(Timestamp::now().after(Duration::from_secs(year)), Clock::Boot.now());
        let ahead = seconds(source.next()) - before;
        assert!((year - 1..=year + 60).contains(&ahead), "{ahead}");
    }

    #[test]
    fn a_bad_id_is_named() {
        let error = "12x".parse::<MessageId>().unwrap_err();
        assert_eq!(error.to_string(), "invalid argument: message id \"12x\" is not a UUID");
    }
}
