//! Pauses: claims of one event type, or of everything, stop until somebody resumes them or their end comes.
//!
//! An operator builds a [`PauseRequest`]; the engine builds one for [`Failure::pause_type`](crate::Failure::pause_type). A storage
//! calls [`PauseRequest::check`] first, stores the [`Pause`] that it gives, and compares its end with the database's clock in every
//! claim. Nobody has to write when a pause ends.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::event_type::EventType;
use crate::storage::REASON_BYTES_MAX;
use crate::time::Timestamp;

/// An end that is further away than this is no end: 100 years. Databases differ in the latest moment that they store.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3_600);

/// What a pause stops: one event type, or everything.
///
/// The two are independent. Resuming everything leaves types paused that were paused by name, and resuming a type does not let it
/// run while everything is paused.
///
/// Exhaustive on purpose: a new scope must not compile until each adapter's claims know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PauseScope {
    /// All event types, those included that no message has yet.
    Everything,
    /// One event type. No message of it needs to exist.
    Type(EventType),
}

impl PauseScope {
    /// Takes what [`key`](Self::key) gave.
    pub fn from_stored(key: &str) -> Self {
        if key.is_empty() { Self::Everything } else { Self::Type(EventType::from_stored(key)) }
    }

    /// What a storage keeps the pause under: the name of the type; empty for everything, because no event type is empty.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) when the name of the type is none.
    pub fn key(&self) -> Result<&str> {
        match self {
            Self::Everything => Ok(""),
            Self::Type(event_type) => {
                EventType::new(event_type)?;
                Ok(event_type)
            }
        }
    }

    /// Whether messages of `event_type` are within it.
    pub fn covers(&self, event_type: &EventType) -> bool {
        match self {
            Self::Everything => true,
            Self::Type(own) => own == event_type,
        }
    }
}

impl From<&str> for PauseScope {
    /// One event type. Its name is checked when the scope is used.
    fn from(name: &str) -> Self {
        Self::Type(EventType::from_stored(name))
    }
}

impl From<EventType> for PauseScope {
    fn from(event_type: EventType) -> Self {
        Self::Type(event_type)
    }
}

impl From<&EventType> for PauseScope {
    fn from(event_type: &EventType) -> Self {
        Self::Type(event_type.clone())
    }
}

impl fmt::Display for PauseScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.pad("everything"),
            Self::Type(event_type) => f.pad(event_type),
        }
    }
}

/// When a pause ends. Made from a [`Timestamp`] or a [`Duration`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PauseEnd {
    /// When it is resumed.
    #[default]
    Never,
    /// At a moment of the database's clock.
    At(Timestamp),
    /// This much later, by the database's clock.
    After(Duration),
}

impl PauseEnd {
    /// The moment, for a pause that begins at `now`.
    pub fn moment(self, now: Timestamp) -> Option<Timestamp> {
        let end = match self {
            Self::Never => return None,
            Self::At(at) => at,
            Self::After(duration) => now.after(duration),
        };
        (end < now.after(LONGEST)).then_some(end)
    }
}

impl From<Timestamp> for PauseEnd {
    fn from(at: Timestamp) -> Self {
        Self::At(at)
    }
}

impl From<Duration> for PauseEnd {
    fn from(duration: Duration) -> Self {
        Self::After(duration)
    }
}

/// A pause that somebody asks for.
///
/// ```
/// use std::time::Duration;
/// use tickr_core::{MemoryStorage, PauseRequest, Storage};
/// # async fn f(storage: MemoryStorage) -> tickr_core::Result<()> {
/// let pause = PauseRequest::event_type("mail.requested")
///     .until(Duration::from_secs(3_600))
///     .reason("the mail server is down")
///     .by("anna");
/// storage.pause(&pause).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PauseRequest {
    scope: PauseScope,
    end: PauseEnd,
    reason: Option<String>,
    by: Option<String>,
    keep_longer: bool,
}

impl PauseRequest {
    /// The longest reason, in bytes.
    pub const REASON_BYTES_MAX: usize = REASON_BYTES_MAX;
    /// The longest name of an actor, in bytes.
    pub const BY_BYTES_MAX: usize = 255;

    fn new(scope: PauseScope) -> Self {
        Self { scope, end: PauseEnd::Never, reason: None, by: None, keep_longer: false }
    }

    /// Pauses one event type, by its name. No message of the type needs to exist.
    pub fn event_type(name: impl Into<PauseScope>) -> Self {
        Self::new(name.into())
    }

    /// Pauses all event types at once, for example in a copy of a database before workers start on it.
    pub fn everything() -> Self {
        Self::new(PauseScope::Everything)
    }

