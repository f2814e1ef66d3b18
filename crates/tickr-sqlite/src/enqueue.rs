//! Storing messages.

use rusqlite::{CachedStatement, OptionalExtension, params};
use tickr_core::protocol::Waiting;
use tickr_core::{Enqueued, MessageId, NewMessage, Timestamp};
use tickr_sql::json;
use tickr_sql::sqlite::enqueue;

use crate::error::Fault;
use crate::row;
use crate::scope::Scope;

/// Stores a batch that was checked for equal ids.
pub(crate) fn store(scope: &mut Scope<'_>, batch: &[NewMessage]) -> Result<Vec<Enqueued>, Fault> {
    let mut places = scope.places(batch.len())?;
    let mut insert_message = scope.prepare(enqueue::INSERT_MESSAGE)?;
    let mut results = Vec::with_capacity(batch.len());
    for message in batch {
        let due = message.due.later_than(scope.now());
        if let Some(existing) = take_key(scope, message, due)? {
            results.push(existing);
            continue;
        }
        results.push(Enqueued::Stored { id: message.id() });
        if !insert_body(&mut insert_message, scope.now(), message, due)? {
            give_key_back(scope, message)?;
            continue;
        }
        let waiting = Waiting::fresh(message.priority);
        match due {
            Some(due) => scope.insert_scheduled(message.id(), due, message.event_type(), waiting)?,
            None => scope.put_ready(&mut places, message.id(), message.event_type(), waiting)?,
        }
    }
    Ok(results)
}

/// Claims the idempotency key, if there is one. An answer means that nothing is to be stored.
fn take_key(scope: &Scope<'_>, message: &NewMessage, due: Option<Timestamp>) -> Result<Option<Enqueued>, Fault> {
    let Some(key) = &message.idempotency_key else { return Ok(None) };
    let (id, event_type) = (message.id(), message.event_type().as_str());
    let expires_at = due.unwrap_or(scope.now()).after(scope.settings().dedupe_retention);
    let row = params![event_type, key, id.as_bytes().as_slice(), expires_at.as_micros()];
    if scope.writes(enqueue::INSERT_KEY, row)? == 1 {
        return Ok(None);
    }
    let owner = scope.prepare(enqueue::KEY_OWNER)?.query_row(params![event_type, key], |row| Ok(row::message_id(row, 0))).optional()?;
    let existing: MessageId = owner.ok_or_else(|| row::corrupt("an idempotency key is refused and not there"))??;
    // The key is mine, or the id is stored already: sent again, and nothing more happens.
    if existing == id || scope.message_exists(id)? {
        return Ok(Some(Enqueued::Stored { id }));
    }
    Ok(Some(Enqueued::Duplicate { existing }))
}

/// The id was stored before, under another key or none: nothing changes.
fn give_key_back(scope: &Scope<'_>, message: &NewMessage) -> Result<(), Fault> {
    if let Some(key) = &message.idempotency_key {
        let id = message.id();
        scope.writes(enqueue::DELETE_KEY, params![message.event_type().as_str(), key, id.as_bytes().as_slice()])?;
    }
    Ok(())
}

/// Inserts the body; `false` when the id is stored already.
fn insert_body(insert: &mut CachedStatement<'_>, now: Timestamp, message: &NewMessage, due: Option<Timestamp>) -> Result<bool, Fault> {
    let headers = json::encode_headers(&message.headers)?;
    let id = message.id();
    let rows = insert.execute(params![
        &message.payload[..],
        headers,
        message.content_type,
        message.idempotency_key,
        message.ordering_key,
        message.tenant,
        message.organisation,
        message.correlation_id,
        message.priority.as_i16(),
        message.max_attempts,
        due.map(Timestamp::as_micros),
        now.as_micros(),
        message.event_type().as_str(),
        id.as_bytes().as_slice(),
    ])?;
    Ok(rows == 1)
}
