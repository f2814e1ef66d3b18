//! [`Storage`]: what workers and clients need.

use std::collections::BTreeMap;
use std::time::Duration;

use tickr_core::protocol::{Lane, Recorded, Waiting, lease_end, waiting_since};
use tickr_core::{
    Beat, Capabilities, Claim, ClaimRequest, Count, Enqueued, EventType, Heartbeat, Lock, MessageId, Migrated, Migration, NewMessage,
    OpenClaim, PauseRequest, Promoted, PurgeRequest, Purged, ReclaimRequest, Reclaimed, Registration, Result, Retired, SchemaStatus,
    Settled, Settlement, Stats, StatsRequest, Status, Storage, Timestamp, Token, TypeStats, WakeHub, WorkerId, check_batch, check_lease,
};

use crate::table::{Entry, Key, LockRow, Place, Table, WorkerRow, lease_lost};
use crate::{KEY_RETENTION, MapStorage};

impl Storage for MapStorage {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn wakeups(&self) -> &WakeHub {
        &self.wakeups
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(MapStorage::now(self))
    }

    async fn schema(&self) -> Result<SchemaStatus> {
        Ok(SchemaStatus::of(1, 1, 1))
    }

    async fn migrate(&self) -> Result<Migrated> {
        Ok(Migrated::new(1))
    }

    fn migrations(&self) -> &[Migration] {
        &[]
    }

    async fn enqueue(&self, batch: &[NewMessage]) -> Result<Vec<Enqueued>> {
        check_batch(batch)?;
        self.operate(|table, now| Ok(batch.iter().map(|message| table.enqueue(message, now)).collect()))
    }

    async fn register(&self, registration: &Registration) -> Result<()> {
        check_lease(registration.lease)?;
        self.operate(|table, now| {
            let expires_at = now.after(registration.lease);
            let row = table.workers.entry(registration.worker).or_insert_with(|| WorkerRow {
                registration: registration.clone(),
                started_at: now,
                expires_at,
                lease: registration.lease,
                idle: false,
                lost: false,
            });
            if row.lost {
                return Err(lease_lost(registration.worker));
            }
            row.registration = registration.clone();
            (row.expires_at, row.lease) = (expires_at, registration.lease);
            Ok(())
        })
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        self.operate(|table, now| table.claim(request, now))
    }

