//! Leasing messages to workers.

use std::num::NonZeroU16;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tickr_core::{BodyFault, Bytes, Claim, ClaimRequest, ClaimedMessage, LaneRequest, MessageId, StoredMessage, Timestamp, Token};
use tickr_sql::postgres::claim;
use tickr_sql::{Salvage, Salvaged};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::error::Fault;
use crate::executor::{Executor, Plan};
use crate::floor::{Floors, Looked, Timer};
use crate::row::{self, At};

/// Where the claims of a handle begin to look.
#[derive(Debug)]
pub(crate) struct Ladder {
    pub(crate) timer: Timer,
    pub(crate) floors: Mutex<Floors>,
}

/// One array a column: groups, and the lanes they are made of.
#[derive(Default)]
struct Columns<'r> {
    event_types: Vec<&'r str>,
    first: Vec<i32>,
    last: Vec<i32>,
    limits: Vec<i32>,
    max_attempts: Vec<i32>,
    lanes: Vec<i16>,
    floors: Vec<i64>,
    /// The group of each lane.
    groups: Vec<&'r LaneRequest>,
}

impl<'r> Columns<'r> {
    fn of(request: &'r ClaimRequest, ladder: &Ladder, looked: &mut Looked) -> Self {
        let now = ladder.timer.now();
        let mut floors = ladder.floors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut columns = Self::default();
        for group in request.groups.iter().filter(|group| group.limit > 0 && !group.lanes.is_empty()) {
            columns.event_types.push(group.event_type.as_str());
            columns.first.push(position(columns.lanes.len() + 1));
            for lane in &group.lanes {
                columns.lanes.push(lane.as_i16());
                columns.groups.push(group);
                columns.floors.push(floors.floor(now, &group.event_type, *lane, looked));
            }
            columns.last.push(position(columns.lanes.len()));
            columns.limits.push(i32::try_from(group.limit).unwrap_or(i32::MAX));
            columns.max_attempts.push(i32::from(group.max_attempts));
        }
        columns
    }

    /// The index of the lane at `place`, which SQL counts from 1.
    fn lane(&self, place: i32) -> Result<usize, Fault> {
        let lane = usize::try_from(place - 1).ok().filter(|lane| *lane < self.lanes.len());
        lane.ok_or_else(|| row::corrupt(format!("a claim took a message from lane {place} of {}", self.lanes.len())))
    }
}

fn position(at: usize) -> i32 {
    i32::try_from(at).unwrap_or(i32::MAX)
}

/// Takes messages. A token that is known already is a repeat: it is answered as it stands. Scheduled messages are looked for from
/// `promoted` on, if nothing is taken.
pub(crate) async fn take(
    executor: &Executor,
    ladder: &Ladder,
    promoted: Timestamp,
    offset: i64,
    request: &ClaimRequest,
) -> Result<Claim, Fault> {
    let mut looked = Looked::default();
    let columns = Columns::of(request, ladder, &mut looked);
    if request.total == 0 || columns.lanes.is_empty() {
        return Ok(Claim::empty(request.token));
    }
    let began = ladder.timer.now();
    let total = i64::from(request.total);
    let (mut taken, mut quiet) = (Vec::new(), None);
    let read = |row: Row| {
        match row.try_get(0)? {
            Some(place) => {
                let place = Place { lane: columns.lane(place)?, seq: row.try_get(1)? };
                taken.push((place, message(&row, columns.groups[place.lane])?));
            }
            None => quiet = row.try_get::<_, Option<i64>>(14)?,
        }
        Ok(())
    };
    let answer = executor
        .once_each(
            Plan::Indexed,
            claim::TAKE,
            &[
                (&offset, Type::INT8),
                (request.worker.as_uuid(), Type::UUID),
                (&request.worker_name, Type::TEXT),
                (request.token.as_uuid(), Type::UUID),
                (&request.solo, Type::BOOL),
                (&columns.event_types, Type::TEXT_ARRAY),
                (&columns.first, Type::INT4_ARRAY),
                (&columns.last, Type::INT4_ARRAY),
                (&columns.limits, Type::INT4_ARRAY),
                (&columns.max_attempts, Type::INT4_ARRAY),
                (&columns.lanes, Type::INT2_ARRAY),
                (&columns.floors, Type::INT8_ARRAY),
                (&total, Type::INT8),
                (&At(promoted), Type::TIMESTAMPTZ),
            ],
            read,
        )
        .await;
    match answer {
        // The worker was removed meanwhile, and nothing was taken, whatever the server had answered before it found out.
        Err(fault) if fault.is(&SqlState::FOREIGN_KEY_VIOLATION) => return Ok(Claim::empty(request.token)),
        // The token is there: this claim was answered before, and the answer was lost.
        Err(fault) if fault.is(&SqlState::UNIQUE_VIOLATION) => {
            return Ok(adopt(executor, request.token).await?.unwrap_or_else(|| Claim::empty(request.token)));
        }
        other => other?,
    }
    if taken.is_empty() {
        let quiet_for = quiet.map_or(Duration::MAX, |micros| Duration::from_micros(micros.max(0).unsigned_abs()));
        return Ok(Claim { quiet_for: Some(quiet_for), ..Claim::empty(request.token) });
    }
    // So the statement numbers the members.
    taken.sort_unstable_by_key(|(place, _)| *place);
    let now = ladder.timer.now();
    let last_of_lane = taken.chunk_by(|(a, _), (b, _)| a.lane == b.lane).filter_map(<[_]>::last);
    let reached = last_of_lane.map(|(place, _)| (&columns.groups[place.lane].event_type, columns.lanes[place.lane], place.seq));
    ladder.floors.lock().unwrap_or_else(PoisonError::into_inner).taken(now, now.saturating_sub(began), looked, reached);
    let messages: Vec<ClaimedMessage> = (0..).zip(taken).map(|(index, (_, message))| ClaimedMessage { index, ..message }).collect();
    let members = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    Ok(Claim { token: request.token, members, solo: request.solo, messages, quiet_for: None })
}

