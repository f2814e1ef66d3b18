//! States of a message, and its history.

use std::collections::HashMap;
use std::fmt;

use crate::id::{MessageId, Token};
use crate::protocol::Recorded;
use crate::time::Timestamp;

/// Where a message stands.
///
/// Exhaustive on purpose: lists and counts go by status, so a new one must not compile until each adapter knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Waiting for its first attempt, now or later.
    Created,
    /// Leased to a worker.
    Handling,
    /// Done, for good. Its body is kept for the success retention.
    Success,
    /// An attempt failed. Only a label in the history: a message that failed is `Retrying` or `Dead`.
    Failed,
    /// Waiting for a further attempt, now or later.
    Retrying,
    /// Given up; waits for a person, until the dead retention has passed.
    Dead,
}

impl Status {
    /// Every status, in the order of a message's life.
    pub const ALL: [Self; 6] = [Self::Created, Self::Handling, Self::Failed, Self::Retrying, Self::Success, Self::Dead];

    /// The name in capitals, as reports and metrics show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Handling => "HANDLING",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
            Self::Retrying => "RETRYING",
            Self::Dead => "DEAD",
        }
    }

    /// Reads a name in capitals.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One step in the history of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The message.
    pub message: MessageId,
    /// The step's number, from 1 without gaps (steps whose journal was purged are not counted).
    pub seq: u32,
    /// The status before; absent for the creation.
    pub from: Option<Status>,
    /// The status after.
    pub to: Status,
    /// What was recorded: `created`, `claimed`, `ok`, `failed`, ... (see [`Recorded`]).
    pub event: &'static str,
    /// The attempt that the step belongs to; 0 when there was none yet.
    pub attempt: u16,
    /// The error, or the reason of a skip, a kill or a release.
    pub error: Option<String>,
    /// The name of the worker.
    pub worker: Option<String>,
    /// When, by the database's clock.
    pub at: Timestamp,
}

/// A claim that had the message as a member, as its row in the journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ClaimEntry {
    /// The claim's token.
    pub token: Token,
    /// The attempt that began.
    pub attempt: u16,
    /// The name of the worker.
    pub worker: String,
    /// When it was claimed.
    pub at: Timestamp,
}

impl ClaimEntry {
    /// An attempt that began.
    pub const fn new(token: Token, attempt: u16, worker: String, at: Timestamp) -> Self {
        Self { token, attempt, worker, at }
    }
}

/// What ended a lease or moved a message, from settlements (`ok`) and transitions (all else).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct OutcomeEntry {
    /// The claim it ended; absent when the message was not leased.
    pub token: Option<Token>,
    /// What was recorded.
    pub recorded: Recorded,
    /// The attempt that ended.
    pub attempt: u16,
    /// The error or reason.
    pub error: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl OutcomeEntry {
    /// What happened to a message that was not leased, without an error; set `token` and `error` where there are such.
    pub const fn new(recorded: Recorded, attempt: u16, at: Timestamp) -> Self {
        Self { token: None, recorded, attempt, error: None, at }
    }
}

/// Puts the history of one message together from its rows. Every adapter answers [`history`](crate::Admin::history) with this.
///
/// `created_at` is absent when the body was purged. A transition and a settlement of the same token are one step:
/// pass only one of them.
pub fn assemble_history(
    message: MessageId,
    created_at: Option<Timestamp>,
    claims: Vec<ClaimEntry>,
    outcomes: Vec<OutcomeEntry>,
) -> Vec<Transition> {
    let mut history = History { message, steps: Vec::new() };
    if let Some(at) = created_at {
        history.push(Status::Created, "created", 0, None, None, at);
    }
    let claimed_at: HashMap<Token, Timestamp> = claims.iter().map(|claim| (claim.token, claim.at)).collect();
    let mut events: Vec<Event> = claims.into_iter().map(Event::Claim).chain(outcomes.into_iter().map(Event::Outcome)).collect();
    events.sort_by_key(|event| event.order(&claimed_at));
    let mut workers: Vec<(Token, String)> = Vec::new();
    for event in events {
        match event {
            Event::Claim(claim) => {
                history.push(Status::Handling, "claimed", claim.attempt, None, Some(claim.worker.clone()), claim.at);
                workers.push((claim.token, claim.worker));
            }
            Event::Outcome(outcome) => {
                let worker =
                    outcome.token.and_then(|token| workers.iter().find(|(known, _)| *known == token)).map(|(_, name)| name.clone());
                history.record(outcome, worker);
            }
        }
    }
    history.steps
}

