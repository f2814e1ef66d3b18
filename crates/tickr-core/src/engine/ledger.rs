//! Which claims the worker holds, which are on their way, and what became of their members: compared with what the
//! storage says at every heartbeat.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::incarnation::ClaimInfo;
use crate::bits::Bits;
use crate::door::clock::Tick;
use crate::id::Token;
use crate::storage::OpenClaim;

/// A claim with members that are not settled.
#[derive(Debug)]
struct Held {
    answered_at: Tick,
    /// Members whose outcome is recorded, or that are known to be lost.
    done: Bits,
    revoked: Bits,
    /// Outcomes of it in the settle that is in flight.
    settling: u32,
    /// The storage has it as exclusive: nothing may be claimed beside it.
    exclusive: bool,
    /// It has a suspect among its members.
    suspect: bool,
}

/// The worker's side of the storage's open claims.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    held: HashMap<Token, Held>,
    /// Sent, and not answered.
    in_flight: HashSet<Token>,
    /// Their answer is lost: they may be open until a heartbeat that was sent later does not show them.
    doubtful: HashMap<Token, Doubt>,
    /// Unknown here and open there: being given back.
    orphans: HashSet<Token>,
}

/// A claim of which nobody knows whether it happened.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    exclusive: bool,
    since: Tick,
}

/// Where the storage and the ledger differ.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// Open claims that nobody here knows: their answer was lost.
    pub(super) orphans: Vec<Token>,
    /// Members that were taken away.
    pub(super) revoked: Vec<(Token, Bits)>,
}

impl Ledger {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The claim beside which nothing may be claimed.
    pub(super) fn exclusive(&self) -> Option<Token> {
        self.held.iter().find(|(_, held)| held.exclusive).map(|(token, _)| *token)
    }

    /// The storage does not have the claim as exclusive any more.
    pub(super) fn end_exclusive(&mut self, token: Token) {
        if let Some(held) = self.held.get_mut(&token) {
            held.exclusive = false;
        }
    }

    /// When the suspect that was claimed last among those still held was claimed.
    pub(super) fn newest_suspect(&self) -> Option<Tick> {
        self.held.values().filter(|held| held.suspect).map(|held| held.answered_at).max()
    }

    pub(super) fn sent(&mut self, token: Token) {
        self.in_flight.insert(token);
    }

    /// Whether a claim may be open whose answer is lost: then nothing can be known to be exclusive.
    pub(super) fn is_in_doubt(&self) -> bool {
        !self.doubtful.is_empty()
    }

    /// Whether one of these is exclusive: then nothing may be claimed beside it.
    pub(super) fn doubts_exclusive(&self) -> bool {
        self.doubtful.values().any(|doubt| doubt.exclusive)
    }

    /// The answer of the claim is lost: if it happened, or happens yet, the heartbeat finds it.
    pub(super) fn lost_answer(&mut self, token: Token, exclusive: bool, now: Tick) {
        self.in_flight.remove(&token);
        self.doubtful.insert(token, Doubt { exclusive, since: now });
    }

    /// Whether the claim was sent, and its answer is still expected.
    pub(super) fn is_in_flight(&self, token: Token) -> bool {
        self.in_flight.contains(&token)
    }

    /// Does not expect the answers of claims any more: the tasks that wait for them cannot take them in. What they bring is found by the
    /// heartbeats that follow, and given back.
    pub(super) fn give_up_answers(&mut self, now: Tick) {
        for token in self.in_flight.drain() {
            // Perhaps for a suspect: nothing may be claimed beside it until it is found.
            self.doubtful.insert(token, Doubt { exclusive: true, since: now });
        }
    }

    /// The claim did not happen, or is given back with its incarnation.
    pub(super) fn failed(&mut self, token: Token) {
        self.in_flight.remove(&token);
    }

    /// The claim was answered, with the members `known`; `suspect` if one of them is one.
    pub(super) fn answered(&mut self, claim: &Arc<ClaimInfo>, known: &Bits, suspect: bool, now: Tick) {
        self.in_flight.remove(&claim.token);
        let held = Held {
            answered_at: now,
            done: known.complement(),
            revoked: Bits::new(claim.members),
            settling: 0,
            exclusive: claim.solo,
            suspect,
        };
        self.held.insert(claim.token, held);
    }

