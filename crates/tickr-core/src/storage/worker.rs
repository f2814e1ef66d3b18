//! Workers and their leases.

use std::time::Duration;

use crate::bits::Bits;
use crate::event_type::EventType;
use crate::id::{Token, WorkerId};

/// A worker's incarnation, as it introduces itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registration {
    /// The incarnation.
    pub worker: WorkerId,
    /// Its name, for people.
    pub name: String,
    /// The event types it handles: what is not among those of any live worker is reported as unserved.
    pub event_types: Vec<EventType>,
    /// How long it may be silent.
    pub lease: Duration,
}

impl Registration {
    /// An incarnation with its lease.
    pub fn new(worker: WorkerId, name: impl Into<String>, event_types: Vec<EventType>, lease: Duration) -> Self {
        Self { worker, name: name.into(), event_types, lease }
    }
}

/// A sign of life.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Heartbeat {
    /// The incarnation.
    pub worker: WorkerId,
    /// How long it may be silent from now on.
    pub lease: Duration,
    /// Whether it sleeps, so that producers notify it.
    pub idle: bool,
}

impl Heartbeat {
    /// A heartbeat of a worker that does not sleep.
    pub const fn new(worker: WorkerId, lease: Duration) -> Self {
        Self { worker, lease, idle: false }
    }
}

/// An open claim of a worker, as the fence row says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenClaim {
    /// The claim.
    pub token: Token,
    /// Members whose outcome is recorded.
    pub settled: Bits,
    /// Members that were taken away.
    pub revoked: Bits,
}

impl OpenClaim {
    /// A claim of `members` members, none of which is settled or revoked.
    pub fn new(token: Token, members: u32) -> Self {
        Self { token, settled: Bits::new(members), revoked: Bits::new(members) }
    }
}

/// The answer to a [`Heartbeat`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Beat {
    /// Every claim that the worker has open.
    pub open: Vec<OpenClaim>,
    /// Whether a message of one of the worker's types waits as a suspect: then the most crashes among the first suspects of each type
    /// that is not paused. They say how long a worker may be closed for them.
    pub suspects: Option<u16>,
}

impl Beat {
    /// The answer to a worker that has these claims open, and of whose types no suspect waits.
    pub const fn new(open: Vec<OpenClaim>) -> Self {
        Self { open, suspects: None }
    }
}
