//! What every storage refuses before it touches its database, so that none can forget it or word it differently.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::bits::Bits;
use crate::error::{Error, Result};
use crate::id::Token;
use crate::protocol::Lane;
use crate::storage::{ClaimRequest, Lock, PurgeRequest, Settlement};

/// The shortest lease: below it, heartbeats would be lost to scheduling alone.
pub const LEASE_MIN: Duration = Duration::from_millis(100);

/// Refuses a lease that is shorter than [`LEASE_MIN`].
///
/// # Errors
/// [`Config`](crate::ErrorKind::Config).
pub fn check_lease(lease: Duration) -> Result<()> {
    if lease < LEASE_MIN {
        return Err(Error::config(format!("lease of {lease:?} is shorter than {LEASE_MIN:?}")));
    }
    Ok(())
}

/// The longest reason of an operator, in bytes: it is kept with each message that it concerns.
pub const REASON_BYTES_MAX: usize = 1_000;

/// Refuses a reason that is longer than [`REASON_BYTES_MAX`].
///
/// # Errors
/// [`Config`](crate::ErrorKind::Config).
pub fn check_reason(reason: &str) -> Result<()> {
    if reason.len() > REASON_BYTES_MAX {
        return Err(Error::config(format!("reason has {} bytes, the limit is {REASON_BYTES_MAX}", reason.len())));
    }
    Ok(())
}

impl ClaimRequest {
    /// Refuses a request that contradicts itself, or takes several suspects at once.
    ///
    /// An exclusive claim has one member: at a crash several would pass for the culprit.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config).
    pub fn check(&self) -> Result<()> {
        let suspects = self.groups.iter().any(|group| group.lanes.contains(&Lane::Suspect));
        if suspects && self.total != 1 {
            return Err(Error::config(format!("suspects are claimed one at a time, not {}", self.total)));
        }
        if self.solo && self.total != 1 {
            return Err(Error::config(format!("an exclusive claim takes one message, not {}", self.total)));
        }
        let mut seen = HashSet::new();
        for group in &self.groups {
            if group.max_attempts == 0 {
                return Err(Error::config(format!("maximum of attempts of {} is 0", group.event_type)));
            }
            for lane in &group.lanes {
                if !seen.insert((&group.event_type, *lane)) {
                    return Err(Error::config(format!("lane {lane:?} of {} is claimed twice", group.event_type)));
                }
            }
        }
        Ok(())
    }
}

/// Refuses a batch that contradicts itself: it would put members in two places.
///
/// Whether members and messages belong to the claim is for the storage to check.
///
/// # Errors
/// [`Config`](crate::ErrorKind::Config).
pub fn check_settlements(batch: &[Settlement]) -> Result<()> {
    let mut seen: HashMap<Token, Bits> = HashMap::with_capacity(batch.len());
    for settlement in batch {
        let (token, members) = (settlement.token, settlement.succeeded.len());
        let twice = || Error::config(format!("one batch settles a member of claim {token} twice"));
        let seen = seen.entry(token).or_insert_with(|| Bits::new(members));
        if seen.len() != members || !seen.intersection(&settlement.succeeded).is_empty() {
            return Err(twice());
        }
        *seen = seen.union(&settlement.succeeded);
        for member in &settlement.others {
            if member.index >= members {
                return Err(Error::config(format!("claim {token} has {members} members, none with index {}", member.index)));
            }
            if !seen.insert(member.index) {
                return Err(twice());
            }
        }
    }
    Ok(())
}

impl PurgeRequest {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config).
    pub fn check(&self) -> Result<()> {
        self.retention.check()?;
        if self.limit == 0 {
            return Err(Error::config("a purge of at most 0 rows never ends"));
        }
        Ok(())
    }
}

impl Lock {
    /// Refuses a named lease without name or time.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config).
    pub fn check(name: &str, ttl: Duration) -> Result<()> {
        if name.is_empty() {
            return Err(Error::config("name of a lock is empty"));
        }
        if ttl.is_zero() {
            return Err(Error::config(format!("lock {name:?} would expire at once; give it some time")));
        }
        Ok(())
    }
}
