//! Leasing messages to workers.

use std::num::NonZeroU16;
use std::sync::Mutex;
use std::time::Duration;

use tickr_core::{BodyFault, Bytes, Claim, ClaimRequest, ClaimedMessage, EventType, LaneRequest, MessageId, StoredMessage, Token};
use tickr_sql::postgres::claim;
use tickr_sql::{Salvage, Salvaged};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::error::Fault;
use crate::executor::{Executor, Plan};
use crate::floor::{Found, Fresh, Ladder, Scan, lock};
use crate::promotion::PromoteFloor;
use crate::row::{self, At};

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
    fn of(request: &'r ClaimRequest) -> Self {
        let mut columns = Self::default();
        for group in request.groups.iter().filter(|group| group.limit > 0 && !group.lanes.is_empty()) {
            columns.event_types.push(group.event_type.as_str());
            columns.first.push(position(columns.lanes.len() + 1));
            for lane in &group.lanes {
                columns.lanes.push(lane.as_i16());
                columns.groups.push(group);
            }
            columns.last.push(position(columns.lanes.len()));
            columns.limits.push(i32::try_from(group.limit).unwrap_or(i32::MAX));
            columns.max_attempts.push(i32::from(group.max_attempts));
        }
        columns
    }

    /// The lanes, each with its type.
    fn scanned(&self) -> impl Iterator<Item = (&'r EventType, i16)> {
        self.groups.iter().zip(&self.lanes).map(|(group, lane)| (&group.event_type, *lane))
    }

    /// What the statement found in each lane, `None` where it did not come to: it goes through groups and lanes in their order until
    /// the limit of the group, and the total, are reached.
    fn found(&self, taken: &[(Place, ClaimedMessage)], total: i64) -> Vec<Option<Found>> {
        let mut found = vec![None; self.lanes.len()];
        let mut left = total;
        for ((first, last), limit) in self.first.iter().zip(&self.last).zip(&self.limits) {
            let mut left_of_group = left.min(i64::from(*limit));
            for lane in (*first - 1)..*last {
                if left_of_group <= 0 {
                    break;
                }
                let lane = usize::try_from(lane).unwrap_or(usize::MAX);
                let here = in_lane(taken, lane);
                found[lane] = Some(Found { last: here.last().map(|(place, _)| place.seq), newest: newest(here) });
                let taken = i64::try_from(here.len()).unwrap_or(i64::MAX);
                (left, left_of_group) = (left - taken, left_of_group - taken);
            }
        }
        found
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

/// What was taken from a lane, of what is sorted by place.
fn in_lane(taken: &[(Place, ClaimedMessage)], lane: usize) -> &[(Place, ClaimedMessage)] {
    let from = taken.partition_point(|(place, _)| place.lane < lane);
    let until = taken.partition_point(|(place, _)| place.lane <= lane);
    &taken[from..until]
}

/// The newest of the messages whose place is as old as they are.
fn newest(taken: &[(Place, ClaimedMessage)]) -> Option<Fresh> {
    let fresh = taken.iter().filter_map(|(place, message)| {
        let body = message.body.as_ref().ok().filter(|body| message.attempt == 1 && message.crashes == 0 && body.scheduled_at.is_none())?;
        Some(Fresh { seq: place.seq, created_at: body.created_at })
    });
    fresh.max_by_key(|fresh| fresh.created_at)
}

/// Where claims of a handle begin to scan, and where they ask for scheduled messages.
#[derive(Clone, Copy)]
pub(crate) struct Starts<'s> {
    pub(crate) ladder: &'s Ladder,
    pub(crate) promotions: &'s Mutex<PromoteFloor>,
}

/// Takes messages. A token that is known already is a repeat: it is answered as it stands. If nothing is taken, the answer says when
/// the next scheduled message is due.
pub(crate) async fn take(executor: &Executor, starts: Starts<'_>, offset: i64, request: &ClaimRequest) -> Result<Claim, Fault> {
    let mut patience = executor.patience();
    loop {
        let generation = executor.generation();
        let claim = match try_take(executor, starts, offset, request).await {
            Err(fault) if patience.tries_another(&fault, true) => {
                executor.learn_from(&fault);
                continue;
            }
            claim => claim?,
        };
        // Where another server answered for the first time, this scan began where one of the server before it would have.
        if !claim.messages.is_empty() || executor.generation() == generation {
            return Ok(claim);
        }
    }
}

