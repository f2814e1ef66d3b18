//! The tables of the protocol as plain collections, and the few ways in which rows move between them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::bits::Bits;
use crate::event_type::EventType;
use crate::id::{MessageId, Token, WorkerId};
use crate::message::StoredMessage;
use crate::protocol::{Lane, Recorded, Waiting};
use crate::storage::Pause;
use crate::time::Timestamp;

use super::tx::Reservations;

/// What a body that a test made unreadable is answered with.
pub(super) const UNREADABLE: &str = "headers: made unreadable by a test";

/// An event type and an idempotency key.
pub(super) type Key = (EventType, String);

/// A body, and its number in the journal: what was recorded of the same id before it belongs to an earlier life.
pub(super) struct Body {
    pub(super) stored: StoredMessage,
    pub(super) number: u64,
}

/// Orders ready: a lane is a range.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReadyKey {
    pub(super) event_type: EventType,
    pub(super) lane: Lane,
    pub(super) seq: u64,
}

impl ReadyKey {
    /// The range of one lane.
    pub(super) fn lane(event_type: &EventType, lane: Lane) -> RangeInclusive<Self> {
        let at = |seq| Self { event_type: event_type.clone(), lane, seq };
        at(0)..=at(u64::MAX)
    }
}

/// Orders scheduled by due time; what is due at the same moment, by insertion.
pub(super) type ScheduledKey = (Timestamp, u64);

/// A row of ready or scheduled. Never changed, only moved.
#[derive(Clone)]
pub(super) struct WaitingRow {
    pub(super) id: MessageId,
    pub(super) event_type: EventType,
    pub(super) waiting: Waiting,
}

/// One claim, as it was made.
#[derive(Clone)]
pub(super) struct ClaimRow {
    pub(super) worker_name: String,
    pub(super) solo: bool,
    pub(super) at: Timestamp,
    pub(super) number: u64,
    pub(super) members: Vec<MemberRow>,
}

#[derive(Clone, Copy)]
pub(super) struct MemberRow {
    pub(super) id: MessageId,
    pub(super) attempt: u16,
    pub(super) crashes: u16,
    pub(super) max_attempts: u16,
}

/// The fence of one unsettled claim: every outcome writes it.
pub(super) struct OpenRow {
    pub(super) worker: WorkerId,
    pub(super) settled: Bits,
    pub(super) revoked: Bits,
}

impl OpenRow {
    pub(super) fn gone(&self) -> Bits {
        self.settled.union(&self.revoked)
    }

    pub(super) fn unset(&self) -> Bits {
        self.gone().complement()
    }
}

pub(super) struct SettlementRow {
    pub(super) token: Token,
    pub(super) recorded: Recorded,
    pub(super) mask: Bits,
    pub(super) at: Timestamp,
}

pub(super) struct TransitionRow {
    pub(super) id: MessageId,
    pub(super) token: Option<Token>,
    pub(super) recorded: Recorded,
    pub(super) attempt: u16,
    pub(super) error: Option<String>,
    pub(super) at: Timestamp,
}

pub(super) struct DeadRow {
    pub(super) event_type: EventType,
    pub(super) attempt: u16,
    pub(super) reason: String,
    pub(super) died_at: Timestamp,
}

pub(super) struct WorkerRow {
    pub(super) name: String,
    pub(super) event_types: Vec<EventType>,
    pub(super) idle: bool,
    pub(super) started_at: Timestamp,
    pub(super) expires_at: Timestamp,
    /// How long a whole lease is.
    pub(super) lease: Duration,
    pub(super) lost: bool,
}

impl WorkerRow {
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        !self.lost && self.expires_at > now
    }
}

pub(super) struct LockRow {
    pub(super) holder: WorkerId,
    pub(super) term: u64,
    pub(super) expires_at: Timestamp,
    /// How long a whole lease is.
    pub(super) ttl: Duration,
}

