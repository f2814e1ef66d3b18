//! Leases begin: workers register, claim, beat and adopt.

use std::sync::Arc;
use std::time::Duration;

use super::state::{ClaimRow, MemberRow, OpenRow, ReadyKey, State, UNREADABLE, WorkerRow};
use crate::bits::Bits;
use crate::error::{Error, ErrorKind, Result};
use crate::event_type::EventType;
use crate::id::{MessageId, Token, WorkerId};
use crate::message::StoredMessage;
use crate::protocol::Lane;
use crate::storage::{Beat, BodyFault, Claim, ClaimRequest, ClaimedMessage, Heartbeat, LaneRequest, OpenClaim, Registration};
use crate::time::Timestamp;

impl State {
    pub(super) fn register(&mut self, now: Timestamp, registration: &Registration) -> Result<()> {
        let expires_at = now.after(registration.lease);
        let worker = self.workers.entry(registration.worker).or_insert_with(|| WorkerRow {
            name: String::new(),
            event_types: Vec::new(),
            idle: false,
            started_at: now,
            expires_at,
            lease: registration.lease,
            lost: false,
        });
        if worker.lost {
            return Err(condemned(registration.worker));
        }
        worker.name.clone_from(&registration.name);
        worker.event_types.clone_from(&registration.event_types);
        worker.expires_at = expires_at;
        worker.lease = registration.lease;
        Ok(())
    }

    /// Expired is not condemned: a worker that beats before it is condemned lives on.
    pub(super) fn heartbeat(&mut self, now: Timestamp, heartbeat: &Heartbeat) -> Result<Beat> {
        let Some(worker) = self.workers.get_mut(&heartbeat.worker) else {
            return Err(Error::new(ErrorKind::LeaseLost, format!("worker {} is not registered", heartbeat.worker)));
        };
        if worker.lost {
            return Err(condemned(heartbeat.worker));
        }
        worker.expires_at = now.after(heartbeat.lease);
        worker.lease = heartbeat.lease;
        worker.idle = heartbeat.idle;
        let types = worker.event_types.clone();
        // A paused type's suspects cannot be claimed: a worker must not be closed for them.
        let claimable = types.iter().filter(|event_type| !self.is_paused(now, event_type));
        let first = claimable.filter_map(|event_type| self.ready.range(ReadyKey::lane(event_type, Lane::Suspect)).next());
        let suspects = first.map(|(_, row)| row.waiting.crashes).max();
        let open = self.open_of(heartbeat.worker);
        let open = open.map(|(token, row)| OpenClaim { token, settled: row.settled.clone(), revoked: row.revoked.clone() }).collect();
        Ok(Beat { open, suspects })
    }

    pub(super) fn claim(&mut self, now: Timestamp, request: &ClaimRequest) -> Result<Claim> {
        request.check()?;
        if self.claims.contains_key(&request.token) {
            return Err(Error::new(ErrorKind::Conflict, format!("token {} was used before; make a new one", request.token)));
        }
        if !self.workers.get(&request.worker).is_some_and(|worker| worker.is_live(now)) {
            return Ok(Claim::empty(request.token));
        }
        let (members, types): (Vec<MemberRow>, Vec<EventType>) = self.take_ready(now, request).into_iter().unzip();
        if members.is_empty() {
            let next = self.scheduled.first_key_value().map_or(Duration::MAX, |((due, _), _)| due.since(now));
            return Ok(Claim { quiet_for: Some(next), ..Claim::empty(request.token) });
        }
        self.record_claim(now, request, members);
        let mut claim = self.adopt(request.token).unwrap_or_else(|| Claim::empty(request.token));
        // The ready row knows the type of a message, also when its body is missing.
        for (message, event_type) in claim.messages.iter_mut().zip(types) {
            message.event_type = event_type;
        }
        Ok(claim)
    }

