//! What workers do beside their work: promote, reclaim, purge, locks.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::event_type::EventType;
use crate::id::{MessageId, WorkerId};

/// What [`retire`](crate::Storage::retire) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retired {
    /// Messages given back.
    pub released: u32,
}

impl Retired {
    /// Messages given back: `released`.
    pub const fn new(released: u32) -> Self {
        Self { released }
    }
}

/// What [`promote`](crate::Storage::promote) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Promoted {
    /// Messages moved to ready.
    pub moved: u32,
    /// How long until the next scheduled message is due, by the database's clock; zero when more are due already.
    pub next_due: Option<Duration>,
}

impl Promoted {
    /// `moved` messages were moved, and none is scheduled any more.
    pub const fn new(moved: u32) -> Self {
        Self { moved, next_due: None }
    }
}

/// What to reclaim.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ReclaimRequest {
    /// Whether to condemn workers whose lease has expired. A reclaimer does so only when its own heartbeat was
    /// unbroken for one lease, so that an outage of the database makes no suspects.
    pub condemn: bool,
    /// How many claims at most.
    pub limit: u32,
}

impl ReclaimRequest {
    /// Takes back at most `limit` claims of workers that are condemned already.
    pub const fn new(limit: u32) -> Self {
        Self { condemn: false, limit }
    }

    /// Condemns workers whose lease has expired, and takes back at most `limit` claims.
    pub const fn condemning(limit: u32) -> Self {
        Self { condemn: true, limit }
    }
}

/// What [`reclaim`](crate::Storage::reclaim) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reclaimed {
    /// Workers condemned now.
    pub condemned: u32,
    /// Claims taken back.
    pub claims: u32,
    /// Their members.
    pub messages: Vec<ReclaimedMessage>,
}

/// A message taken back from a dead worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReclaimedMessage {
    /// The message.
    pub id: MessageId,
    /// Its event type; `?` when its body is missing.
    pub event_type: EventType,
    /// The attempt that the crash ended.
    pub attempt: u16,
    /// Whether it died.
    pub dead: bool,
}

impl ReclaimedMessage {
    /// A message that is ready again; set `dead` of one that died.
    pub const fn new(id: MessageId, event_type: EventType, attempt: u16) -> Self {
        Self { id, event_type, attempt, dead: false }
    }
}

/// How long things are kept. Workers purge what has passed.
///
/// ```
/// use std::time::Duration;
/// use tickr_core::{MemoryStorage, Retention, Worker};
///
/// const DAY: Duration = Duration::from_secs(24 * 3_600);
///
/// # fn main() -> tickr_core::Result<()> {
/// // Bodies of what succeeded for three days, dead letters until somebody discards them, history for a year.
/// let keep = Retention::default().success(3 * DAY).dead(None).history(Some(365 * DAY));
/// let worker = Worker::builder(MemoryStorage::new()).retention(keep).on("order.placed", async || ()).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// Bodies of what succeeded, counted from the success (default 24 h).
    pub success: Duration,
    /// Dead letters with their bodies (default 30 days); `None` keeps them for ever.
    pub dead: Option<Duration>,
    /// History (default the longest of the other two and 30 days); `None` keeps it for ever.
    pub history: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { success: DAY, dead: Some(30 * DAY), history: Some(30 * DAY) }
    }
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Retention {
    /// Sets how long bodies of what succeeded are kept; the history is kept at least as long.
    #[must_use]
    pub fn success(mut self, keep: Duration) -> Self {
        self.success = keep;
        self.history = self.history.map(|history| history.max(keep));
        self
    }

    /// Sets how long dead letters are kept; the history is kept at least as long.
    #[must_use]
    pub fn dead(mut self, keep: Option<Duration>) -> Self {
        self.dead = keep;
        self.history = self.history.zip(keep).map(|(history, keep)| history.max(keep));
        self
    }

    /// Sets how long the history is kept.
    #[must_use]
    pub const fn history(mut self, keep: Option<Duration>) -> Self {
        self.history = keep;
        self
    }

    /// Refuses a history that is kept for a shorter time than the bodies that it proves.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config).
    pub fn check(&self) -> Result<()> {
        match self.history {
            Some(history) if history < self.success => Err(Error::config(format!(
                "history retention ({history:?}) is shorter than the success retention ({:?}): it proves which bodies may go",
                self.success
            ))),
            _ => Ok(()),
        }
    }
}

/// What to purge.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PurgeRequest {
    /// How long things are kept.
    pub retention: Retention,
    /// How many rows of each kind at most.
    pub limit: u32,
}

impl Default for PurgeRequest {
    /// The default [`Retention`], and 5000 rows of each kind: what a worker purges at a time.
    fn default() -> Self {
        Self { retention: Retention::default(), limit: 5_000 }
    }
}

impl PurgeRequest {
    /// Sets how long things are kept.
    #[must_use]
    pub const fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Sets how many rows of each kind are deleted at most.
    #[must_use]
    pub const fn limit(mut self, rows: u32) -> Self {
        self.limit = rows;
        self
    }
}

/// What [`purge`](crate::Storage::purge) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// Bodies of what succeeded.
    pub bodies: u64,
    /// Dead letters, with their bodies.
    pub dead: u64,
    /// Rows of claims, settlements and transitions.
    pub journal: u64,
    /// Idempotency keys.
    pub keys: u64,
    /// Whether a limit was reached, so that there may be more.
    pub more: bool,
}

/// A named lease that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lock {
    /// Its name.
    pub name: String,
    /// Who holds it.
    pub holder: WorkerId,
    /// How often it has changed hands: what an older term does is refused.
    pub term: u64,
}

impl Lock {
    /// A lease that `holder` has.
    pub fn new(name: impl Into<String>, holder: WorkerId, term: u64) -> Self {
        Self { name: name.into(), holder, term }
    }
}