    /// Forgets everything: it belonged to an incarnation whose lease is gone.
    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.in_flight.clear();
        self.doubtful.clear();
    }

    /// Tokens that a heartbeat sent now may see without surprise.
    pub(super) fn known_tokens(&self) -> HashSet<Token> {
        self.held.keys().chain(&self.in_flight).chain(&self.orphans).copied().collect()
    }

    /// Compares what the storage has open with what is held here. `known` was taken before the heartbeat was sent, at `sent`.
    pub(super) fn compare(&mut self, open: &[OpenClaim], known: &HashSet<Token>, sent: Tick) -> Differences {
        let mut differences = Differences::default();
        let mut seen = HashSet::with_capacity(open.len());
        for claim in open {
            let token = claim.token;
            seen.insert(token);
            if let Some(held) = self.held.get(&token) {
                let fresh = claim.revoked.difference(&held.revoked);
                if !fresh.is_empty() {
                    differences.revoked.push((token, fresh));
                }
            } else if !known.contains(&token) && !self.in_flight.contains(&token) && self.orphans.insert(token) {
                differences.orphans.push(token);
            }
        }
        let orphans = &self.orphans;
        self.doubtful.retain(|token, doubt| doubt.since >= sent || seen.contains(token) || orphans.contains(token));
        // A kill may have filled the mask, and the claim is closed: everything of it that is not recorded is gone.
        let is_gone =
            |token: &Token, held: &Held| !seen.contains(token) && known.contains(token) && held.answered_at < sent && held.settling == 0;
        let gone = self.held.iter().filter(|(token, held)| is_gone(token, held));
        differences.revoked.extend(gone.map(|(token, held)| (*token, held.revoked.union(&held.done).complement())));
        differences
    }

    pub(super) fn revoke(&mut self, token: Token, bits: &Bits) {
        if let Some(held) = self.held.get_mut(&token) {
            held.revoked = held.revoked.union(bits);
        }
    }

    pub(super) fn orphan_done(&mut self, token: Token) {
        self.orphans.remove(&token);
    }

    /// So many outcomes of the claim are on their way to the storage.
    pub(super) fn settling(&mut self, token: Token, outcomes: u32) {
        if let Some(held) = self.held.get_mut(&token) {
            held.settling += outcomes;
        }
    }

    /// They came back, recorded or not.
    pub(super) fn settled(&mut self, token: Token, outcomes: u32) {
        if let Some(held) = self.held.get_mut(&token) {
            held.settling -= outcomes;
        }
    }

    /// Members whose outcome is recorded, or that are lost. A claim of which all are done is held no more.
    pub(super) fn done(&mut self, token: Token, indices: impl IntoIterator<Item = u32>) {
        let Some(held) = self.held.get_mut(&token) else { return };
        for index in indices {
            held.done.insert(index);
        }
        if held.settling == 0 && held.done.is_full() {
            self.held.remove(&token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Tick {
        Tick::from_nanos(nanos)
    }

    fn open(token: Token) -> OpenClaim {
        OpenClaim { token, settled: Bits::new(1), revoked: Bits::new(1) }
    }

    #[test]
    fn a_lost_answer_is_in_doubt_until_a_later_heartbeat_does_not_show_its_claim() {
        let (mut ledger, token) = (Ledger::default(), Token::new());
        ledger.sent(token);
        ledger.lost_answer(token, true, at(10));
        assert!(ledger.is_in_doubt() && ledger.doubts_exclusive());
        ledger.compare(&[], &ledger.known_tokens(), at(5));
        assert!(ledger.is_in_doubt(), "that heartbeat was sent before");
        let found = ledger.compare(&[open(token)], &ledger.known_tokens(), at(20));
        assert_eq!(found.orphans, [token]);
        assert!(ledger.is_in_doubt(), "it is open, and not given back yet");
        ledger.orphan_done(token);
        ledger.compare(&[], &ledger.known_tokens(), at(30));
        assert!(!ledger.is_in_doubt());
    }

    #[test]
    fn a_claim_is_not_gone_while_a_settle_of_it_is_in_flight() {
        let (mut ledger, token) = (Ledger::default(), Token::new());
        let incarnation = Arc::new(super::super::incarnation::Incarnation::new(at(1_000)));
        let claim = Arc::new(ClaimInfo { token, members: 2, solo: false, incarnation });
        ledger.sent(token);
        ledger.answered(&claim, &Bits::full(2), false, at(10));
        ledger.settling(token, 1);
        // The settle may have closed it: its own answer says what became of its members.
        assert_eq!(ledger.compare(&[], &ledger.known_tokens(), at(20)).revoked, []);
        ledger.settled(token, 1);
        let gone = ledger.compare(&[], &ledger.known_tokens(), at(30)).revoked;
        assert_eq!(gone, [(token, Bits::full(2))], "nothing of it is on its way any more");
    }

    #[test]
    fn a_claim_that_did_not_happen_is_in_no_doubt() {
        let (mut ledger, token) = (Ledger::default(), Token::new());
        ledger.sent(token);
        ledger.failed(token);
        assert!(!ledger.is_in_doubt());
    }
}