enum Event {
    Claim(ClaimEntry),
    Outcome(OutcomeEntry),
}

impl Event {
    /// Time, and within the same microsecond: what ended an earlier claim, what moved the message without one, a new
    /// claim, what ended that.
    fn order(&self, claimed_at: &HashMap<Token, Timestamp>) -> (Timestamp, u8) {
        match self {
            Self::Claim(claim) => (claim.at, 2),
            Self::Outcome(outcome) => {
                let began = outcome.token.and_then(|token| claimed_at.get(&token));
                let rank = match began {
                    Some(began) if *began == outcome.at => 3,
                    Some(_) => 0,
                    None => 1,
                };
                (outcome.at, rank)
            }
        }
    }
}

struct History {
    message: MessageId,
    steps: Vec<Transition>,
}

impl History {
    fn record(&mut self, outcome: OutcomeEntry, worker: Option<String>) {
        let OutcomeEntry { recorded, attempt, error, at, .. } = outcome;
        let event = recorded.as_str();
        match recorded {
            Recorded::Ok | Recorded::Skipped => self.push(Status::Success, event, attempt, error, worker, at),
            Recorded::Failed => {
                self.push(Status::Failed, event, attempt, error, worker.clone(), at);
                self.push(Status::Retrying, "retrying", attempt, None, worker, at);
            }
            Recorded::Exhausted => {
                self.push(Status::Failed, event, attempt, error.clone(), worker.clone(), at);
                self.push(Status::Dead, "dead", attempt, error, worker, at);
            }
            Recorded::Dead | Recorded::Killed | Recorded::Crashed => self.push(Status::Dead, event, attempt, error, worker, at),
            Recorded::Snoozed | Recorded::Released => {
                let back = if attempt <= 1 { Status::Created } else { Status::Retrying };
                self.push(back, event, attempt, error, worker, at);
            }
            Recorded::Reclaimed => self.push(Status::Retrying, event, attempt, error, worker, at),
            Recorded::Requeued => self.push(Status::Created, event, 0, error, worker, at),
        }
    }

    fn push(&mut self, to: Status, event: &'static str, attempt: u16, error: Option<String>, worker: Option<String>, at: Timestamp) {
        let seq = u32::try_from(self.steps.len()).unwrap_or(u32::MAX).saturating_add(1);
        let from = self.steps.last().map(|step| step.to);
        self.steps.push(Transition { message: self.message, seq, from, to, event, attempt, error, worker, at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn failed_then_exhausted_reads_as_the_state_machine_says() {
        let (one, two) = (Token::new(), Token::new());
        let claim = |token, attempt, micros| ClaimEntry::new(token, attempt, "w".into(), at(micros));
        let outcome = |token, recorded, attempt, micros| OutcomeEntry {
            token: Some(token),
            recorded,
            attempt,
            error: Some("boom".into()),
            at: at(micros),
        };
        let history = assemble_history(
            MessageId::new(),
            Some(at(1)),
            vec![claim(one, 1, 2), claim(two, 2, 4)],
            vec![outcome(one, Recorded::Failed, 1, 3), outcome(two, Recorded::Exhausted, 2, 4)],
        );
        let path: Vec<_> = history.iter().map(|step| step.to).collect();
        use Status::{Created, Dead, Failed, Handling, Retrying};
        assert_eq!(path, [Created, Handling, Failed, Retrying, Handling, Failed, Dead]);
        assert!(history.windows(2).all(|pair| pair[1].from == Some(pair[0].to)));
        assert_eq!(history[2].worker.as_deref(), Some("w"));
    }

    #[test]
    fn steps_of_the_same_microsecond_keep_their_order() {
        let (one, two) = (Token::new(), Token::new());
        let claim = |token, micros| ClaimEntry::new(token, 1, "w".into(), at(micros));
        let outcome = |token, recorded, micros| OutcomeEntry { token, recorded, attempt: 1, error: None, at: at(micros) };
        let history = assemble_history(
            MessageId::new(),
            Some(at(1)),
            vec![claim(two, 3), claim(one, 2)],
            vec![outcome(None, Recorded::Requeued, 3), outcome(Some(two), Recorded::Ok, 3), outcome(Some(one), Recorded::Dead, 3)],
        );
        let path: Vec<_> = history.iter().map(|step| step.event).collect();
        assert_eq!(path, ["created", "claimed", "dead", "requeued", "claimed", "ok"]);
    }
}
