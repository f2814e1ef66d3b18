//! A naive model of the queue: a map of messages, a map of claims, and the rules of the protocol said once more.
//!
//! It shares no code with any storage, nor with `tickr_core::protocol`. It knows times only as spans (a call began and
//! ended), so where a span does not decide, the random run looks and tells the model.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tickr_core::{MessageId, Priority, Status, Timestamp, Token, WorkerId};

/// The kind that stands for all of them in [`Model::pauses`].
pub(crate) const EVERYTHING: usize = usize::MAX;

/// Lanes by number: 0 returned, 1 high, 2 normal, 3 low, 4 suspect.
pub(crate) type LaneNumber = u8;

/// The moment of something that happened during a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) earliest: Timestamp,
    pub(crate) latest: Timestamp,
}

impl Span {
    pub(crate) fn after(self, by: Duration) -> Self {
        Self { earliest: self.earliest.after(by), latest: self.latest.after(by) }
    }

    /// Whether this moment had come when a call looked; `None` when the spans leave it open.
    pub(crate) fn reached_by(self, call: Self) -> Option<bool> {
        if self.latest < call.earliest {
            Some(true)
        } else if self.earliest > call.latest {
            Some(false)
        } else {
            None
        }
    }
}

/// Where a message is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Ready {
        lane: LaneNumber,
    },
    Scheduled {
        lane: LaneNumber,
        due: Span,
    },
    Leased {
        token: Token,
        index: u32,
    },
    Success {
        at: Span,
    },
    Dead {
        at: Span,
    },
    /// Its body was purged or discarded.
    Gone,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: usize,
    pub(crate) priority: Priority,
    pub(crate) own_max: Option<u16>,
    pub(crate) attempt: u16,
    pub(crate) crashes: u16,
    pub(crate) place: Place,
}

impl Entry {
    pub(crate) const fn status(&self) -> Option<Status> {
        match self.place {
            Place::Ready { .. } | Place::Scheduled { .. } if self.attempt == 0 && self.crashes == 0 => Some(Status::Created),
            Place::Ready { .. } | Place::Scheduled { .. } => Some(Status::Retrying),
            Place::Leased { .. } => Some(Status::Handling),
            Place::Success { .. } => Some(Status::Success),
            Place::Dead { .. } => Some(Status::Dead),
            Place::Gone => None,
        }
    }

    const fn own_lane(&self) -> LaneNumber {
        match self.priority {
            Priority::High => 1,
            Priority::Normal => 2,
            Priority::Low => 3,
        }
    }

    /// The lane of a message that comes back: before the backlog, but a suspect from its second crash on.
    const fn returning(&self) -> LaneNumber {
        if self.crashes > 1 { 4 } else { 0 }
    }