/// Where a message was taken from: the index of its lane in the request, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    lane: usize,
    seq: i64,
}

/// A message that was taken for a group; its index is for the whole claim to say.
fn message(row: &Row, group: &LaneRequest) -> Result<ClaimedMessage, Fault> {
    let id = row::message_id(row, 2)?;
    let mut salvage = Salvage::default();
    let attempt = salvage.count("attempt", row.try_get::<_, i32>(3)?.into());
    let crashes = salvage.count("crashes", row.try_get::<_, i16>(4)?.into());
    let own_max = salvage.max_attempts(row.try_get::<_, Option<i32>>(8)?.map(i64::from));
    let mut body = Err(BodyFault::Missing);
    if let Some(payload) = row.try_get::<_, Option<&[u8]>>(5)? {
        let payload = Bytes::copy_from_slice(payload);
        let mut stored = StoredMessage::new(id, group.event_type.clone(), payload, row::timestamp(row, 6)?);
        stored.priority = salvage.priority(row.try_get::<_, i16>(7)?.into());
        stored.max_attempts = own_max;
        stored.scheduled_at = row.try_get::<_, Option<At>>(9)?.map(|At(at)| at);
        stored.content_type = row.try_get(10)?;
        stored.headers = row::headers(&mut salvage, row.try_get(11)?);
        if let Some(texts) = row.try_get::<_, Option<Vec<Option<&str>>>>(12)? {
            let [idempotency_key, ordering_key, tenant, organisation, correlation_id] =
                texts.try_into().map_err(|_| row::corrupt("a claim answers another number of texts than its statement says"))?;
            stored.idempotency_key = idempotency_key.map(str::to_owned);
            stored.ordering_key = ordering_key.map(str::to_owned);
            stored.tenant = tenant.map(str::to_owned);
            stored.organisation = organisation.map(str::to_owned);
            stored.correlation_id = correlation_id.map(str::to_owned);
        }
        body = readable(stored, salvage);
    }
    Ok(ClaimedMessage {
        index: 0,
        id,
        event_type: group.event_type.clone(),
        attempt,
        max_attempts: own_max.map_or(group.max_attempts, NonZeroU16::get),
        crashes,
        last_error: row.try_get(13)?,
        body,
    })
}

/// A body of which everything could be read, or what could not.
fn readable(stored: StoredMessage, salvage: Salvage) -> Result<StoredMessage, BodyFault> {
    salvage.finish().map_or(Ok(stored), |why| Err(BodyFault::Unreadable(why)))
}

/// Reads an open claim again, without the members that are settled or revoked.
pub(crate) async fn adopt(executor: &Executor, token: Token) -> Result<Option<Claim>, Fault> {
    let rows = executor.once(Plan::Indexed, claim::ADOPT, &[(token.as_uuid(), Type::UUID)]).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let (solo, members) = (first.try_get(20)?, row::index(first, 21)?);
    let mut messages = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.try_get::<_, Option<i32>>(14)?.is_some() {
            messages.push(member(row)?);
        }
    }
    debug_assert!(messages.len() <= members as usize, "a claim answers no more than its members");
    Ok(Some(Claim { token, members, solo, messages, quiet_for: None }))
}

/// A member of an open claim: the body's fourteen columns, then what the claim says.
fn member(row: &Row) -> Result<ClaimedMessage, Fault> {
    let mut salvage = Salvage::default();
    let body = row::message(row)?;
    let attempt = salvage.count("attempt", row.try_get::<_, i32>(16)?.into());
    let crashes = salvage.count("crashes", row.try_get::<_, i16>(18)?.into());
    Ok(ClaimedMessage {
        index: row::index(row, 14)?,
        id: MessageId::from_uuid(row.try_get(15)?),
        event_type: row::event_type(row, 1)?,
        attempt,
        max_attempts: row::number(row, 17)?,
        crashes,
        last_error: row.try_get(19)?,
        body: match body {
            None => Err(BodyFault::Missing),
            Some(Salvaged { unreadable: Some(why), .. }) => Err(BodyFault::Unreadable(why)),
            Some(Salvaged { message, unreadable: None }) => readable(message, salvage),
        },
    })
}
