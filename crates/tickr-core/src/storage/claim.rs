//! Claims: what a worker asks for and gets.

use std::fmt;
use std::time::Duration;

use crate::event_type::EventType;
use crate::id::{MessageId, Token, WorkerId};
use crate::message::{Priority, StoredMessage};
use crate::protocol::Lane;
use crate::storage::{SettleOutcome, SettledMember};

/// A request for work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// The incarnation that will hold the lease. It must be registered and unexpired.
    pub worker: WorkerId,
    /// Its name, for the history.
    pub worker_name: String,
    /// The token, made by the client before it sends the claim, and never used before.
    pub token: Token,
    /// What to look for, in this order. A type may be in several groups, but not with the same lane.
    pub groups: Vec<LaneRequest>,
    /// How many messages at most, over all groups.
    pub total: u32,
    /// Whether the claim is exclusive: the claimer holds nothing else, and claims nothing else until the claim is closed or
    /// [`end_exclusive`](crate::Storage::end_exclusive) has answered. `total` must be 1, as it must for every claim that asks for
    /// [`Lane::Suspect`].
    pub solo: bool,
}

impl ClaimRequest {
    /// A claim that is not exclusive.
    pub fn new(worker: WorkerId, worker_name: impl Into<String>, token: Token, groups: Vec<LaneRequest>, total: u32) -> Self {
        Self { worker, worker_name: worker_name.into(), token, groups, total, solo: false }
    }
}

/// One group of lanes of one event type.
///
/// A type with a cap is one group over all its lanes, so that the cap holds; a type without has a group per lane.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LaneRequest {
    /// The event type.
    pub event_type: EventType,
    /// The lanes, in the order they are looked into.
    pub lanes: Vec<Lane>,
    /// How many messages at most from this group.
    pub limit: u32,
    /// The maximum number of attempts for messages without one of their own.
    pub max_attempts: u16,
}

impl LaneRequest {
    /// At most `limit` messages of these lanes.
    pub const fn new(event_type: EventType, lanes: Vec<Lane>, limit: u32, max_attempts: u16) -> Self {
        Self { event_type, lanes, limit, max_attempts }
    }
}

/// An answered claim. Empty when there was nothing to take; then nothing was written either.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claim {
    /// The token of the request.
    pub token: Token,
    /// How many members the claim has: the length of its bitmaps. An adopted claim may answer fewer messages.
    pub members: u32,
    /// Whether the claim is exclusive.
    pub solo: bool,
    /// The messages, by index.
    pub messages: Vec<ClaimedMessage>,
    /// Of a claim that took nothing: for how long no scheduled message becomes due, as far as one look tells. It spares an idle
    /// worker its promotions, most of the time. `None`: nobody looked.
    pub quiet_for: Option<Duration>,
}

impl Claim {
    /// A claim that is not exclusive, of `members` members.
    pub const fn new(token: Token, members: u32, messages: Vec<ClaimedMessage>) -> Self {
        Self { token, members, solo: false, messages, quiet_for: None }
    }

    /// A claim that took nothing.
    pub const fn empty(token: Token) -> Self {
        Self::new(token, 0, Vec::new())
    }
}

/// One member of a claim.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClaimedMessage {
    /// The position in the claim: its bit.
    pub index: u32,
    /// The message.
    pub id: MessageId,
    /// Its event type.
    pub event_type: EventType,
    /// This attempt, from 1.
    pub attempt: u16,
    /// The effective maximum: the message's own, else the group's.
    pub max_attempts: u16,
    /// Crashes that the message was part of since it last ended by itself.
    pub crashes: u16,
    /// The newest recorded error; read only when `attempt` is above 1.
    pub last_error: Option<String>,
    /// The body. The worker records a message without a usable body as DEAD, without running it; it is never dropped.
    pub body: Result<StoredMessage, BodyFault>,
}

impl ClaimedMessage {
    /// A member that was part of no crash, at its last attempt: `max_attempts` is `attempt` until it is set, as the other fields are.
    #[inline]
    pub const fn new(index: u32, id: MessageId, event_type: EventType, attempt: u16, body: Result<StoredMessage, BodyFault>) -> Self {
        Self { index, id, event_type, attempt, max_attempts: attempt, crashes: 0, last_error: None, body }
    }

    /// This member with its outcome, for a [`Settlement`](crate::Settlement).
    pub fn settled(&self, outcome: SettleOutcome) -> SettledMember {
        SettledMember {
            index: self.index,
            id: self.id,
            event_type: self.event_type.clone(),
            priority: self.priority(),
            attempt: self.attempt,
            crashes: self.crashes,
            outcome,
        }
    }

    /// The priority, which decides the lane that the message returns to; normal when there is no usable body.
    pub fn priority(&self) -> Priority {
        self.body.as_ref().map_or(Priority::Normal, |body| body.priority)
    }
}

/// Why a claimed message has no body that could be handled. Its [`Display`](fmt::Display) is the reason in the dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyFault {
    /// The row of the body is missing.
    Missing,
    /// The row is there, but a column of it cannot be read. Names the column and what is wrong with it, never its value.
    Unreadable(String),
}

impl BodyFault {
    /// The reason in the dead letter of a message whose body is missing, for adapters that write it in a statement.
    pub const MISSING: &str = "the body of this message is missing (corrupt data)";
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(Self::MISSING),
            Self::Unreadable(why) => write!(f, "the body of this message cannot be read (corrupt data): {why}"),
        }
    }
}
