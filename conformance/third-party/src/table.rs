//! The data, and the moves that every operation is made of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tickr_core::protocol::{Lane, Recorded, Waiting};
use tickr_core::{
    Bits, Error, ErrorKind, EventType, MessageId, OutcomeEntry, Pause, PauseRequest, Registration, Result, StoredMessage, Timestamp, Token,
    WorkerId,
};

use crate::KEY_RETENTION;

/// A message, and the one place where it is: it can be in no other.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) stored: StoredMessage,
    pub(crate) place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Ready { seq: u64, waiting: Waiting },
    Scheduled { due: Timestamp, waiting: Waiting },
    Leased { token: Token, index: u32 },
    Dead { attempt: u16, reason: String, at: Timestamp },
    Succeeded { attempt: u16, at: Timestamp },
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: MessageId,
    pub(crate) attempt: u16,
    pub(crate) crashes: u16,
    pub(crate) max_attempts: u16,
    /// How the lease ended. A member without is leased: together they are the fence.
    pub(crate) ended: Option<(Recorded, Timestamp)>,
}

#[derive(Debug)]
pub(crate) struct ClaimRow {
    pub(crate) worker: WorkerId,
    pub(crate) worker_name: String,
    pub(crate) solo: bool,
    pub(crate) at: Timestamp,
    pub(crate) members: Vec<Member>,
}

impl ClaimRow {
    pub(crate) fn is_open(&self) -> bool {
        self.members.iter().any(|member| member.ended.is_none())
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    /// The members whose lease ended in a way that `which` names.
    pub(crate) fn ended(&self, which: impl Fn(Recorded) -> bool) -> Bits {
        let indices = self.members.iter().zip(0..).filter(|(member, _)| member.ended.is_some_and(|(recorded, _)| which(recorded)));
        Bits::from_indices(self.len(), indices.map(|(_, index)| index))
    }

    pub(crate) fn leased(&self) -> Vec<u32> {
        self.members.iter().zip(0..).filter(|(member, _)| member.ended.is_none()).map(|(_, index)| index).collect()
    }
}

#[derive(Debug)]
pub(crate) struct WorkerRow {
    pub(crate) registration: Registration,
    pub(crate) started_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) lease: Duration,
    pub(crate) idle: bool,
    pub(crate) lost: bool,
}

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) id: MessageId,
    pub(crate) expires_at: Timestamp,
}

#[derive(Debug)]
pub(crate) struct LockRow {
    pub(crate) holder: WorkerId,
    pub(crate) term: u64,
    pub(crate) expires_at: Timestamp,
    pub(crate) ttl: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) messages: BTreeMap<MessageId, Entry>,
    /// Where claims look. Only [`Table::put_ready`] and [`Table::unplace`] touch it.
    ready: BTreeMap<(EventType, Lane), BTreeMap<u64, MessageId>>,
    pub(crate) due: BTreeSet<(Timestamp, MessageId)>,
    pub(crate) claims: HashMap<Token, ClaimRow>,
    /// Which claims a message was in, in order.
    pub(crate) claims_of: HashMap<MessageId, Vec<Token>>,
    pub(crate) outcomes: HashMap<MessageId, Vec<OutcomeEntry>>,
    pub(crate) keys: HashMap<(EventType, String), Key>,
    pub(crate) workers: BTreeMap<WorkerId, WorkerRow>,
    /// By their keys, so that the pause of everything comes first.
    pub(crate) pauses: BTreeMap<String, Pause>,
    pub(crate) locks: HashMap<String, LockRow>,
    seq: u64,
    /// The types of what the present operation made ready.
    pub(crate) made_ready: Vec<EventType>,
}

impl Table {
    /// Puts a message into the queue: it gets a new place in the order, always.
    pub(crate) fn put_ready(&mut self, id: MessageId, waiting: Waiting) {
        self.unplace(id);
        self.seq += 1;
        let Some(entry) = self.messages.get_mut(&id) else { return };
        let event_type = entry.stored.event_type.clone();
        entry.place = Place::Ready { seq: self.seq, waiting };
        self.ready.entry((event_type.clone(), waiting.lane)).or_default().insert(self.seq, id);
        if !self.made_ready.contains(&event_type) {
            self.made_ready.push(event_type);
        }
    }

    pub(crate) fn put_scheduled(&mut self, id: MessageId, due: Timestamp, waiting: Waiting) {
        self.unplace(id);
        if let Some(entry) = self.messages.get_mut(&id) {
            entry.place = Place::Scheduled { due, waiting };
            self.due.insert((due, id));
        }
    }

    /// Puts a message anywhere but into ready or scheduled.
    pub(crate) fn put(&mut self, id: MessageId, place: Place) {
        self.unplace(id);
        if let Some(entry) = self.messages.get_mut(&id) {
            entry.place = place;
        }
    }

    /// Puts a message where it waits, now or later.
    pub(crate) fn put_waiting(&mut self, id: MessageId, later: Option<Timestamp>, waiting: Waiting) {
        match later {
            Some(due) => self.put_scheduled(id, due, waiting),
            None => self.put_ready(id, waiting),
        }
    }

