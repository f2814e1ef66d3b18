//! A worker, as cases use it.

use std::time::Duration;

use tickr_core::protocol::Lane;
use tickr_core::{AnyAdmin, Beat, Claim, ClaimRequest, EventType, Heartbeat, LaneRequest, Registration, Result, Storage, Token, WorkerId};

use crate::words::{MAX, ORDER, WithMax, group, ordinary};
use crate::world::World;

/// A registered worker.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) world: World,
    pub(crate) id: WorkerId,
    pub(crate) name: String,
    pub(crate) types: Vec<EventType>,
    pub(crate) lease: Duration,
}

impl Worker {
    /// The same worker, used through another handle.
    pub(crate) fn through(&self, storage: AnyAdmin) -> Self {
        Self { world: self.world.through(storage), ..self.clone() }
    }

    /// The same worker with another lease, from its next heartbeat on.
    pub(crate) fn with_lease(&self, lease: Duration) -> Self {
        Self { lease, ..self.clone() }
    }

    pub(crate) async fn register(&self) -> Result<()> {
        let registration = Registration::new(self.id, self.name.clone(), self.types.clone(), self.lease);
        self.world.storage().register(&registration).await
    }

    pub(crate) fn request(&self, groups: Vec<LaneRequest>, total: u32) -> ClaimRequest {
        ClaimRequest::new(self.id, self.name.clone(), Token::new(), groups, total)
    }

    /// Claims orders from all ordinary lanes.
    pub(crate) async fn claim(&self, total: u32) -> Claim {
        self.claim_of(&[ORDER], total).await
    }

    /// Claims messages of types without cap, in strict order of lanes.
    pub(crate) async fn claim_of(&self, types: &[&str], total: u32) -> Claim {
        self.send(&self.request(ordinary(types, total), total)).await
    }

    /// Claims one suspect, alone.
    pub(crate) async fn claim_solo(&self) -> Claim {
        self.claim_solo_max(MAX).await
    }

    pub(crate) async fn claim_solo_max(&self, max_attempts: u16) -> Claim {
        let groups = self.types.iter().map(|name| group(name, &[Lane::Suspect], 1).max(max_attempts)).collect();
        let mut request = self.request(groups, 1);
        request.solo = true;
        self.send(&request).await
    }

    /// Sends a claim and checks what holds for every answer.
    pub(crate) async fn send(&self, request: &ClaimRequest) -> Claim {
        let claim = self.world.storage().claim(request).await.expect("claim");
        assert_eq!(claim.token, request.token, "the answer is to another claim");
        assert!(claim.messages.len() <= request.total as usize, "more than was asked for: {}", claim.messages.len());
        for (index, message) in (0..).zip(&claim.messages) {
            assert_eq!(message.index, index, "members are numbered in order");
        }
        claim
    }

    pub(crate) async fn heartbeat(&self) -> Result<Beat> {
        self.world.storage().heartbeat(&Heartbeat::new(self.id, self.lease)).await
    }

    /// A heartbeat that must succeed.
    pub(crate) async fn beat(&self) -> Beat {
        self.heartbeat().await.expect("heartbeat")
    }

    pub(crate) async fn retire(&self) -> u32 {
        self.world.storage().retire(self.id, "shutdown").await.expect("retire").released
    }
}