    async fn settle(&self, batch: &[Settlement]) -> Result<Vec<Settled>> {
        self.operate(|table, now| table.settle(batch, now))
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat> {
        check_lease(heartbeat.lease)?;
        self.operate(|table, now| {
            let row = table.workers.get_mut(&heartbeat.worker).filter(|row| !row.lost).ok_or_else(|| lease_lost(heartbeat.worker))?;
            (row.expires_at, row.lease) = (now.after(heartbeat.lease), heartbeat.lease);
            row.idle = heartbeat.idle;
            let types = row.registration.event_types.clone();
            let open = table.open_claims_of(heartbeat.worker).into_iter().map(|token| table.open_claim(token)).collect();
            let mut beat = Beat::new(open);
            beat.suspects = table.first_suspects(&types, now);
            Ok(beat)
        })
    }

    async fn adopt(&self, token: Token) -> Result<Option<Claim>> {
        Ok(self.lock().read_claim(token))
    }

    async fn end_exclusive(&self, token: Token) -> Result<bool> {
        self.operate(|table, _| Ok(table.end_exclusive(token)))
    }

    async fn retire(&self, worker: WorkerId, reason: &str) -> Result<Retired> {
        self.operate(|table, now| Ok(Retired::new(table.retire(worker, reason, now))))
    }

    async fn promote(&self, limit: u32) -> Result<Promoted> {
        self.operate(|table, now| Ok(table.promote(limit, now)))
    }

    async fn reclaim(&self, request: &ReclaimRequest) -> Result<Reclaimed> {
        self.operate(|table, now| {
            let condemned = if request.condemn { table.condemn(now) } else { 0 };
            let mut reclaimed = table.take_back(request.limit, now);
            reclaimed.condemned = condemned;
            Ok(reclaimed)
        })
    }

    async fn purge(&self, request: &PurgeRequest) -> Result<Purged> {
        request.check()?;
        self.operate(|table, now| Ok(table.purge(request, now)))
    }

    async fn stats(&self, request: &StatsRequest) -> Result<Stats> {
        self.operate(|table, now| Ok(table.stats(request.count_max, now)))
    }

    async fn pause(&self, request: &PauseRequest) -> Result<bool> {
        self.operate(|table, now| table.pause(request, now))
    }

    async fn acquire_lock(&self, name: &str, holder: WorkerId, ttl: Duration) -> Result<Option<Lock>> {
        Lock::check(name, ttl)?;
        self.operate(|table, now| {
            let expires_at = now.after(ttl);
            let fresh = LockRow { holder, term: 0, expires_at: now, ttl };
            let row = table.locks.entry(name.to_owned()).or_insert(fresh);
            row.expires_at = lease_end(row.expires_at, row.ttl, now);
            if row.expires_at > now && row.holder != holder {
                return Ok(None);
            }
            if row.expires_at <= now {
                row.term += 1;
            }
            (row.holder, row.expires_at, row.ttl) = (holder, expires_at, ttl);
            Ok(Some(Lock::new(name, holder, row.term)))
        })
    }

    async fn renew_lock(&self, lock: &Lock, ttl: Duration) -> Result<bool> {
        Lock::check(&lock.name, ttl)?;
        self.operate(|table, now| Ok(table.change_lock(lock, now, ttl)))
    }

    async fn release_lock(&self, lock: &Lock) -> Result<bool> {
        self.operate(|table, now| Ok(table.change_lock(lock, now, Duration::ZERO)))
    }
}

impl Table {
    fn enqueue(&mut self, message: &NewMessage, now: Timestamp) -> Enqueued {
        let id = message.id();
        if self.messages.contains_key(&id) {
            return Enqueued::Stored { id };
        }
        let later = message.due.later_than(now);
        if let Some(key) = &message.idempotency_key {
            let key = (message.event_type().clone(), key.clone());
            match self.keys.get(&key) {
                Some(known) if known.id == id => {}
                Some(known) => return Enqueued::Duplicate { existing: known.id },
                None => {
                    let expires_at = later.unwrap_or(now).after(KEY_RETENTION);
                    self.keys.insert(key, Key { id, expires_at });
                }
            }
        }
        // A place that needs no index, until the message is put where it waits.
        let place = Place::Succeeded { attempt: 0, at: now };
        self.messages.insert(id, Entry { stored: message.to_stored(now), place });
        self.put_waiting(id, later, Waiting::fresh(message.priority));
        Enqueued::Stored { id }
    }

    fn open_claim(&self, token: Token) -> OpenClaim {
        let claim = &self.claims[&token];
        let mut open = OpenClaim::new(token, claim.len());
        open.settled = claim.ended(|recorded| !recorded.took_the_lease());
        open.revoked = claim.ended(Recorded::took_the_lease);
        open
    }

    fn promote(&mut self, limit: u32, now: Timestamp) -> Promoted {
        let due: Vec<MessageId> = self.due.iter().take_while(|(due, _)| *due <= now).take(limit as usize).map(|(_, id)| *id).collect();
        for id in &due {
            if let Some(Place::Scheduled { waiting, .. }) = self.messages.get(id).map(|entry| entry.place.clone()) {
                self.put_ready(*id, waiting);
            }
        }
        let mut promoted = Promoted::new(u32::try_from(due.len()).unwrap_or(u32::MAX));
        promoted.next_due = self.due.first().map(|(due, _)| due.since(now));
        promoted
    }

    fn purge(&mut self, request: &PurgeRequest, now: Timestamp) -> Purged {
        let (retention, limit) = (request.retention, request.limit as usize);
        let mut purged = Purged::default();
        let succeeded = now.before(retention.success);
        let bodies = self.messages_where(limit, |place| matches!(place, Place::Succeeded { at, .. } if *at <= succeeded));
        bodies.iter().for_each(|id| self.remove_message(*id));
        purged.bodies = bodies.len() as u64;
        purged.more |= bodies.len() >= limit;
        if let Some(keep) = retention.dead {
            let died = now.before(keep);
            let dead = self.messages_where(limit, |place| matches!(place, Place::Dead { at, .. } if *at <= died));
            dead.iter().for_each(|id| self.remove_message(*id));
            purged.dead = dead.len() as u64;
            purged.more |= dead.len() >= limit;
        }
        // A success is in the place of its message, so that the journal proves nothing that is still needed.
        if let Some(keep) = retention.history {
            self.purge_journal(now.before(keep), limit, &mut purged);
        }
        let expired = self.keys.iter().filter(|(_, key)| key.expires_at <= now && !self.lives(key.id)).take(limit);
        let expired: Vec<_> = expired.map(|(key, _)| key.clone()).collect();
        expired.iter().for_each(|key| drop(self.keys.remove(key)));
        purged.keys = expired.len() as u64;
        purged.more |= expired.len() >= limit;
        purged
    }