    /// Takes a message out of the indexes of its place.
    fn unplace(&mut self, id: MessageId) {
        let Some(entry) = self.messages.get(&id) else { return };
        match &entry.place {
            Place::Ready { seq, waiting } => {
                let lane = (entry.stored.event_type.clone(), waiting.lane);
                if let Some(queue) = self.ready.get_mut(&lane) {
                    queue.remove(seq);
                    if queue.is_empty() {
                        self.ready.remove(&lane);
                    }
                }
            }
            Place::Scheduled { due, .. } => {
                self.due.remove(&(*due, id));
            }
            Place::Leased { .. } | Place::Dead { .. } | Place::Succeeded { .. } => {}
        }
    }

    /// The oldest messages of a lane.
    pub(crate) fn front(&self, event_type: &EventType, lane: Lane, limit: u32) -> Vec<MessageId> {
        let queue = self.ready.get(&(event_type.clone(), lane));
        queue.into_iter().flat_map(|queue| queue.values()).take(limit as usize).copied().collect()
    }

    /// The most crashes among the first suspects of each of these types; `None` if none waits.
    pub(crate) fn first_suspects(&self, event_types: &[EventType], now: Timestamp) -> Option<u16> {
        let claimable = event_types.iter().filter(|event_type| !self.is_paused(event_type, now));
        let first = claimable.flat_map(|event_type| self.front(event_type, Lane::Suspect, 1));
        let crashes = |id: MessageId| match self.messages.get(&id)?.place {
            Place::Ready { waiting, .. } => Some(waiting.crashes),
            _ => None,
        };
        first.filter_map(crashes).max()
    }

    pub(crate) fn pause(&mut self, request: &PauseRequest, now: Timestamp) -> Result<bool> {
        let pause = request.check(now)?;
        self.pauses.retain(|_, pause| !pause.is_over(now));
        let key = request.scope().key()?;
        let stored = self.pauses.get(key);
        let was_paused = stored.is_some();
        if stored.is_none_or(|stored| request.replaces(&pause, stored)) {
            self.pauses.insert(key.to_owned(), pause);
        }
        Ok(!was_paused)
    }

    /// Whether a type is not to be claimed, by its name or with everything.
    pub(crate) fn is_paused(&self, event_type: &EventType, now: Timestamp) -> bool {
        self.pauses.values().any(|pause| pause.scope.covers(event_type) && !pause.is_over(now))
    }

    pub(crate) fn pauses_in_force(&self, now: Timestamp) -> Vec<Pause> {
        self.pauses.values().filter(|pause| !pause.is_over(now)).cloned().collect()
    }

    /// Keeps the key of a message for as long after its new due time; never for less than before.
    pub(crate) fn keep_key(&mut self, id: MessageId, due: Timestamp) {
        let Some(entry) = self.messages.get(&id) else { return };
        let Some(key) = &entry.stored.idempotency_key else { return };
        if let Some(known) = self.keys.get_mut(&(entry.stored.event_type.clone(), key.clone()))
            && known.id == id
        {
            known.expires_at = known.expires_at.max(due.after(KEY_RETENTION));
        }
    }

    pub(crate) fn remove_message(&mut self, id: MessageId) {
        self.unplace(id);
        self.messages.remove(&id);
    }

    pub(crate) fn note(
        &mut self,
        id: MessageId,
        token: Option<Token>,
        recorded: Recorded,
        attempt: u16,
        error: Option<&str>,
        at: Timestamp,
    ) {
        let mut entry = OutcomeEntry::new(recorded, attempt, at);
        entry.token = token;
        entry.error = error.map(str::to_owned);
        self.outcomes.entry(id).or_default().push(entry);
    }

    /// Ends the lease of a member; says whether it was open.
    pub(crate) fn end(&mut self, token: Token, index: u32, recorded: Recorded, at: Timestamp) -> bool {
        let member = self.claims.get_mut(&token).and_then(|claim| claim.members.get_mut(index as usize));
        match member {
            Some(member) if member.ended.is_none() => {
                member.ended = Some((recorded, at));
                true
            }
            _ => false,
        }
    }

    pub(crate) fn open_claims_of(&self, worker: WorkerId) -> Vec<Token> {
        let mut open: Vec<Token> =
            self.claims.iter().filter(|(_, claim)| claim.worker == worker && claim.is_open()).map(|(token, _)| *token).collect();
        open.sort_unstable();
        open
    }

    /// Whether a worker may hold leases.
    pub(crate) fn is_alive(&self, worker: WorkerId, now: Timestamp) -> bool {
        self.workers.get(&worker).is_some_and(|row| !row.lost && row.expires_at > now)
    }

    pub(crate) fn remove_lost_workers(&mut self) {
        let idle: Vec<WorkerId> =
            self.workers.iter().filter(|(id, row)| row.lost && self.open_claims_of(**id).is_empty()).map(|(id, _)| *id).collect();
        for id in idle {
            self.workers.remove(&id);
        }
    }

    /// Whether a message is still to be handled, or could be again.
    pub(crate) fn lives(&self, id: MessageId) -> bool {
        self.messages.get(&id).is_some_and(|entry| !matches!(entry.place, Place::Succeeded { .. }))
    }
}

pub(crate) fn lease_lost(worker: WorkerId) -> Error {
    Error::new(ErrorKind::LeaseLost, format!("worker {worker} is unknown or condemned"))
}
