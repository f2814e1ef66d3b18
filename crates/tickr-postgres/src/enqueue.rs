//! Storing messages.

use std::collections::BTreeSet;
use std::future::{Future, ready};

use tickr_core::{Due, Enqueued, Error, EventType, MessageId, NewMessage};
use tickr_sql::json;
use tickr_sql::postgres::{Statement, enqueue};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::config::Settings;
use crate::error::Fault;
use crate::executor::{Executor, Param, Plan};
use crate::row::{self, At};

/// Longer than any database lives, and short enough that the sum with its clock is a moment PostgreSQL knows.
const FOREVER_US: i64 = 9_000_000_000_000_000_000;

/// The longest retention of keys that is told from no end: it is added to moments that may be at the end of time.
const CENTURY_US: i64 = 100 * 365 * 24 * 3_600 * 1_000_000;

/// How long an idempotency key is kept after its message was due, in microseconds.
pub(crate) fn key_retention(settings: &Settings) -> i64 {
    micros(settings.dedupe_retention).min(CENTURY_US)
}

/// What one statement stores at most, so that neither the protocol's limit (1 GiB a request) nor the memory for a request is met, and
/// a statement takes a second or so.
const CHUNK_MESSAGES: usize = 10_000;
const CHUNK_BYTES: usize = 16 << 20;
/// What a single message may have: what a request of the protocol takes, less what goes with it.
const MESSAGE_BYTES: usize = 1_000_000_000;

/// Cuts a batch into what one statement stores.
///
/// # Errors
/// `Config` for a message that no request has room for.
pub(crate) fn chunks(batch: &[NewMessage]) -> Result<Vec<&[NewMessage]>, Fault> {
    let (mut chunks, mut rest) = (Vec::with_capacity(1), batch);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |(at, message): &(usize, &NewMessage)| {
            bytes += weight(message);
            *at == 0 || (*at < CHUNK_MESSAGES && bytes <= CHUNK_BYTES)
        };
        let (chunk, others) = rest.split_at(rest.iter().enumerate().take_while(fits).count());
        if let [message] = chunk
            && weight(message) > MESSAGE_BYTES
        {
            let text = format!(
                "message {} of {} has {} bytes, PostgreSQL takes at most {MESSAGE_BYTES}",
                message.id(),
                message.event_type(),
                weight(message)
            );
            return Err(Error::config(text).into());
        }
        chunks.push(chunk);
        rest = others;
    }
    Ok(chunks)
}

/// About how many bytes a message is in a request.
fn weight(message: &NewMessage) -> usize {
    let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let texts = [
        &message.content_type,
        &message.idempotency_key,
        &message.ordering_key,
        &message.tenant,
        &message.organisation,
        &message.correlation_id,
    ];
    let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
    message.payload.len() + headers + texts + 128
}

