//! Leasing messages to workers.

use std::time::Duration;

use rusqlite::{CachedStatement, OptionalExtension, params};
use tickr_core::protocol::{self, Lane};
use tickr_core::{Bits, BodyFault, Claim, ClaimRequest, ClaimedMessage, EventType, LaneRequest, MessageId, StoredMessage, Token};
use tickr_sql::sqlite::{claim, queue};
use tickr_sql::{Salvage, Salvaged, json};

use crate::error::Fault;
use crate::journal::{self, ClaimRow};
use crate::pause::is_paused;
use crate::row;
use crate::scope::Scope;
use crate::settle::Fence;
use crate::upkeep;

/// Looks whether there is anything to take, without the write lock: an empty claim, if not.
pub(crate) fn probe(scope: &Scope<'_>, request: &ClaimRequest) -> Result<Option<Claim>, Fault> {
    if is_repeat(scope, request.token)? {
        return Ok(None);
    }
    if may_claim(scope, request)? {
        let mut has_ready = scope.prepare(queue::HAS_READY)?;
        for group in request.groups.iter().filter(|group| group.limit > 0 && request.total > 0) {
            for lane in &group.lanes {
                if has_ready.query_row(params![group.event_type.as_str(), lane.as_i16()], |row| row.get(0))?
                    && !is_paused(scope, &group.event_type)?
                {
                    return Ok(None);
                }
            }
        }
    }
    nothing(scope, request.token).map(Some)
}

/// A claim that found nothing, but when the next message is due.
fn nothing(scope: &Scope<'_>, token: Token) -> Result<Claim, Fault> {
    let quiet = upkeep::next_due(scope)?.unwrap_or(Duration::MAX);
    let mut claim = Claim::empty(token);
    claim.quiet_for = Some(quiet);
    Ok(claim)
}

/// Takes messages. A token that is known already is a repeat: it is answered as it stands.
pub(crate) fn take(scope: &mut Scope<'_>, request: &ClaimRequest) -> Result<Claim, Fault> {
    if is_repeat(scope, request.token)? {
        return Ok(adopt(scope, request.token)?.unwrap_or_else(|| Claim::empty(request.token)));
    }
    if !may_claim(scope, request)? {
        return Ok(Claim::empty(request.token));
    }
    let messages = take_groups(scope, request)?;
    if messages.is_empty() {
        return nothing(scope, request.token);
    }
    let members = record(scope, request, &messages)?;
    let mut claim = Claim::new(request.token, members, messages);
    claim.solo = request.solo;
    Ok(claim)
}

/// Reads an open claim again, without the members that are settled or revoked.
pub(crate) fn adopt(scope: &Scope<'_>, token: Token) -> Result<Option<Claim>, Fault> {
    let Some(row) = journal::claim_of(scope, token)? else { return Ok(None) };
    let members = row.members();
    let Some(fence) = Fence::read(scope, token)? else { return Ok(None) };
    if fence.settled.len() != members {
        return Err(row::corrupt("an open claim and its fence do not fit each other; run an audit"));
    }
    let mut reader = BodyReader::new(scope)?;
    let messages = fence.leased().iter().map(|index| adopt_member(&mut reader, &row, index)).collect::<Result<_, _>>()?;
    let mut claim = Claim::new(token, members, messages);
    claim.solo = row.solo;
    Ok(Some(claim))
}

fn adopt_member(reader: &mut BodyReader<'_, '_>, claim: &ClaimRow, index: u32) -> Result<ClaimedMessage, Fault> {
    let at = index as usize;
    let (id, event_type, attempt) = (claim.ids[at], claim.returning_type(reader.scope, at)?, claim.attempts[at]);
    let body = match reader.body(id, &event_type)? {
        Some(salvaged) => readable(salvaged.message, salvaged.unreadable),
        None => Err(BodyFault::Missing),
    };
    let mut message = ClaimedMessage::new(index, id, event_type, attempt, body);
    message.max_attempts = claim.maxes[at];
    message.crashes = claim.crashes[at];
    message.last_error = reader.last_error(id, attempt)?;
    Ok(message)
}

fn is_repeat(scope: &Scope<'_>, token: Token) -> Result<bool, Fault> {
    scope.asks(claim::TOKEN_EXISTS, [token.as_bytes().as_slice()])
}

fn may_claim(scope: &Scope<'_>, request: &ClaimRequest) -> Result<bool, Fault> {
    scope.asks(claim::MAY_CLAIM, params![request.worker.as_bytes().as_slice(), scope.now().as_micros()])
}

/// Walks groups and lanes in their order.
fn take_groups(scope: &Scope<'_>, request: &ClaimRequest) -> Result<Vec<ClaimedMessage>, Fault> {
    let mut messages = Vec::new();
    let mut take = scope.prepare(claim::TAKE)?;
    let mut reader = BodyReader::new(scope)?;
    let mut total = request.total;
    for group in &request.groups {
        let mut limit = group.limit.min(total);
        if limit == 0 || is_paused(scope, &group.event_type)? {
            continue;
        }
        for lane in &group.lanes {
            let taken = take_lane(&mut take, &mut reader, group, *lane, limit, &mut messages)?;
            limit -= taken;
            total -= taken;
            if limit == 0 {
                break;
            }
        }
    }
    Ok(messages)
}