/// Every table. Fields named `*_ids`, `*_of` and `*_order` are indexes of the table before them.
pub(super) struct State {
    pub(super) messages: BTreeMap<MessageId, Body>,
    /// Bodies that a test made unreadable.
    pub(super) unreadable: HashSet<MessageId>,
    pub(super) ready: BTreeMap<ReadyKey, WaitingRow>,
    pub(super) ready_ids: HashMap<MessageId, ReadyKey>,
    pub(super) scheduled: BTreeMap<ScheduledKey, WaitingRow>,
    pub(super) scheduled_ids: HashMap<MessageId, ScheduledKey>,
    pub(super) claims: HashMap<Token, Arc<ClaimRow>>,
    /// The claims that had a message, oldest first, and its index there.
    pub(super) claims_of: HashMap<MessageId, Vec<(Token, u32)>>,
    pub(super) claims_order: BTreeMap<u64, Token>,
    pub(super) open_claims: BTreeMap<Token, OpenRow>,
    pub(super) settlements: BTreeMap<u64, SettlementRow>,
    pub(super) settlements_of: HashMap<Token, Vec<u64>>,
    pub(super) transitions: BTreeMap<u64, TransitionRow>,
    pub(super) transitions_of: HashMap<MessageId, Vec<u64>>,
    pub(super) dead: BTreeMap<MessageId, DeadRow>,
    /// The message of a key, and when the key expires.
    pub(super) dedupe: HashMap<Key, (MessageId, Timestamp)>,
    /// Orders dedupe by expiry.
    pub(super) dedupe_order: BTreeSet<(Timestamp, Key)>,
    pub(super) workers: BTreeMap<WorkerId, WorkerRow>,
    /// By their key.
    pub(super) pauses: BTreeMap<String, Pause>,
    pub(super) locks: HashMap<String, LockRow>,
    /// What open transactions hold.
    pub(super) reservations: Reservations,
    /// Settlements before this number have no body left to purge.
    pub(super) purged_below: u64,
    pub(super) dedupe_keep: Duration,
    pub(super) history: bool,
    last_number: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            messages: BTreeMap::new(),
            unreadable: HashSet::new(),
            ready: BTreeMap::new(),
            ready_ids: HashMap::new(),
            scheduled: BTreeMap::new(),
            scheduled_ids: HashMap::new(),
            claims: HashMap::new(),
            claims_of: HashMap::new(),
            claims_order: BTreeMap::new(),
            open_claims: BTreeMap::new(),
            settlements: BTreeMap::new(),
            settlements_of: HashMap::new(),
            transitions: BTreeMap::new(),
            transitions_of: HashMap::new(),
            dead: BTreeMap::new(),
            dedupe: HashMap::new(),
            dedupe_order: BTreeSet::new(),
            workers: BTreeMap::new(),
            pauses: BTreeMap::new(),
            locks: HashMap::new(),
            reservations: Reservations::default(),
            purged_below: 0,
            dedupe_keep: Duration::from_secs(7 * 24 * 3_600),
            history: true,
            last_number: 0,
        }
    }
}

impl State {
    /// The next number; one sequence for seq and for the journal, so that rows of all kinds have one order.
    pub(super) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Puts a message into scheduled when it is due later, else into ready.
    pub(super) fn put(&mut self, row: WaitingRow, due: Option<Timestamp>) {
        debug_assert!(!self.is_waiting(row.id), "message {} waits twice", row.id);
        let number = self.number();
        if let Some(due) = due {
            self.scheduled_ids.insert(row.id, (due, number));
            self.scheduled.insert((due, number), row);
        } else {
            let key = ReadyKey { event_type: row.event_type.clone(), lane: row.waiting.lane, seq: number };
            self.ready_ids.insert(row.id, key.clone());
            self.ready.insert(key, row);
        }
    }

    /// Takes a message out of ready or scheduled.
    pub(super) fn take_waiting(&mut self, id: MessageId) -> Option<WaitingRow> {
        if let Some(key) = self.ready_ids.remove(&id) {
            return self.ready.remove(&key);
        }
        let key = self.scheduled_ids.remove(&id)?;
        self.scheduled.remove(&key)
    }