async fn try_take(executor: &Executor, starts: Starts<'_>, offset: i64, request: &ClaimRequest) -> Result<Claim, Fault> {
    let mut columns = Columns::of(request);
    if request.total == 0 || columns.lanes.is_empty() {
        return Ok(Claim::empty(request.token));
    }
    let (dialect, worker_name) = (executor.dialect().await?, executor.text(&request.worker_name).await?);
    let (timer, generation, total) = (&starts.ladder.timer, executor.generation(), i64::from(request.total));
    let (mut scan, floors) = starts.ladder.scan(generation, columns.scanned());
    columns.floors = floors;
    let (rung, promoted) = lock(starts.promotions).question(timer.now(), generation);
    let connection = match executor.connection().await {
        Ok(connection) => connection,
        Err(fault) => {
            scan.refused();
            return Err(fault);
        }
    };
    scan.begin();
    let began = timer.now();
    let (mut taken, mut quiet) = (Vec::new(), None);
    let mut read = |row: Row| {
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
        .once_each_on(
            connection.client(),
            &dialect,
            Plan::Indexed,
            claim::TAKE,
            &[
                (&offset, Type::INT8),
                (request.worker.as_uuid(), Type::UUID),
                (&worker_name, Type::TEXT),
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
            &mut read,
        )
        .await;
    match connection.give_back(answer) {
        Ok(()) => {}
        Err(fault) => return refused(executor, request, scan, fault).await,
    }
    // So the statement numbers the members. Keys are sorted first: messages are large, and each is moved once then.
    taken.sort_by_cached_key(|(place, _)| *place);
    scan.answered(&columns.found(&taken, total));
    let over = timer.now();
    if taken.is_empty() {
        let is_due = quiet.is_some_and(|micros| micros <= 0);
        lock(starts.promotions).asked(over, over.saturating_sub(began), rung, is_due);
        let quiet_for = quiet.map_or(Duration::MAX, |micros| Duration::from_micros(micros.max(0).unsigned_abs()));
        let mut claim = Claim::empty(request.token);
        claim.quiet_for = Some(quiet_for);
        return Ok(claim);
    }
    lock(starts.promotions).not_asked(over, rung);
    let mut messages: Vec<ClaimedMessage> = taken.into_iter().map(|(_, message)| message).collect();
    (0..).zip(&mut messages).for_each(|(index, message)| message.index = index);
    let members = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    let mut claim = Claim::new(request.token, members, messages);
    claim.solo = request.solo;
    Ok(claim)
}

/// What a claim answers that the server refused.
async fn refused(executor: &Executor, request: &ClaimRequest, scan: Scan<'_>, fault: Fault) -> Result<Claim, Fault> {
    // Only a scan that took too long was one.
    if fault.is(&SqlState::QUERY_CANCELED) {
        drop(scan)
    } else {
        scan.refused()
    }
    // The worker was removed meanwhile, and nothing was taken, whatever the server had answered before it found out.
    if fault.is(&SqlState::FOREIGN_KEY_VIOLATION) {
        return Ok(Claim::empty(request.token));
    }
    // The token is there: this claim was answered before, and the answer was lost.
    if fault.is(&SqlState::UNIQUE_VIOLATION) {
        return Ok(adopt(executor, request.token).await?.unwrap_or_else(|| Claim::empty(request.token)));
    }
    Err(fault)
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
    let mut message = ClaimedMessage::new(0, id, group.event_type.clone(), attempt, body);
    message.max_attempts = own_max.map_or(group.max_attempts, NonZeroU16::get);
    message.crashes = crashes;
    message.last_error = row.try_get(13)?;
    Ok(message)
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
    let mut claim = Claim::new(token, members, messages);
    claim.solo = solo;
    Ok(Some(claim))
}

/// A member of an open claim: the body's fourteen columns, then what the claim says.
fn member(row: &Row) -> Result<ClaimedMessage, Fault> {
    let mut salvage = Salvage::default();
    let body = row::message(row)?;
    let attempt = salvage.count("attempt", row.try_get::<_, i32>(16)?.into());
    let crashes = salvage.count("crashes", row.try_get::<_, i16>(18)?.into());
    let body = match body {
        None => Err(BodyFault::Missing),
        Some(Salvaged { unreadable: Some(why), .. }) => Err(BodyFault::Unreadable(why)),
        Some(Salvaged { message, unreadable: None }) => readable(message, salvage),
    };
    let id = MessageId::from_uuid(row.try_get(15)?);
    let mut message = ClaimedMessage::new(row::index(row, 14)?, id, row::event_type(row, 1)?, attempt, body);
    message.max_attempts = row::number(row, 17)?;
    message.crashes = crashes;
    message.last_error = row.try_get(19)?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use tickr_core::{BodyFault, Bytes, EventType, MessageId, StoredMessage, Timestamp};

    use super::*;

    fn taken(seq: i64, created_at: i64, change: impl FnOnce(&mut ClaimedMessage)) -> (Place, ClaimedMessage) {
        let (id, event_type) = (MessageId::new(), EventType::new("order").unwrap());
        let body = StoredMessage::new(id, event_type.clone(), Bytes::new(), Timestamp::from_micros(created_at));
        let mut message = ClaimedMessage::new(0, id, event_type, 1, Ok(body));
        change(&mut message);
        (Place { lane: 0, seq }, message)
    }

    #[test]
    fn newest_is_that_of_the_latest_creation_among_first_attempts_that_were_due() {
        let delayed = |message: &mut ClaimedMessage| {
            if let Ok(body) = &mut message.body {
                body.scheduled_at = Some(Timestamp::from_micros(1));
            }
        };
        let of = [
            taken(5, 100, |_| {}),
            taken(9, 200, |_| {}),
            taken(10, 150, |_| {}),
            taken(11, 300, |message| message.attempt = 2),
            taken(12, 300, |message| message.crashes = 1),
            taken(13, 300, delayed),
            taken(14, 300, |message| message.body = Err(BodyFault::Missing)),
        ];
        let found = newest(&of).unwrap();
        assert_eq!((found.seq, found.created_at), (9, Timestamp::from_micros(200)));
        assert!(newest(&of[3..]).is_none());
    }
}
