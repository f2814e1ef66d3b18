//! Leasing messages to workers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tickr_core::{Claim, ClaimRequest, ClaimedMessage, MessageId, Timestamp, Token};
use tickr_sql::postgres::claim;
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
                columns.floors.push(floors.floor(now, &group.event_type, *lane, looked));
            }
            columns.last.push(position(columns.lanes.len()));
            columns.limits.push(i32::try_from(group.limit).unwrap_or(i32::MAX));
            columns.max_attempts.push(i32::from(group.max_attempts));
        }
        columns
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
    let answer = executor
        .once(
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
        )
        .await;
    let rows = match answer {
        // The worker was removed meanwhile, and nothing was taken.
        Err(fault) if fault.is(&SqlState::FOREIGN_KEY_VIOLATION) => Vec::new(),
        // The token is there: this claim was answered before, and the answer was lost.
        Err(fault) if fault.is(&SqlState::UNIQUE_VIOLATION) => {
            return Ok(adopt(executor, request.token).await?.unwrap_or_else(|| Claim::empty(request.token)));
        }
        other => other?,
    };
    if let [row] = rows.as_slice()
        && row.try_get::<_, Option<i32>>(14)?.is_none()
    {
        let micros = row.try_get::<_, Option<i64>>(22)?;
        let quiet_for = micros.map_or(Duration::MAX, |micros| Duration::from_micros(micros.max(0).unsigned_abs()));
        return Ok(Claim { quiet_for: Some(quiet_for), ..Claim::empty(request.token) });
    }
    let mut messages: Vec<ClaimedMessage> = rows.iter().map(member).collect::<Result<_, _>>()?;
    let places = rows.iter().map(|row| Ok((row.try_get::<_, i16>(20)?, row.try_get::<_, i64>(21)?)));
    let places: Vec<(i16, i64)> = places.collect::<Result<_, Fault>>()?;
    let now = ladder.timer.now();
    let taken = messages.iter().zip(places).map(|(message, (lane, seq))| (&message.event_type, lane, seq));
    ladder.floors.lock().unwrap_or_else(PoisonError::into_inner).taken(now, now.saturating_sub(began), looked, taken);
    messages.sort_by_key(|message| message.index);
    let members = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    Ok(Claim { token: request.token, members, solo: request.solo && members > 0, messages, quiet_for: None })
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

/// A member: the body's fourteen columns, then what the claim says.
fn member(row: &Row) -> Result<ClaimedMessage, Fault> {
    let body = row::message(row)?;
    Ok(ClaimedMessage {
        index: row::index(row, 14)?,
        id: MessageId::from_uuid(row.try_get(15)?),
        event_type: row::event_type(row, 1)?,
        attempt: row::number(row, 16)?,
        max_attempts: row::number(row, 17)?,
        crashes: row.try_get::<_, i16>(18)?.unsigned_abs(),
        last_error: row.try_get(19)?,
        body,
    })
}
