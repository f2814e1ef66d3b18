//! The rules of the storage protocol that do not depend on a database, as pure functions.
//!
//! Adapters that compute in Rust call them; adapters that compute in SQL say the same there, and the conformance
//! suite holds both to it.

use std::time::Duration;

use uuid::Uuid;

use crate::id::MessageId;
use crate::message::Priority;
use crate::status::Status;
use crate::storage::SettleOutcome;
use crate::time::Timestamp;

/// The part of the ready queue that a message of a type waits in.
///
/// Exhaustive on purpose: a storage keeps each lane apart, so a new one must not compile until each adapter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Given back unstarted: runs before the backlog.
    Returned,
    /// Priority high.
    High,
    /// Priority normal.
    Normal,
    /// Priority low.
    Low,
    /// Was part of at least [`SUSPECT_CRASHES`] crashes: claimed one at a time.
    Suspect,
}

impl Lane {
    /// Every lane that an ordinary claim looks into, in strict order.
    pub const ORDINARY: [Self; 4] = [Self::Returned, Self::High, Self::Normal, Self::Low];

    /// The stored number: 0 returned, 1 high, 2 normal, 3 low, 4 suspect.
    pub const fn as_i16(self) -> i16 {
        match self {
            Self::Returned => 0,
            Self::High => 1,
            Self::Normal => 2,
            Self::Low => 3,
            Self::Suspect => 4,
        }
    }

    /// Reads the stored number; `None` for a number that no lane has.
    pub const fn from_i16(number: i16) -> Option<Self> {
        match number {
            0 => Some(Self::Returned),
            1 => Some(Self::High),
            2 => Some(Self::Normal),
            3 => Some(Self::Low),
            4 => Some(Self::Suspect),
            _ => None,
        }
    }
}

impl From<Priority> for Lane {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::High => Self::High,
            Priority::Normal => Self::Normal,
            Priority::Low => Self::Low,
        }
    }
}

/// From how many crashes on a message is a suspect.
///
/// The first crash only counts: most crashes are a lost machine, a hard deploy or an exhausted memory, and concern no message. A message
/// that was part of two crashes during one stay in the queue may be the cause.
pub const SUSPECT_CRASHES: u16 = 2;

/// Whether a message that was part of this many crashes is a suspect.
pub const fn is_suspect(crashes: u16) -> bool {
    crashes >= SUSPECT_CRASHES
}

/// When a lease that is stored to end at `expires_at` ends, at `now` by the database's clock: one `length` from now at the latest.
///
/// A stored end that is further away was written before the database's clock was set back. Nobody can tell whether its holder still
/// lives, so it gets one whole lease from now: a live holder extends its lease long before. A storage writes the earlier end back when
/// it finds such a row; otherwise the lease of a dead worker would last longer by as much as the clock was set back.
pub fn lease_end(expires_at: Timestamp, length: Duration, now: Timestamp) -> Timestamp {
    expires_at.min(now.after(length))
}

/// What ended a lease, or moved a message without one, as the journal stores it.
///
/// Exhaustive on purpose: a new one must not compile until each adapter records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recorded {
    /// The handler succeeded.
    Ok,
    /// The handler said that there is nothing to do; a success.
    Skipped,
    /// The attempt failed, another one follows.
    Failed,
    /// The last attempt failed.
    Exhausted,
    /// Dead before its attempts were used up.
    Dead,
    /// The handler asked to be called later; the attempt was given back.
    Snoozed,
    /// Given back unfinished; the attempt was given back.
    Released,
    /// Killed by an operator.
    Killed,
    /// Taken back from a worker that died.
    Reclaimed,
    /// Dead because its worker died while it ran alone, at its last attempt.
    Crashed,
    /// Brought back from the dead.
    Requeued,
}