    fn wait(&mut self, lane: LaneNumber, due: Option<Span>) {
        self.place = due.map_or(Place::Ready { lane }, |due| Place::Scheduled { lane, due });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bit {
    Open,
    Settled,
    Lost,
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: MessageId,
    pub(crate) attempt: u16,
    pub(crate) crashes: u16,
    pub(crate) max: u16,
    pub(crate) bit: Bit,
}

#[derive(Clone, Debug)]
pub(crate) struct ClaimEntry {
    pub(crate) worker: WorkerId,
    pub(crate) solo: bool,
    pub(crate) members: Vec<Member>,
}

impl ClaimEntry {
    pub(crate) fn is_open(&self) -> bool {
        self.members.iter().any(|member| member.bit == Bit::Open)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct WorkerEntry {
    pub(crate) expires: Span,
    pub(crate) lost: bool,
}

/// How a member ends, without texts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Success,
    Dead,
    Failed(Duration),
    Snoozed(Duration),
    Released,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) messages: BTreeMap<MessageId, Entry>,
    pub(crate) keys: HashMap<(usize, u32), MessageId>,
    pub(crate) claims: BTreeMap<Token, ClaimEntry>,
    pub(crate) workers: BTreeMap<WorkerId, WorkerEntry>,
    /// By kind, [`EVERYTHING`] included; `None`: without an end.
    pub(crate) pauses: BTreeMap<usize, Option<Timestamp>>,
}

impl Model {
    /// Whether one pause was in force when a call looked; `None` when the spans leave it open.
    pub(crate) fn holds(&self, kind: usize, call: Span) -> Option<bool> {
        let Some(until) = self.pauses.get(&kind) else { return Some(false) };
        let Some(until) = until else { return Some(true) };
        Span { earliest: *until, latest: *until }.reached_by(call).map(|over| !over)
    }

    /// Whether a kind was paused, by itself or with everything.
    pub(crate) fn is_paused(&self, kind: usize, call: Span) -> Option<bool> {
        match (self.holds(kind, call), self.holds(EVERYTHING, call)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }

    /// Stores a message; the answer is the id that stands for it.
    pub(crate) fn enqueue(&mut self, id: MessageId, key: Option<u32>, mut entry: Entry, due: Option<Span>) -> MessageId {
        if let Some(key) = key {
            let first = *self.keys.entry((entry.kind, key)).or_insert(id);
            if first != id {
                return first;
            }
        }
        self.messages.entry(id).or_insert_with(|| {
            entry.wait(entry.own_lane(), due);
            entry
        });
        id
    }

    /// What waits in a lane of a type.
    pub(crate) fn ready(&self, kind: usize, wanted: LaneNumber) -> usize {
        let waits = |entry: &&Entry| entry.kind == kind && matches!(entry.place, Place::Ready { lane } if lane == wanted);
        self.messages.values().filter(waits).count()
    }

    /// Leases one message. The answer is its attempt, its crashes and its maximum.
    pub(crate) fn lease(&mut self, token: Token, worker: WorkerId, solo: bool, id: MessageId, max: u16) -> (u16, u16, u16) {
        let entry = self.messages.get_mut(&id).expect("a known message");
        let claim = self.claims.entry(token).or_insert_with(|| ClaimEntry { worker, solo, members: Vec::new() });
        let index = u32::try_from(claim.members.len()).expect("few members");
        entry.attempt += 1;
        entry.place = Place::Leased { token, index };
        let max = entry.own_max.unwrap_or(max);
        claim.members.push(Member { id, attempt: entry.attempt, crashes: entry.crashes, max, bit: Bit::Open });
        (entry.attempt, entry.crashes, max)
    }

    /// Settles one member. The answer says what the storage must say: open bits are applied.
    pub(crate) fn settle(&mut self, token: Token, index: u32, end: End, at: Span) -> Bit {
        let Some(claim) = self.claims.get_mut(&token) else { return Bit::Lost };
        let member = &mut claim.members[index as usize];
        let before = member.bit;
        if before == Bit::Open {
            member.bit = Bit::Settled;
            let member = member.clone();
            self.end(&member, end, at);
        }
        before
    }

    fn end(&mut self, member: &Member, end: End, at: Span) {
        let entry = self.messages.get_mut(&member.id).expect("a leased message is known");
        let later = |delay: Duration| (!delay.is_zero()).then(|| at.after(delay));
        match end {
            End::Success => entry.place = Place::Success { at },
            End::Dead => entry.place = Place::Dead { at },
            End::Failed(delay) => {
                entry.crashes = 0;
                entry.wait(entry.own_lane(), later(delay));
            }
            End::Snoozed(delay) => {
                entry.attempt -= 1;
                entry.crashes = 0;
                entry.wait(entry.own_lane(), later(delay));
            }
            End::Released => {
                entry.attempt -= 1;
                entry.wait(entry.returning(), None);
            }
        }
    }

    /// Ends every open member of a claim in the same way; the members that were.
    pub(crate) fn release_all(&mut self, token: Token, at: Span) -> usize {
        let open: Vec<u32> = self.open_members(token);
        for index in &open {
            self.settle(token, *index, End::Released, at);
        }
        open.len()
    }

    pub(crate) fn open_members(&self, token: Token) -> Vec<u32> {
        let claim = &self.claims[&token];
        (0..).zip(&claim.members).filter(|(_, member)| member.bit == Bit::Open).map(|(index, _)| index).collect()
    }

    /// Takes one claim back; each member's id, its attempt, and whether it died.
    pub(crate) fn reclaim(&mut self, token: Token, at: Span) -> Vec<(MessageId, u16, bool)> {
        let mut fates = Vec::new();
        for index in self.open_members(token) {
            let claim = self.claims.get_mut(&token).expect("a known claim");
            let solo = claim.solo;
            let member = &mut claim.members[index as usize];
            member.bit = Bit::Lost;
            let (id, attempt, max) = (member.id, member.attempt, member.max);
            let entry = self.messages.get_mut(&id).expect("a leased message is known");
            let dies = solo && attempt >= max;
            if dies {
                entry.place = Place::Dead { at };
            } else {
                if !solo {
                    entry.attempt = attempt.min(max - 1);
                }
                entry.crashes += 1;
                entry.wait(entry.returning(), None);
            }
            fates.push((id, attempt, dies));
        }
        fates
    }

    /// Ends the exclusivity of a claim; whether there was an open one of a worker that is not condemned.
    pub(crate) fn end_exclusive(&mut self, token: Token) -> bool {
        let Some(claim) = self.claims.get_mut(&token).filter(|claim| claim.is_open()) else { return false };
        let held = self.workers.get(&claim.worker).is_some_and(|worker| !worker.lost);
        claim.solo &= !held;
        held
    }

    /// Kills a message; whether there was something to kill.
    pub(crate) fn kill(&mut self, id: MessageId, at: Span) -> bool {
        let Some(entry) = self.messages.get_mut(&id) else { return false };
        match entry.place {
            Place::Success { .. } | Place::Dead { .. } | Place::Gone => return false,
            Place::Leased { token, index } => {
                let claim = self.claims.get_mut(&token).expect("a known claim");
                claim.members[index as usize].bit = Bit::Lost;
            }
            Place::Ready { .. } | Place::Scheduled { .. } => {}
        }
        entry.place = Place::Dead { at };
        true
    }

    pub(crate) fn requeue(&mut self, id: MessageId, due: Option<Span>) -> bool {
        let Some(entry) = self.messages.get_mut(&id) else { return false };
        let dead = matches!(entry.place, Place::Dead { .. });
        if dead {
            entry.attempt = 0;
            entry.crashes = 0;
            entry.wait(entry.own_lane(), due);
        }
        dead
    }

    pub(crate) fn reschedule(&mut self, id: MessageId, due: Option<Span>) -> bool {
        let Some(entry) = self.messages.get_mut(&id) else { return false };
        match entry.place {
            Place::Ready { lane } | Place::Scheduled { lane, .. } => {
                entry.wait(lane, due);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn discard(&mut self, id: MessageId) -> bool {
        let Some(entry) = self.messages.get_mut(&id) else { return false };
        let dead = matches!(entry.place, Place::Dead { .. });
        if dead {
            entry.place = Place::Gone;
        }
        dead
    }

    /// The open claims of a worker.
    pub(crate) fn open_claims(&self, worker: WorkerId) -> Vec<Token> {
        let own = self.claims.iter().filter(|(_, claim)| claim.worker == worker && claim.is_open());
        own.map(|(token, _)| *token).collect()
    }
}