/// Takes from one lane; gives the number of messages.
fn take_lane(
    take: &mut CachedStatement<'_>,
    reader: &mut BodyReader<'_, '_>,
    group: &LaneRequest,
    lane: Lane,
    limit: u32,
    messages: &mut Vec<ClaimedMessage>,
) -> Result<u32, Fault> {
    let mut rows = take.query(params![group.event_type.as_str(), lane.as_i16(), limit])?;
    let mut taken: Vec<(i64, MessageId, i64, i64)> = Vec::new();
    let mut nameless: Vec<Vec<u8>> = Vec::new();
    while let Some(row) = rows.next()? {
        match row::message_id(row, 1) {
            Ok(id) => taken.push((row.get(0)?, id, row.get(2)?, row.get(3)?)),
            Err(_) => nameless.push(row::blob(row, 1)?.to_vec()),
        }
    }
    drop(rows);
    nameless.iter().try_for_each(|id| reader.scope.bury_nameless(id, &group.event_type))?;
    taken.sort_unstable_by_key(|(seq, ..)| *seq);
    for (_, id, attempt, crashes) in &taken {
        let mut salvage = Salvage::default();
        let attempt = salvage.count("attempt", *attempt).saturating_add(1);
        let crashes = salvage.count("crashes", *crashes);
        let mut own_max = None;
        let body = match reader.body(*id, &group.event_type)? {
            None => Err(BodyFault::Missing),
            Some(Salvaged { message, unreadable }) => {
                own_max = message.max_attempts;
                readable(message, unreadable.or_else(|| salvage.finish()))
            }
        };
        let mut message = ClaimedMessage::new(length(messages.len()), *id, group.event_type.clone(), attempt, body);
        message.max_attempts = own_max.map_or(group.max_attempts, |max| max.get());
        message.crashes = crashes;
        message.last_error = reader.last_error(*id, attempt)?;
        messages.push(message);
    }
    Ok(length(taken.len()))
}

/// A body of which everything could be read, or what could not.
fn readable(message: StoredMessage, unreadable: Option<String>) -> Result<StoredMessage, BodyFault> {
    unreadable.map_or(Ok(message), |why| Err(BodyFault::Unreadable(why)))
}

/// Writes the claim and its fence; gives the number of members.
fn record(scope: &Scope<'_>, request: &ClaimRequest, messages: &[ClaimedMessage]) -> Result<u32, Fault> {
    let list = |number: fn(&ClaimedMessage) -> u16| row::pack(&messages.iter().map(number).collect::<Vec<_>>());
    let ids: Vec<u8> = messages.iter().flat_map(|message| *message.id.as_bytes()).collect();
    let (Some(least), Some(greatest)) = (messages.iter().map(|message| message.id).min(), messages.iter().map(|message| message.id).max())
    else {
        return Ok(0);
    };
    let (event_types, types) = number_types(messages);
    let token = request.token.as_bytes().as_slice();
    let worker = request.worker.as_bytes().as_slice();
    scope.writes(
        claim::INSERT_CLAIM,
        params![
            token,
            worker,
            request.worker_name,
            request.solo,
            scope.now().as_micros(),
            least.as_bytes().as_slice(),
            greatest.as_bytes().as_slice(),
            protocol::span(least, greatest),
            ids,
            list(|message| message.attempt),
            list(|message| message.crashes),
            list(|message| message.max_attempts),
            json::encode_names(event_types),
            row::pack(&types),
        ],
    )?;
    let members = length(messages.len());
    let none = Bits::new(members).to_bytes();
    scope.writes(claim::INSERT_OPEN, params![token, worker, members, none, none])?;
    Ok(members)
}

/// The distinct event types, and which one each message has. Groups are few, and messages of one stand together.
fn number_types(messages: &[ClaimedMessage]) -> (Vec<&EventType>, Vec<u16>) {
    let mut distinct: Vec<&EventType> = Vec::new();
    let numbers = messages.iter().map(|message| {
        let at = distinct.iter().rposition(|known| **known == message.event_type).unwrap_or_else(|| {
            distinct.push(&message.event_type);
            distinct.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    });
    let numbers = numbers.collect();
    (distinct, numbers)
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Reads bodies, and why the attempts before failed.
struct BodyReader<'s, 'c> {
    scope: &'s Scope<'c>,
    body: CachedStatement<'c>,
}

impl<'s, 'c> BodyReader<'s, 'c> {
    fn new(scope: &'s Scope<'c>) -> Result<Self, Fault> {
        Ok(Self { scope, body: scope.prepare(claim::BODY)? })
    }

    fn body(&mut self, id: MessageId, event_type: &EventType) -> Result<Option<Salvaged>, Fault> {
        let found = self.body.query_row([id.as_bytes().as_slice()], |row| Ok(row::message(row, Some(id), Some(event_type)))).optional()?;
        found.transpose()
    }

    fn last_error(&self, id: MessageId, attempt: u16) -> Result<Option<String>, Fault> {
        if attempt <= 1 {
            return Ok(None);
        }
        self.scope.last_text(id)
    }
}