    /// When the pause ends: a [`Timestamp`] of the database's clock, or a [`Duration`] from now. Without it, the pause lasts until
    /// it is resumed. An end more than 100 years away counts as none.
    #[must_use]
    pub fn until(mut self, end: impl Into<PauseEnd>) -> Self {
        self.end = end.into();
        self
    }

    /// Why, for those who find the pause (at most 1,000 bytes).
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Who pauses (at most 255 bytes).
    #[must_use]
    pub fn by(mut self, actor: impl Into<String>) -> Self {
        self.by = Some(actor.into());
        self
    }

    /// Changes nothing if the scope is paused already and that pause ends later. Without this, the new pause replaces the old one.
    #[must_use]
    pub const fn keep_longer(mut self) -> Self {
        self.keep_longer = true;
        self
    }

    /// What it pauses.
    pub const fn scope(&self) -> &PauseScope {
        &self.scope
    }

    /// Whether a pause that ends later stays as it is.
    pub const fn keeps_longer(&self) -> bool {
        self.keep_longer
    }

    /// The pause to store, if it begins at `now` by the database's clock.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for a wrong event type, an end that is not later than `now`, or texts that are too long
    /// or have a NUL character.
    pub fn check(&self, now: Timestamp) -> Result<Pause> {
        let scope = &self.scope;
        scope.key()?;
        let until = self.end.moment(now);
        if let Some(until) = until
            && until <= now
        {
            return Err(Error::config(format!("pause of {scope} would end at {until}; it is {now} already, by the database's clock")));
        }
        let text = |name: &str, text: &Option<String>, bytes_max: usize| -> Result<Option<String>> {
            let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
            if text.len() > bytes_max {
                return Err(Error::config(format!("{name} of the pause of {scope} has {} bytes, the limit is {bytes_max}", text.len())));
            }
            if text.contains('\0') {
                return Err(Error::config(format!("{name} of the pause of {scope} has a NUL character")));
            }
            Ok(Some(text.to_owned()))
        };
        Ok(Pause {
            scope: scope.clone(),
            since: now,
            until,
            reason: text("reason", &self.reason, Self::REASON_BYTES_MAX)?,
            by: text("actor", &self.by, Self::BY_BYTES_MAX)?,
        })
    }

    /// Whether `new`, which [`check`](Self::check) gave, takes the place of `old`, which is stored under the same scope.
    pub fn replaces(&self, new: &Pause, old: &Pause) -> bool {
        !self.keep_longer
            || match (old.until, new.until) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(old), Some(new)) => old < new,
            }
    }
}

/// A pause that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Pause {
    /// What is paused.
    pub scope: PauseScope,
    /// When the pause was asked for, by the database's clock.
    pub since: Timestamp,
    /// When it ends, by the database's clock; `None`: when it is resumed.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
    /// Who paused.
    pub by: Option<String>,
}

impl Pause {
    /// A pause without reason and actor.
    pub const fn new(scope: PauseScope, since: Timestamp, until: Option<Timestamp>) -> Self {
        Self { scope, since, until, reason: None, by: None }
    }

    /// Whether its end has come.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000_000);

    #[test]
    fn an_end_that_has_come_is_refused() {
        for end in [PauseEnd::At(NOW), PauseEnd::At(NOW.before(Duration::from_secs(1))), PauseEnd::After(Duration::ZERO)] {
            assert!(PauseRequest { end, ..PauseRequest::everything() }.check(NOW).is_err(), "{end:?}");
        }
        let pause = PauseRequest::everything().until(Duration::from_secs(5)).check(NOW).unwrap();
        assert_eq!(pause.until, Some(NOW.after(Duration::from_secs(5))));
        assert!(!pause.is_over(NOW.after(Duration::from_micros(4_999_999))) && pause.is_over(NOW.after(Duration::from_secs(5))));
    }

    #[test]
    fn an_end_that_no_database_stores_is_none() {
        assert_eq!(PauseRequest::everything().until(Duration::MAX).check(NOW).unwrap().until, None);
        assert_eq!(PauseRequest::everything().until(Timestamp::from_micros(i64::MAX)).check(NOW).unwrap().until, None);
    }

    #[test]
    fn an_empty_name_is_never_taken_for_everything() {
        assert!(PauseScope::from("").key().is_err());
        assert!(PauseRequest::event_type("").check(NOW).is_err());
        assert_eq!(PauseScope::from_stored(PauseScope::Everything.key().unwrap()), PauseScope::Everything);
    }

    #[test]
    fn texts_that_cannot_be_stored_are_refused() {
        let pause = PauseRequest::event_type("a");
        assert!(pause.clone().reason("x".repeat(1_001)).check(NOW).is_err());
        assert!(pause.clone().reason("nul \0").check(NOW).is_err());
        assert!(pause.clone().by("x".repeat(256)).check(NOW).is_err());
        assert_eq!(pause.reason("").check(NOW).unwrap().reason, None);
    }
}
