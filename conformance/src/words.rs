//! Short words for messages, lanes and outcomes.

use std::time::Duration;

use tickr_core::protocol::Lane;
use tickr_core::{
    Bits, Claim, ClaimedMessage, EventType, LaneRequest, Limits, Message, MessageId, NewMessage, Selection, SettleOutcome, Settled,
    Settlement,
};

/// The event type of messages when it does not matter.
pub(crate) const ORDER: &str = "order.created";
/// The lease of workers when it does not matter.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// The maximum number of attempts of a claim when it does not matter.
pub(crate) const MAX: u16 = 10;

/// A message of the usual type.
pub(crate) fn order() -> Message {
    Message::new(ORDER, "{}")
}

/// A message of the usual type with an idempotency key.
pub(crate) fn keyed(key: &str) -> Message {
    order().idempotency_key(key)
}

pub(crate) fn checked(message: Message) -> NewMessage {
    NewMessage::check(message, MessageId::new(), &Limits::default()).expect("a valid message")
}

pub(crate) fn event_type(name: &str) -> EventType {
    EventType::new(name).expect("a valid event type")
}

pub(crate) fn types_of(names: &[&str]) -> Vec<EventType> {
    names.iter().map(|name| event_type(name)).collect()
}

/// A group of lanes with the usual maximum of attempts.
pub(crate) fn group(name: &str, lanes: &[Lane], limit: u32) -> LaneRequest {
    LaneRequest::new(event_type(name), lanes.to_vec(), limit, MAX)
}

/// Changes the maximum of attempts of a group.
pub(crate) trait WithMax {
    fn max(self, max_attempts: u16) -> Self;
}

impl WithMax for LaneRequest {
    fn max(mut self, max_attempts: u16) -> Self {
        self.max_attempts = max_attempts;
        self
    }
}

/// A group per lane and type, lanes first: what a worker asks for when its types have no cap.
pub(crate) fn ordinary(types: &[&str], limit: u32) -> Vec<LaneRequest> {
    Lane::ORDINARY.iter().flat_map(|lane| types.iter().map(|name| group(name, &[*lane], limit))).collect()
}

pub(crate) fn these(ids: &[MessageId]) -> Selection {
    ids.iter().copied().collect()
}

/// The messages of a claim, by index.
pub(crate) fn ids(claim: &Claim) -> Vec<MessageId> {
    claim.messages.iter().map(|message| message.id).collect()
}

/// The member of a claim with an index.
pub(crate) fn member(claim: &Claim, index: u32) -> &ClaimedMessage {
    claim.messages.iter().find(|message| message.index == index).unwrap_or_else(|| panic!("the claim has no member {index}"))
}

/// Success of some members.
pub(crate) fn ok(claim: &Claim, indices: impl IntoIterator<Item = u32>) -> Settlement {
    let mut settlement = Settlement::new(claim.token, claim.members);
    settlement.succeeded = Bits::from_indices(claim.members, indices);
    settlement
}

/// Success of every member that the claim answered.
pub(crate) fn all_ok(claim: &Claim) -> Settlement {
    ok(claim, claim.messages.iter().map(|message| message.index))
}

/// Another outcome of one member.
pub(crate) fn with(claim: &Claim, index: u32, outcome: SettleOutcome) -> Settlement {
    and(Settlement::new(claim.token, claim.members), claim, index, outcome)
}

/// Adds another outcome of one member.
pub(crate) fn and(mut settlement: Settlement, claim: &Claim, index: u32, outcome: SettleOutcome) -> Settlement {
    settlement.others.push(member(claim, index).settled(outcome));
    settlement
}

/// The same outcome of every member that the claim answered.
pub(crate) fn each(claim: &Claim, outcome: &SettleOutcome) -> Settlement {
    let start = Settlement::new(claim.token, claim.members);
    claim.messages.iter().fold(start, |settlement, message| and(settlement, claim, message.index, outcome.clone()))
}

pub(crate) fn failed(error: &str) -> SettleOutcome {
    failed_for(error, Duration::ZERO)
}

pub(crate) fn failed_for(error: &str, delay: Duration) -> SettleOutcome {
    SettleOutcome::Failed { error: error.to_owned(), delay }
}

pub(crate) fn exhausted(error: &str) -> SettleOutcome {
    SettleOutcome::Exhausted { error: error.to_owned() }
}

pub(crate) fn dead(error: &str) -> SettleOutcome {
    SettleOutcome::Dead { error: error.to_owned() }
}

pub(crate) fn skipped(reason: &str) -> SettleOutcome {
    SettleOutcome::Skipped { reason: reason.to_owned() }
}

pub(crate) fn snoozed(delay: Duration) -> SettleOutcome {
    SettleOutcome::Snoozed { delay }
}

pub(crate) fn released(reason: &str) -> SettleOutcome {
    SettleOutcome::Released { reason: reason.to_owned() }
}

/// Set bits, ascending.
pub(crate) fn bits(bits: &Bits) -> Vec<u32> {
    bits.iter().collect()
}

/// What a settle answered, as indices: applied, already, lost.
pub(crate) fn split(settled: &Settled) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    (bits(&settled.applied), bits(&settled.already), bits(&settled.lost))
}