impl Recorded {
    /// Every value.
    pub const ALL: [Self; 11] = [
        Self::Ok,
        Self::Skipped,
        Self::Failed,
        Self::Exhausted,
        Self::Dead,
        Self::Snoozed,
        Self::Released,
        Self::Killed,
        Self::Reclaimed,
        Self::Crashed,
        Self::Requeued,
    ];

    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Exhausted => "exhausted",
            Self::Dead => "dead",
            Self::Snoozed => "snoozed",
            Self::Released => "released",
            Self::Killed => "killed",
            Self::Reclaimed => "reclaimed",
            Self::Crashed => "crashed",
            Self::Requeued => "requeued",
        }
    }

    /// Reads a stored word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|recorded| recorded.as_str() == word)
    }

    /// Whether it proves that the message succeeded, so that its body may be purged.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Ok | Self::Skipped)
    }

    /// Whether the lease was taken away from the worker, rather than ended by it.
    pub const fn took_the_lease(self) -> bool {
        matches!(self, Self::Killed | Self::Reclaimed | Self::Crashed)
    }
}

/// A row of ready or scheduled, but for its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Waiting {
    /// The lane.
    pub lane: Lane,
    /// Attempts that were made and count.
    pub attempt: u16,
    /// Crashes that the message was part of since it last ended by itself.
    pub crashes: u16,
}

impl Waiting {
    /// A row of a message that was part of no crash; set `crashes` of one that was.
    pub const fn new(lane: Lane, attempt: u16) -> Self {
        Self { lane, attempt, crashes: 0 }
    }

    /// A new or requeued message.
    pub fn fresh(priority: Priority) -> Self {
        Self::new(priority.into(), 0)
    }

    /// What the row reads as: `CREATED` before anything happened, else `RETRYING`.
    pub const fn status(&self) -> Status {
        if self.attempt == 0 && self.crashes == 0 { Status::Created } else { Status::Retrying }
    }
}

/// Where a settled member returns to; `None` when it does not (success, dead).
///
/// `attempt` is the attempt that ended, `crashes` what the claim said.
pub fn returned(outcome: &SettleOutcome, priority: Priority, attempt: u16, crashes: u16) -> Option<Waiting> {
    let given_back = attempt.saturating_sub(1);
    match outcome {
        SettleOutcome::Failed { .. } => Some(Waiting::new(priority.into(), attempt)),
        SettleOutcome::Snoozed { .. } => Some(Waiting::new(priority.into(), given_back)),
        SettleOutcome::Released { .. } => Some(released(attempt, crashes)),
        SettleOutcome::Skipped { .. } | SettleOutcome::Exhausted { .. } | SettleOutcome::Dead { .. } => None,
    }
}

/// Where a member that is given back unfinished returns to: before the backlog, but a suspect stays one.
pub const fn released(attempt: u16, crashes: u16) -> Waiting {
    Waiting { lane: returning(crashes), attempt: attempt.saturating_sub(1), crashes }
}

const fn returning(crashes: u16) -> Lane {
    if is_suspect(crashes) { Lane::Suspect } else { Lane::Returned }
}

/// Where a member of a dead worker's claim goes: before the backlog after its first crash, back as a suspect after a further one, or
/// `None` for DEAD.
///
/// A shared crash never kills and leaves room for one attempt more. A crash of a claim that was exclusive (`solo`) to the end keeps the
/// attempt, and kills at the maximum.
pub fn reclaimed(solo: bool, attempt: u16, crashes: u16, max_attempts: u16) -> Option<Waiting> {
    if solo && attempt >= max_attempts {
        return None;
    }
    let attempt = if solo { attempt } else { attempt.min(max_attempts.saturating_sub(1)) };
    let crashes = crashes.saturating_add(1);
    Some(Waiting { lane: returning(crashes), attempt, crashes })
}

/// Since when a message that is ready has been waiting, as far as is known: since the last thing that happened to it, `came_back_at`,
/// and if nothing did, since it was due, or else since its enqueue. So the wait between two attempts counts too.
#[must_use]
pub fn waiting_since(now: Timestamp, created_at: Timestamp, scheduled_at: Option<Timestamp>, came_back_at: Option<Timestamp>) -> Timestamp {
    // What happened before the enqueue happened to another message of the same id; a due time that has not come was brought forward.
    let came_back_at = came_back_at.filter(|at| *at >= created_at);
    came_back_at.or(scheduled_at.filter(|due| *due <= now)).unwrap_or(created_at)
}