/// Something that runs a statement: a transaction of our own with a plan, or the caller's as it is.
pub(crate) trait Session {
    fn query(&self, plan: Plan, statement: Statement, params: &[Param<'_>]) -> impl Future<Output = Result<Vec<Row>, Fault>> + Send;

    /// Runs a statement as a transaction of its own; gives how many rows it wrote. None, and nothing is written, if it was refused.
    /// So it is where it would be a part of the caller's transaction, which a refusal would end.
    fn alone(&self, _: Statement, _: &[Param<'_>]) -> impl Future<Output = Result<u64, Fault>> + Send {
        ready(Ok(0))
    }
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

/// Stores several chunks in one transaction: all or none. Each has the time of an operation.
pub(crate) async fn store_chunks(
    executor: &Executor,
    settings: &Settings,
    channel: &str,
    chunks: &[&[NewMessage]],
) -> Result<Stored, Fault> {
    let plan = if chunks.iter().all(|chunk| chunk.iter().all(is_plain)) { Plan::Free } else { Plan::Indexed };
    let scope = executor.step(executor.begin(plan)).await?;
    let (mut results, mut made_ready) = Stored::default();
    for chunk in chunks {
        let (stored, types) = executor.step(store(&scope, settings, channel, chunk)).await?;
        results.extend(stored);
        made_ready.extend(types);
    }
    executor.step(scope.commit()).await?;
    made_ready.sort_unstable();
    made_ready.dedup();
    Ok((results, made_ready))
}

/// A column of which most batches have nothing: then no array is sent, which is read as one of NULLs.
#[derive(Default)]
struct Sparse<T>(Vec<Option<T>>);

impl<T> Sparse<T> {
    /// Adds the value of the message at a place; the places in between have none.
    fn put(&mut self, at: usize, value: Option<T>) {
        if value.is_some() {
            self.0.resize_with(at, || None);
            self.0.push(value);
        }
    }

    fn array(self) -> Option<Vec<Option<T>>> {
        (!self.0.is_empty()).then_some(self.0)
    }
}

/// Sparse columns may be shorter than the others: what is missing at the end is read as NULL too.
type Column<T> = Option<Vec<Option<T>>>;

/// One array a column.
struct Columns<'m> {
    ids: Vec<Uuid>,
    event_types: Vec<&'m str>,
    payloads: Vec<&'m [u8]>,
    headers: Column<String>,
    content_types: Column<&'m str>,
    ordering_keys: Column<&'m str>,
    tenants: Column<&'m str>,
    organisations: Column<&'m str>,
    correlation_ids: Column<&'m str>,
    priorities: Vec<i16>,
    max_attempts: Column<i32>,
}

impl<'m> Columns<'m> {
    fn of(batch: &[&'m NewMessage]) -> Result<Self, Fault> {
        let (mut headers, mut max_attempts) = (Sparse::default(), Sparse::default());
        for (k, message) in batch.iter().enumerate() {
            headers.put(k, json::encode_headers(&message.headers)?);
            max_attempts.put(k, message.max_attempts.map(i32::from));
        }
        Ok(Self {
            ids: batch.iter().map(|message| *message.id().as_uuid()).collect(),
            event_types: batch.iter().map(|message| message.event_type().as_str()).collect(),
            payloads: batch.iter().map(|message| message.payload.as_ref()).collect(),
            headers: headers.array(),
            content_types: texts(batch, |message| message.content_type.as_deref()),
            ordering_keys: texts(batch, |message| message.ordering_key.as_deref()),
            tenants: texts(batch, |message| message.tenant.as_deref()),
            organisations: texts(batch, |message| message.organisation.as_deref()),
            correlation_ids: texts(batch, |message| message.correlation_id.as_deref()),
            priorities: batch.iter().map(|message| message.priority.as_i16()).collect(),
            max_attempts: max_attempts.array(),
        })
    }

    /// What every statement that stores messages begins with.
    fn params<'a>(&'a self, offset: &'a i64, channel: &'a &'a str) -> Vec<Param<'a>> {
        vec![
            (offset, Type::INT8),
            (channel, Type::TEXT),
            (&self.ids, Type::UUID_ARRAY),
            (&self.event_types, Type::TEXT_ARRAY),
            (&self.payloads, Type::BYTEA_ARRAY),
            (&self.headers, Type::TEXT_ARRAY),
            (&self.content_types, Type::TEXT_ARRAY),
            (&self.ordering_keys, Type::TEXT_ARRAY),
            (&self.tenants, Type::TEXT_ARRAY),
            (&self.organisations, Type::TEXT_ARRAY),
            (&self.correlation_ids, Type::TEXT_ARRAY),
            (&self.priorities, Type::INT2_ARRAY),
            (&self.max_attempts, Type::INT4_ARRAY),
        ]
    }
}

/// A column of texts that most messages have none of.
fn texts<'m>(batch: &[&'m NewMessage], of: impl Fn(&'m NewMessage) -> Option<&'m str>) -> Column<&'m str> {
    let mut column = Sparse::default();
    for (k, message) in batch.iter().enumerate() {
        column.put(k, of(message));
    }
    column.array()
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
    let offset = settings.clock.as_micros();
    if batch.iter().all(|message| is_plain(message)) {
        return Ok((Vec::new(), plain(session, offset, channel, batch).await?));
    }
    let columns = Columns::of(batch)?;
    let mut params = columns.params(&offset, &channel);
    let keys = texts(batch, |message| message.idempotency_key.as_deref());
    let (at, delays): (Vec<Option<At>>, Vec<i64>) = batch.iter().map(|message| due(message.due)).unzip();
    let retention = key_retention(settings);
    params.extend([
        (&keys as _, Type::TEXT_ARRAY),
        (&at as _, Type::TIMESTAMPTZ_ARRAY),
        (&delays as _, Type::INT8_ARRAY),
        (&retention as _, Type::INT8),
    ]);
    let rows = session.query(Plan::Indexed, enqueue::INSERT, &params).await?;
    let row = row::only(&rows)?;
    let refused: Vec<i32> = row.try_get(0)?;
    Ok((refused.into_iter().map(|k| k.unsigned_abs() as usize).collect(), row::event_types(row, 1)?))
}

/// Whether a message has no key and is due at once.
pub(crate) fn is_plain(message: &NewMessage) -> bool {
    message.idempotency_key.is_none() && message.due == Due::Now
}

/// Sends plain messages; gives their types. What nobody has stored before is tried first.
pub(crate) async fn plain(session: &impl Session, offset: i64, channel: &str, batch: &[&NewMessage]) -> Result<Vec<EventType>, Fault> {
    if let [message] = batch {
        one(session, offset, channel, message).await?;
        return Ok(vec![message.event_type().clone()]);
    }
    let event_types: BTreeSet<&EventType> = batch.iter().map(|message| message.event_type()).collect();
    let names: Vec<&str> = event_types.iter().map(|event_type| event_type.as_str()).collect();
    let columns = Columns::of(batch)?;
    let mut params = columns.params(&offset, &channel);
    params.push((&names, Type::TEXT_ARRAY));
    // Refused, or at another isolation, at which it does nothing.
    if session.alone(enqueue::APPEND, &params).await? == 0 {
        session.query(Plan::Free, enqueue::PLAIN, &params).await?;
    }
    Ok(event_types.into_iter().cloned().collect())
}

pub(crate) async fn one(session: &impl Session, offset: i64, channel: &str, message: &NewMessage) -> Result<(), Fault> {
    let headers = json::encode_headers(&message.headers)?;
    let (id, event_type, payload) = (message.id(), message.event_type().as_str(), message.payload.as_ref());
    let max_attempts = message.max_attempts.map(i32::from);
    let priority = message.priority.as_i16();
    let params = |assured: &'static bool| -> [Param<'_>; 14] {
        [
            (&offset, Type::INT8),
            (&channel, Type::TEXT),
            (id.as_uuid(), Type::UUID),
            (&event_type, Type::TEXT),
            (&payload, Type::BYTEA),
            (&headers, Type::TEXT),
            (&message.content_type, Type::TEXT),
            (&message.ordering_key, Type::TEXT),
            (&message.tenant, Type::TEXT),
            (&message.organisation, Type::TEXT),
            (&message.correlation_id, Type::TEXT),
            (&priority, Type::INT2),
            (&max_attempts, Type::INT4),
            (assured, Type::BOOL),
        ]
    };
    // Refused, stored before, or at another isolation, at which it does nothing.
    if session.alone(enqueue::ONE, &params(&false)).await? == 0 {
        session.query(Plan::Free, enqueue::ONE, &params(&true)).await?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use tickr_core::{Limits, Message, MessageId};

    use super::*;

    /// A message of this weight. Zeros are not written, so that a large one costs nothing.
    fn weighing(bytes: usize) -> NewMessage {
        let payload = vec![0_u8; bytes - weight(&message(Vec::new()))];
        message(payload)
    }

    fn message(payload: Vec<u8>) -> NewMessage {
        NewMessage::check(Message::new("order", payload), MessageId::new(), &Limits::default().payload_bytes(usize::MAX)).unwrap()
    }

    fn lengths(batch: &[NewMessage]) -> Vec<usize> {
        chunks(batch).unwrap().into_iter().map(<[NewMessage]>::len).collect()
    }

    #[test]
    fn chunk_ends_where_its_bytes_or_its_messages_are_met() {
        assert!(lengths(&[]).is_empty());
        let small: Vec<NewMessage> = (0..CHUNK_MESSAGES + 1).map(|_| message(Vec::new())).collect();
        assert_eq!(lengths(&small), [CHUNK_MESSAGES, 1]);
        let half = CHUNK_BYTES / 2;
        assert_eq!(lengths(&[weighing(half), weighing(half)]), [2]);
        assert_eq!(lengths(&[weighing(half), weighing(half + 1), weighing(half)]), [1, 1, 1]);
        assert_eq!(lengths(&[weighing(1_000), weighing(3 * CHUNK_BYTES), weighing(1_000)]), [1, 1, 1], "a large one goes alone");
    }

    #[test]
    fn message_that_no_request_has_room_for_is_refused_and_named() {
        assert_eq!(lengths(&[weighing(MESSAGE_BYTES)]), [1]);
        let large = weighing(MESSAGE_BYTES + 1);
        let error = chunks(std::slice::from_ref(&large)).unwrap_err().during("enqueue");
        assert_eq!(error.kind(), tickr_core::ErrorKind::Config);
        assert!(error.to_string().contains(&format!("message {} of order has 1000000001 bytes", large.id())), "{error}");
    }

    #[test]
    fn weight_counts_what_a_request_carries() {
        let plain = weight(&message(vec![0; 10]));
        let full = Message::new("order", vec![0_u8; 10]).header("name", "value").tenant("acme").idempotency_key("key");
        let full = NewMessage::check(full, MessageId::new(), &Limits::default()).unwrap();
        assert_eq!(plain, 10 + 128);
        assert_eq!(weight(&full), plain + "name".len() + "value".len() + 8 + "acme".len() + "key".len());
    }
}
