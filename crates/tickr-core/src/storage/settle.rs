//! Settlements: how leases end.

use std::time::Duration;

use crate::bits::Bits;
use crate::event_type::EventType;
use crate::id::{MessageId, Token};
use crate::message::Priority;
use crate::protocol::Recorded;

/// Outcomes of members of one claim.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settlement {
    /// The claim.
    pub token: Token,
    /// Members that succeeded. Its length is the number of members of the claim.
    pub succeeded: Bits,
    /// Members that ended in any other way.
    pub others: Vec<SettledMember>,
}

impl Settlement {
    /// A settlement of nothing yet, of a claim with `members` members.
    pub fn new(token: Token, members: u32) -> Self {
        Self { token, succeeded: Bits::new(members), others: Vec::new() }
    }

    /// Every member that the settlement names.
    pub fn asked(&self) -> Bits {
        let others = Bits::from_indices(self.succeeded.len(), self.others.iter().map(|member| member.index));
        self.succeeded.union(&others)
    }

    /// The members by what is recorded of them, without empty groups: one row of settlements each.
    pub fn by_outcome(&self) -> Vec<(Recorded, Bits)> {
        let mut groups = Vec::new();
        if !self.succeeded.is_empty() {
            groups.push((Recorded::Ok, self.succeeded.clone()));
        }
        for member in &self.others {
            let recorded = member.outcome.recorded();
            let found = groups.iter().position(|(group, _)| *group == recorded);
            let at = found.unwrap_or_else(|| {
                groups.push((recorded, Bits::new(self.succeeded.len())));
                groups.len() - 1
            });
            groups[at].1.insert(member.index);
        }
        groups
    }
}

/// A member that did not simply succeed. It carries what the storage needs to put it back without reading anything.
///
/// [`ClaimedMessage::settled`](crate::ClaimedMessage::settled) makes one of the message that was claimed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SettledMember {
    /// The position in the claim.
    pub index: u32,
    /// The message.
    pub id: MessageId,
    /// Its event type.
    pub event_type: EventType,
    /// Its priority.
    pub priority: Priority,
    /// The attempt that ended.
    pub attempt: u16,
    /// The crashes that the claim reported.
    pub crashes: u16,
    /// How it ended.
    pub outcome: SettleOutcome,
}

impl SettledMember {
    /// A member of normal priority that was part of no crash; set the other fields.
    pub const fn new(index: u32, id: MessageId, event_type: EventType, attempt: u16, outcome: SettleOutcome) -> Self {
        Self { index, id, event_type, priority: Priority::Normal, attempt, crashes: 0, outcome }
    }
}

/// How a lease ended when it was not a plain success.
///
/// Exhaustive on purpose: a storage has to record every outcome, so a new one must not compile until each adapter handles it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleOutcome {
    /// Nothing to do; a success.
    Skipped {
        /// Why; kept in the history.
        reason: String,
    },
    /// Failed, and retried after `delay`.
    Failed {
        /// What went wrong.
        error: String,
        /// How much later, by the database's clock.
        delay: Duration,
    },
    /// Failed at the last attempt: dead.
    Exhausted {
        /// What went wrong.
        error: String,
    },
    /// Dead before its attempts were used up.
    Dead {
        /// What went wrong.
        error: String,
    },
    /// To be handled later; the attempt is given back.
    Snoozed {
        /// How much later, by the database's clock.
        delay: Duration,
    },
    /// Given back unfinished, at once; the attempt is given back.
    Released {
        /// Why.
        reason: String,
    },
}

impl SettleOutcome {
    /// What the journal records.
    pub const fn recorded(&self) -> Recorded {
        match self {
            Self::Skipped { .. } => Recorded::Skipped,
            Self::Failed { .. } => Recorded::Failed,
            Self::Exhausted { .. } => Recorded::Exhausted,
            Self::Dead { .. } => Recorded::Dead,
            Self::Snoozed { .. } => Recorded::Snoozed,
            Self::Released { .. } => Recorded::Released,
        }
    }

    /// The error or reason, for transitions and dead letters.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Skipped { reason: text }
            | Self::Released { reason: text }
            | Self::Failed { error: text, .. }
            | Self::Exhausted { error: text }
            | Self::Dead { error: text } => Some(text),
            Self::Snoozed { .. } => None,
        }
    }

    /// Replaces the error or reason.
    pub(crate) fn set_text(&mut self, other: &str) {
        match self {
            Self::Skipped { reason: text }
            | Self::Released { reason: text }
            | Self::Failed { error: text, .. }
            | Self::Exhausted { error: text }
            | Self::Dead { error: text } => other.clone_into(text),
            Self::Snoozed { .. } => {}
        }
    }

    /// How much later the message is due again; zero when at once or not at all.
    pub const fn delay(&self) -> Duration {
        match self {
            Self::Failed { delay, .. } | Self::Snoozed { delay } => *delay,
            _ => Duration::ZERO,
        }
    }
}

/// What became of a [`Settlement`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settled {
    /// Recorded by this call.
    pub applied: Bits,
    /// Recorded by an earlier call of this claim's holder: a repeat.
    pub already: Bits,
    /// Not recorded: the lease of this member is gone (killed, or reclaimed).
    pub lost: Bits,
}

impl Settled {
    /// A settlement of which these members were recorded by this call; set `already` and `lost`,
    /// which begin without members.
    pub fn new(applied: Bits) -> Self {
        Self { applied, already: Bits::default(), lost: Bits::default() }
    }
}