/// How far apart the ids of a claim's members are: the digits, in base 4, of the milliseconds between the least and the greatest.
///
/// A journal that keeps it beside a claim finds the claims of one message without looking at all that are newer: those of a span
/// have their greatest id between the message's and [`span_end`].
#[must_use]
pub fn span(least: MessageId, greatest: MessageId) -> u8 {
    let apart = millis(greatest).saturating_sub(millis(least));
    u8::try_from((u64::BITS - apart.leading_zeros()).div_ceil(2)).unwrap_or(SPAN_MAX)
}

/// The greatest [`span`] that there is.
pub const SPAN_MAX: u8 = 24;

/// Behind the greatest id of every claim of this span that has `id` among its members.
#[must_use]
pub fn span_end(id: MessageId, span: u8) -> MessageId {
    let millis = millis(id).saturating_add(1 << (2 * u32::from(span.min(SPAN_MAX)))).min(MILLIS_MAX);
    MessageId::from_uuid(Uuid::from_u128(u128::from(millis) << 80 | (u128::MAX >> 48)))
}

/// The first 48 bits of an id, which in a UUIDv7 are the milliseconds since 1970.
fn millis(id: MessageId) -> u64 {
    u64::try_from(id.as_uuid().as_u128() >> 80).unwrap_or(MILLIS_MAX)
}

const MILLIS_MAX: u64 = (1 << 48) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_crash_never_kills_and_leaves_one_attempt() {
        let waiting = reclaimed(false, 5, 1, 5).unwrap();
        assert_eq!(waiting, Waiting { lane: Lane::Suspect, attempt: 4, crashes: 2 });
    }

    #[test]
    fn the_first_crash_only_counts() {
        assert_eq!(reclaimed(false, 1, 0, 5), Some(Waiting { lane: Lane::Returned, attempt: 1, crashes: 1 }));
        assert_eq!(reclaimed(false, 2, 1, 5), Some(Waiting { lane: Lane::Suspect, attempt: 2, crashes: 2 }));
        assert_eq!(released(2, 1), Waiting { lane: Lane::Returned, attempt: 1, crashes: 1 });
    }

    #[test]
    fn a_solo_crash_keeps_the_attempt_and_kills_at_the_maximum() {
        assert_eq!(reclaimed(true, 4, 1, 5).unwrap().attempt, 4);
        assert_eq!(reclaimed(true, 5, 1, 5), None);
    }

    #[test]
    fn a_released_suspect_stays_one() {
        assert_eq!(released(3, 2).lane, Lane::Suspect);
        assert_eq!(released(3, 0), Waiting { lane: Lane::Returned, attempt: 2, crashes: 0 });
    }

    #[test]
    fn stored_words_round_trip() {
        for recorded in Recorded::ALL {
            assert_eq!(Recorded::parse(recorded.as_str()), Some(recorded));
        }
    }

    #[test]
    fn the_greatest_id_of_a_claim_is_before_the_end_of_its_span() {
        let id = |millis: u64, rest: u128| MessageId::from_uuid(Uuid::from_u128(u128::from(millis) << 80 | rest));
        for apart in (0..48).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]) {
            for first in [0, 1, 1_780_000_000_000] {
                let (least, greatest) = (id(first, 0), id((first + apart).min(MILLIS_MAX), u128::MAX >> 48));
                let span = span(least, greatest);
                assert!(span <= SPAN_MAX && greatest <= span_end(least, span), "{apart} ms apart: span {span}");
                assert!(greatest <= span_end(greatest, span));
            }
        }
        assert_eq!([0, 1, 3, 4, 15, 16].map(|apart| span(id(7, 0), id(7 + apart, 0))), [0, 1, 1, 2, 2, 3]);
        // And no farther than that: each millisecond more is more to read.
        assert_eq!([0, 1, 2, 3].map(|span| millis(span_end(id(7, 0), span)) - 7), [1, 4, 16, 64]);
    }
}
