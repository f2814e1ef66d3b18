//! One registration of the worker with the storage, and what is trusted because of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::door::clock::Tick;
use crate::id::{Token, WorkerId};

/// One registration of the worker. A worker that loses its lease goes on under a new one.
#[derive(Debug)]
pub(super) struct Incarnation {
    pub(super) id: WorkerId,
    /// Until when the lease may be trusted, in nanoseconds of the engine's clock.
    trusted_until: AtomicU64,
    lost: AtomicBool,
    /// What it held was given back: nothing of it may be recorded any more.
    retired: AtomicBool,
    /// Outcomes of it in the settle that is in flight.
    settling: AtomicU32,
}

impl Incarnation {
    pub(super) fn new(trusted_until: Tick) -> Self {
        Self {
            id: WorkerId::new(),
            trusted_until: AtomicU64::new(trusted_until.as_nanos()),
            lost: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            settling: AtomicU32::new(0),
        }
    }

    pub(super) fn trust_until(&self, until: Tick) {
        self.trusted_until.fetch_max(until.as_nanos(), Ordering::SeqCst);
    }

    pub(super) fn trusted_until(&self) -> Tick {
        Tick::from_nanos(self.trusted_until.load(Ordering::SeqCst))
    }

    pub(super) fn is_trusted(&self, now: Tick) -> bool {
        !self.is_lost() && now < self.trusted_until()
    }

    /// Marks it as lost; says whether it was marked before.
    pub(super) fn set_lost(&self) -> bool {
        self.lost.swap(true, Ordering::SeqCst)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    pub(super) fn set_retired(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    pub(super) fn settle_begins(&self, outcomes: u32) {
        self.settling.fetch_add(outcomes, Ordering::SeqCst);
    }

    pub(super) fn settle_ends(&self, outcomes: u32) {
        self.settling.fetch_sub(outcomes, Ordering::SeqCst);
    }

    pub(super) fn is_settling(&self) -> bool {
        self.settling.load(Ordering::SeqCst) > 0
    }
}

/// What all members of one claim share.
#[derive(Debug)]
pub(super) struct ClaimInfo {
    pub(super) token: Token,
    pub(super) members: u32,
    pub(super) solo: bool,
    pub(super) incarnation: Arc<Incarnation>,
}