    /// Writes a dead letter.
    pub(super) fn bury(&mut self, now: Timestamp, id: MessageId, event_type: EventType, attempt: u16, reason: String) {
        self.dead.insert(id, DeadRow { event_type, attempt, reason, died_at: now });
    }

    /// Journals what ended leases of one claim.
    pub(super) fn log_settlement(&mut self, now: Timestamp, token: Token, recorded: Recorded, mask: Bits) {
        if mask.is_empty() {
            return;
        }
        let number = self.number();
        self.settlements.insert(number, SettlementRow { token, recorded, mask, at: now });
        self.settlements_of.entry(token).or_default().push(number);
    }

    /// Journals what happened to one message, unless the history is off.
    pub(super) fn log_transition(&mut self, row: TransitionRow) {
        if !self.history {
            return;
        }
        let number = self.number();
        self.transitions_of.entry(row.id).or_default().push(number);
        self.transitions.insert(number, row);
    }

    /// Removes the fence row once nothing is left behind it.
    pub(super) fn close_if_full(&mut self, token: Token) {
        if self.open_claims.get(&token).is_some_and(|open| open.gone().is_full()) {
            self.open_claims.remove(&token);
        }
    }

    pub(super) fn is_waiting(&self, id: MessageId) -> bool {
        self.ready_ids.contains_key(&id) || self.scheduled_ids.contains_key(&id)
    }

    /// The open claim that holds a message, and its index there.
    pub(super) fn claimed(&self, id: MessageId) -> Option<(Token, u32)> {
        let claims = self.claims_of.get(&id)?;
        claims.iter().rev().copied().find(|(token, index)| {
            self.open_claims.get(token).is_some_and(|open| !open.settled.contains(*index) && !open.revoked.contains(*index))
        })
    }

    /// Whether a message is anywhere but finished: ready, scheduled, claimed, or dead and so still able to come back.
    pub(super) fn is_live(&self, id: MessageId) -> bool {
        self.is_waiting(id) || self.dead.contains_key(&id) || self.claimed(id).is_some()
    }

    /// The claim and the settlement that prove that a message succeeded.
    pub(super) fn success(&self, id: MessageId, body: &Body) -> Option<(Token, u32, &SettlementRow)> {
        let claims = self.claims_of.get(&id)?;
        claims.iter().rev().find_map(|(token, index)| {
            let proof = self
                .settlements_of(*token)
                .find(|(number, row)| row.recorded.is_success() && row.mask.contains(*index) && *number > body.number);
            proof.map(|(_, row)| (*token, *index, row))
        })
    }

    /// The settlements of a claim, oldest first, with their numbers.
    pub(super) fn settlements_of(&self, token: Token) -> impl Iterator<Item = (u64, &SettlementRow)> {
        let numbers = self.settlements_of.get(&token).map_or(&[][..], Vec::as_slice);
        numbers.iter().filter_map(|number| self.settlements.get(number).map(|row| (*number, row)))
    }

    /// The transitions of a message, oldest first, with their numbers.
    pub(super) fn transitions_of(&self, id: MessageId) -> impl DoubleEndedIterator<Item = (u64, &TransitionRow)> {
        let numbers = self.transitions_of.get(&id).map_or(&[][..], Vec::as_slice);
        numbers.iter().filter_map(|number| self.transitions.get(number).map(|row| (*number, row)))
    }

    /// The newest recorded error or reason.
    pub(super) fn last_error(&self, id: MessageId) -> Option<String> {
        self.transitions_of(id).rev().find_map(|(_, row)| row.error.clone())
    }

    /// The type of a message; `?` when its body is missing, which only its body tells.
    pub(super) fn type_of(&self, id: MessageId) -> EventType {
        self.messages.get(&id).map_or_else(|| EventType::from_stored("?"), |body| body.stored.event_type.clone())
    }

    /// The tokens that a worker has open, in order.
    pub(super) fn open_of(&self, worker: WorkerId) -> impl Iterator<Item = (Token, &OpenRow)> {
        self.open_claims.iter().filter(move |(_, open)| open.worker == worker).map(|(token, open)| (*token, open))
    }
}
