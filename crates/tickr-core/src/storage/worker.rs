//! Workers and their leases.

use std::time::Duration;

use crate::bits::Bits;
use crate::event_type::EventType;
use crate::id::{Token, WorkerId};

/// A worker's incarnation, as it introduces itself.
#[derive(Clone, Debug)]
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

/// A sign of life.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// The incarnation.
    pub worker: WorkerId,
    /// How long it may be silent from now on.
    pub lease: Duration,
    /// Whether it sleeps, so that producers notify it.
    pub idle: bool,
}

/// An open claim of a worker, as the fence row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenClaim {
    /// The claim.
    pub token: Token,
    /// Members whose outcome is recorded.
    pub settled: Bits,
    /// Members that were taken away.
    pub revoked: Bits,
}

/// The answer to a [`Heartbeat`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// Every claim that the worker has open.
    pub open: Vec<OpenClaim>,
    /// Whether a message of one of the worker's types waits as a suspect: then the most crashes among the first suspects of each type
    /// that is not paused. They say how long a worker may be closed for them.
    pub suspects: Option<u16>,
}