    fn purge_journal(&mut self, cutoff: Timestamp, limit: usize, purged: &mut Purged) {
        let is_old = |claim: &crate::table::ClaimRow| claim.members.iter().all(|member| member.ended.is_some_and(|(_, at)| at <= cutoff));
        let old: Vec<Token> = self.claims.iter().filter(|(_, claim)| is_old(claim)).take(limit).map(|(token, _)| *token).collect();
        for token in &old {
            self.claims.remove(token);
        }
        self.claims_of.retain(|_, tokens| {
            tokens.retain(|token| !old.contains(token));
            !tokens.is_empty()
        });
        purged.more |= old.len() >= limit;
        let messages = &self.messages;
        let mut gone = 0;
        self.outcomes.retain(|id, outcomes| {
            let before = outcomes.len();
            outcomes.retain(|outcome| messages.contains_key(id) || outcome.at > cutoff);
            gone += before - outcomes.len();
            !outcomes.is_empty()
        });
        purged.journal = (old.len() + gone) as u64;
    }

    fn messages_where(&self, limit: usize, wanted: impl Fn(&Place) -> bool) -> Vec<MessageId> {
        self.messages.iter().filter(|(_, entry)| wanted(&entry.place)).take(limit).map(|(id, _)| *id).collect()
    }

    fn stats(&self, count_max: u32, now: Timestamp) -> Stats {
        #[derive(Default)]
        struct Counted {
            by_status: BTreeMap<Status, u64>,
            ready: u64,
            suspects: u64,
            oldest: Option<Timestamp>,
        }
        let mut types: BTreeMap<EventType, Counted> = BTreeMap::new();
        for (id, entry) in self.messages.iter().filter(|(_, entry)| !matches!(entry.place, Place::Succeeded { .. })) {
            let counted = types.entry(entry.stored.event_type.clone()).or_default();
            *counted.by_status.entry(entry.place.status()).or_default() += 1;
            if let Place::Ready { waiting, .. } | Place::Scheduled { waiting, .. } = entry.place
                && waiting.lane == Lane::Suspect
            {
                counted.suspects += 1;
            }
            if let Place::Ready { .. } = entry.place {
                let came_back_at = self.outcomes.get(id).and_then(|outcomes| outcomes.last()).map(|outcome| outcome.at);
                let since = waiting_since(now, entry.stored.created_at, entry.stored.scheduled_at, came_back_at);
                counted.ready += 1;
                counted.oldest = Some(counted.oldest.map_or(since, |known| known.min(since)));
            }
        }
        let served: Vec<&EventType> =
            self.workers.values().filter(|row| !row.lost && row.expires_at > now).flat_map(|row| &row.registration.event_types).collect();
        let stats = types.into_iter().map(|(event_type, counted)| {
            let count = |status| Count::cut(counted.by_status.get(&status).copied().unwrap_or(0), count_max);
            let mut stats = TypeStats::new(event_type.clone());
            stats.created = count(Status::Created);
            stats.retrying = count(Status::Retrying);
            stats.handling = count(Status::Handling);
            stats.dead = count(Status::Dead);
            stats.ready = Count::cut(counted.ready, count_max);
            stats.suspects = Count::cut(counted.suspects, count_max);
            stats.oldest_ready = counted.oldest.map(|at| now.since(at));
            stats.unserved = stats.created.n + stats.retrying.n > 0 && !served.contains(&&event_type);
            stats
        });
        Stats::new(stats.collect(), now).with_pauses(self.pauses_in_force(now))
    }

    fn change_lock(&mut self, lock: &Lock, now: Timestamp, ttl: Duration) -> bool {
        let row = self.locks.get_mut(&lock.name);
        let held = row.filter(|row| row.holder == lock.holder && row.term == lock.term && row.expires_at > now);
        held.is_some_and(|row| {
            (row.expires_at, row.ttl) = (now.after(ttl), ttl);
            true
        })
    }
}

impl Place {
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Ready { waiting, .. } | Self::Scheduled { waiting, .. } => waiting.status(),
            Self::Leased { .. } => Status::Handling,
            Self::Dead { .. } => Status::Dead,
            Self::Succeeded { .. } => Status::Success,
        }
    }
}
