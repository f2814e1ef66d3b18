//! Everything that a database holds at the end of a run, as plain data: read past the adapter, so that a bug of the
//! adapter cannot hide itself.

use tickr_core::protocol::Recorded;
use tickr_core::{Bits, MessageId, Timestamp, Token, Uuid};

/// The tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    pub(crate) bodies: Vec<Body>,
    pub(crate) ready: Vec<MessageId>,
    pub(crate) scheduled: Vec<MessageId>,
    pub(crate) dead: Vec<MessageId>,
    /// In the order of their commits.
    pub(crate) claims: Vec<Claim>,
    pub(crate) open: Vec<Open>,
    /// In the order of their commits.
    pub(crate) settlements: Vec<Settlement>,
    pub(crate) transitions: Vec<Transition>,
    pub(crate) keys: Vec<Key>,
}

/// A row of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) id: MessageId,
    pub(crate) event_type: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) key: Option<String>,
    pub(crate) scheduled_at: Option<Timestamp>,
}

/// A row of claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) token: Token,
    /// The incarnation.
    pub(crate) worker: Uuid,
    pub(crate) worker_name: String,
    pub(crate) solo: bool,
    pub(crate) at: Timestamp,
    pub(crate) members: Vec<Member>,
}

/// A member of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: MessageId,
    pub(crate) attempt: u16,
    pub(crate) max_attempts: u16,
}

/// A row of open claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) token: Token,
    pub(crate) settled: Bits,
    pub(crate) revoked: Bits,
}

/// A row of settlements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settlement {
    pub(crate) token: Token,
    pub(crate) recorded: Recorded,
    pub(crate) mask: Bits,
    pub(crate) at: Timestamp,
}

/// A row of transitions: what was recorded of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) id: MessageId,
    /// The claim that it ended, if any.
    pub(crate) token: Option<Token>,
    pub(crate) recorded: Recorded,
    pub(crate) attempt: u16,
}

/// A row of the idempotency keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) event_type: String,
    pub(crate) key: String,
    pub(crate) id: MessageId,
}