    /// Walks the groups and deletes what it takes from ready.
    fn take_ready(&mut self, now: Timestamp, request: &ClaimRequest) -> Vec<(MemberRow, EventType)> {
        let mut members = Vec::new();
        for group in &request.groups {
            if self.is_paused(now, &group.event_type) {
                continue;
            }
            let mut left = (request.total as usize - members.len()).min(group.limit as usize);
            for lane in &group.lanes {
                let lane = self.ready.range(ReadyKey::lane(&group.event_type, *lane));
                let keys: Vec<ReadyKey> = lane.take(left).map(|(key, _)| key.clone()).collect();
                left -= keys.len();
                members.extend(keys.iter().filter_map(|key| self.take_one(key, group)));
            }
        }
        members
    }

    fn take_one(&mut self, key: &ReadyKey, group: &LaneRequest) -> Option<(MemberRow, EventType)> {
        let row = self.ready.remove(key)?;
        self.ready_ids.remove(&row.id);
        let own_max = self.messages.get(&row.id).and_then(|body| body.stored.max_attempts);
        let member = MemberRow {
            id: row.id,
            attempt: row.waiting.attempt.saturating_add(1),
            crashes: row.waiting.crashes,
            max_attempts: own_max.map_or(group.max_attempts, Into::into),
        };
        Some((member, row.event_type))
    }

    fn record_claim(&mut self, now: Timestamp, request: &ClaimRequest, members: Vec<MemberRow>) {
        let token = request.token;
        let number = self.number();
        for (index, member) in (0..).zip(&members) {
            self.claims_of.entry(member.id).or_default().push((token, index));
        }
        let len = count(members.len());
        let row = ClaimRow { worker_name: request.worker_name.clone(), solo: request.solo, at: now, number, members };
        self.claims.insert(token, Arc::new(row));
        self.claims_order.insert(number, token);
        self.open_claims.insert(token, OpenRow { worker: request.worker, settled: Bits::new(len), revoked: Bits::new(len) });
    }

    /// What an open claim still holds, with bodies.
    pub(super) fn adopt(&self, token: Token) -> Option<Claim> {
        let open = self.open_claims.get(&token)?;
        let row = self.claims.get(&token)?;
        let held = (0..).zip(&row.members).filter(|(index, _)| !open.settled.contains(*index) && !open.revoked.contains(*index));
        let messages = held.map(|(index, member)| self.claimed_message(index, member)).collect();
        Some(Claim { token, members: open.settled.len(), solo: row.solo, messages, quiet_for: None })
    }

    /// Ends the exclusivity of an open claim of a worker that is not condemned.
    pub(super) fn end_exclusive(&mut self, token: Token) -> bool {
        let worker = self.open_claims.get(&token).and_then(|open| self.workers.get(&open.worker));
        let is_held = worker.is_some_and(|worker| !worker.lost);
        if is_held && let Some(claim) = self.claims.get_mut(&token) {
            Arc::make_mut(claim).solo = false;
        }
        is_held
    }

    fn claimed_message(&self, index: u32, member: &MemberRow) -> ClaimedMessage {
        ClaimedMessage {
            index,
            id: member.id,
            event_type: self.type_of(member.id),
            attempt: member.attempt,
            max_attempts: member.max_attempts,
            crashes: member.crashes,
            last_error: if member.attempt > 1 { self.last_error(member.id) } else { None },
            body: self.body_of(member.id),
        }
    }
}

impl State {
    fn body_of(&self, id: MessageId) -> std::result::Result<StoredMessage, BodyFault> {
        match self.messages.get(&id) {
            None => Err(BodyFault::Missing),
            Some(_) if self.unreadable.contains(&id) => Err(BodyFault::Unreadable(UNREADABLE.to_owned())),
            Some(body) => Ok(body.stored.clone()),
        }
    }
}

fn condemned(worker: WorkerId) -> Error {
    Error::new(ErrorKind::LeaseLost, format!("worker {worker} was condemned; go on as a new incarnation"))
}

/// A number of members; a claim has at most `u32::MAX`, by the type of its `total`.
fn count(members: usize) -> u32 {
    u32::try_from(members).unwrap_or(u32::MAX)
}
