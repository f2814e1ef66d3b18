//! Storing messages.

use std::future::Future;

use tickr_core::{Due, Enqueued, EventType, MessageId, NewMessage};
use tickr_sql::json;
use tickr_sql::postgres::{Statement, enqueue};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::config::Settings;
use crate::error::Fault;
use crate::executor::{Param, Plan};
use crate::row::{self, At};

/// Longer than any database lives, and short enough that the sum with its clock is a moment PostgreSQL knows.
const FOREVER_US: i64 = 9_000_000_000_000_000_000;

/// The longest retention of keys that is told from no end: it is added to moments that may be at the end of time.
const CENTURY_US: i64 = 100 * 365 * 24 * 3_600 * 1_000_000;

/// Something that runs a statement: a transaction of our own with a plan, or the caller's as it is.
pub(crate) trait Session {
    fn query(&self, plan: Plan, statement: Statement, params: &[Param<'_>]) -> impl Future<Output = Result<Vec<Row>, Fault>> + Send;
}

/// What a batch became, and the types that it made ready.
pub(crate) type Stored = (Vec<Enqueued>, Vec<EventType>);

/// Stores a batch that was checked for equal ids.
pub(crate) async fn store(
    session: &(impl Session + Sync),
    settings: &Settings,
    channel: &str,
    batch: &[NewMessage],
) -> Result<Stored, Fault> {
    let mut results: Vec<Enqueued> = batch.iter().map(|message| Enqueued::Stored { id: message.id() }).collect();
    let mut made_ready = Vec::new();
    let mut left: Vec<usize> = (0..batch.len()).collect();
    // A key that is refused and then not there was given back meanwhile: send those messages again.
    while !left.is_empty() {
        let sent: Vec<&NewMessage> = left.iter().map(|at| &batch[*at]).collect();
        let (refused, types) = insert(session, settings, channel, &sent).await?;
        made_ready.extend(types);
        let refused: Vec<usize> = refused.into_iter().map(|k| left[k]).collect();
        left = own(session, batch, &refused, &mut results).await?;
    }
    Ok((results, made_ready))
}

/// One array a column.
#[derive(Default)]
struct Columns<'m> {
    ids: Vec<Uuid>,
    event_types: Vec<&'m str>,
    payloads: Vec<&'m [u8]>,
    headers: Vec<Option<String>>,
    content_types: Vec<Option<&'m str>>,
    keys: Vec<Option<&'m str>>,
    ordering_keys: Vec<Option<&'m str>>,
    tenants: Vec<Option<&'m str>>,
    organisations: Vec<Option<&'m str>>,
    correlation_ids: Vec<Option<&'m str>>,
    priorities: Vec<i16>,
    max_attempts: Vec<Option<i32>>,
    at: Vec<Option<At>>,
    delays: Vec<i64>,
}

impl<'m> Columns<'m> {
    fn of(batch: &[&'m NewMessage]) -> Result<Self, Fault> {
        let mut columns = Self::default();
        for message in batch {
            columns.ids.push(*message.id().as_uuid());
            columns.event_types.push(message.event_type().as_str());
            columns.payloads.push(&message.payload);
            columns.headers.push(json::encode_headers(&message.headers)?);
            columns.content_types.push(message.content_type.as_deref());
            columns.keys.push(message.idempotency_key.as_deref());
            columns.ordering_keys.push(message.ordering_key.as_deref());
            columns.tenants.push(message.tenant.as_deref());
            columns.organisations.push(message.organisation.as_deref());
            columns.correlation_ids.push(message.correlation_id.as_deref());
            columns.priorities.push(message.priority.as_i16());
            columns.max_attempts.push(message.max_attempts.map(|max| i32::from(max.get())));
            let (at, delay) = due(message.due);
            columns.at.push(at);
            columns.delays.push(delay);
        }
        Ok(columns)
    }
}

/// The moment and the delay in microseconds that statements take for a due time.
pub(crate) fn due(due: Due) -> (Option<At>, i64) {
    match due {
        Due::At(at) => (Some(At(at)), 0),
        Due::After(delay) => (None, micros(delay)),
        _ => (None, 0),
    }
}

/// A duration as statements take it. What is below a microsecond is one, so that a delay never becomes none.
pub(crate) fn micros(duration: std::time::Duration) -> i64 {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(FOREVER_US).min(FOREVER_US);
    if micros == 0 && !duration.is_zero() { 1 } else { micros }
}

/// Sends the batch; gives the positions whose key was refused, and the types made ready.
async fn insert(
    session: &impl Session,
    settings: &Settings,
    channel: &str,
    batch: &[&NewMessage],
) -> Result<(Vec<usize>, Vec<EventType>), Fault> {
    let columns = Columns::of(batch)?;
    let (offset, retention) = (settings.clock.as_micros(), micros(settings.dedupe_retention).min(CENTURY_US));
    if batch.iter().all(|message| message.idempotency_key.is_none() && message.due == Due::Now) {
        return plain(session, offset, channel, &columns).await;
    }
    let rows = session
        .query(
            Plan::Indexed,
            enqueue::INSERT,
            &[
                (&offset, Type::INT8),
                (&columns.ids, Type::UUID_ARRAY),
                (&columns.event_types, Type::TEXT_ARRAY),
                (&columns.payloads, Type::BYTEA_ARRAY),
                (&columns.headers, Type::TEXT_ARRAY),
                (&columns.content_types, Type::TEXT_ARRAY),
                (&columns.keys, Type::TEXT_ARRAY),
                (&columns.ordering_keys, Type::TEXT_ARRAY),
                (&columns.tenants, Type::TEXT_ARRAY),
                (&columns.organisations, Type::TEXT_ARRAY),
                (&columns.correlation_ids, Type::TEXT_ARRAY),
                (&columns.priorities, Type::INT2_ARRAY),
                (&columns.max_attempts, Type::INT4_ARRAY),
                (&columns.at, Type::TIMESTAMPTZ_ARRAY),
                (&columns.delays, Type::INT8_ARRAY),
                (&retention, Type::INT8),
                (&channel, Type::TEXT),
            ],
        )
        .await?;
    let row = rows.first().ok_or_else(|| row::corrupt("an enqueue answered nothing"))?;
    let refused: Vec<i32> = row.try_get(0)?;
    Ok((refused.into_iter().map(|k| k.unsigned_abs() as usize).collect(), row::event_types(row, 1)?))
}

/// Sends a batch without keys that is due at once.
async fn plain(session: &impl Session, offset: i64, channel: &str, columns: &Columns<'_>) -> Result<(Vec<usize>, Vec<EventType>), Fault> {
    let rows = session
        .query(
            Plan::Light,
            enqueue::PLAIN,
            &[
                (&offset, Type::INT8),
                (&columns.ids, Type::UUID_ARRAY),
                (&columns.event_types, Type::TEXT_ARRAY),
                (&columns.payloads, Type::BYTEA_ARRAY),
                (&columns.headers, Type::TEXT_ARRAY),
                (&columns.content_types, Type::TEXT_ARRAY),
                (&columns.ordering_keys, Type::TEXT_ARRAY),
                (&columns.tenants, Type::TEXT_ARRAY),
                (&columns.organisations, Type::TEXT_ARRAY),
                (&columns.correlation_ids, Type::TEXT_ARRAY),
                (&columns.priorities, Type::INT2_ARRAY),
                (&columns.max_attempts, Type::INT4_ARRAY),
                (&channel, Type::TEXT),
            ],
        )
        .await?;
    let row = rows.first().ok_or_else(|| row::corrupt("an enqueue answered nothing"))?;
    Ok((Vec::new(), row::event_types(row, 0)?))
}

/// Finds out whom refused keys belong to; gives the messages whose key belongs to nobody any more.
async fn own(session: &impl Session, batch: &[NewMessage], refused: &[usize], results: &mut [Enqueued]) -> Result<Vec<usize>, Fault> {
    if refused.is_empty() {
        return Ok(Vec::new());
    }
    let messages = || refused.iter().map(|at| &batch[*at]);
    let event_types: Vec<&str> = messages().map(|message| message.event_type().as_str()).collect();
    let keys: Vec<Option<&str>> = messages().map(|message| message.idempotency_key.as_deref()).collect();
    let ids: Vec<Uuid> = messages().map(|message| *message.id().as_uuid()).collect();
    let params: [Param<'_>; 3] = [(&event_types, Type::TEXT_ARRAY), (&keys, Type::TEXT_ARRAY), (&ids, Type::UUID_ARRAY)];
    let rows = session.query(Plan::Indexed, enqueue::OWNERS, &params).await?;
    let mut again = Vec::new();
    for (at, row) in refused.iter().zip(&rows) {
        let id = batch[*at].id();
        let owner: Option<Uuid> = row.try_get(0)?;
        // Mine, or stored already: sent again, and nothing more happens.
        if row.try_get(1)? || owner == Some(*id.as_uuid()) {
            continue;
        }
        match owner {
            Some(owner) => results[*at] = Enqueued::Duplicate { existing: MessageId::from_uuid(owner) },
            None => again.push(*at),
        }
    }
    Ok(again)
}
