//! Rows and what they mean.

use std::borrow::Cow;
use std::time::Duration;

use rusqlite::Row;
use rusqlite::types::ValueRef;
use tickr_core::protocol::{Lane, Waiting};
use tickr_core::{Bits, Bytes, Error, ErrorKind, EventType, Headers, MessageId, Priority, StoredMessage, Timestamp, Token};
use tickr_sql::{Salvage, Salvaged, json};

use crate::error::Fault;

/// Reads a body as every statement selects it. `event_type` saves reading it again when the caller knows it.
pub(crate) fn message(row: &Row<'_>, id: Option<MessageId>, event_type: Option<&EventType>) -> Result<Salvaged, Fault> {
    let mut salvage = Salvage::default();
    let event_type = match event_type {
        Some(known) => known.clone(),
        None => {
            let name = row.get_ref(12)?;
            if let Err(why) = as_text(name) {
                salvage.note("event_type", why);
            }
            EventType::from_stored(lossy(name))
        }
    };
    let id = match id {
        Some(known) => known,
        None => message_id(row, 13)?,
    };
    let payload = match row.get_ref(0)? {
        ValueRef::Blob(bytes) => Bytes::copy_from_slice(bytes),
        other => salvage.take("payload", Err(wrong_type(other))),
    };
    let created_at = integer(&mut salvage, "created_at", row.get_ref(11)?).unwrap_or_default();
    let mut stored = StoredMessage::new(id, event_type, payload, Timestamp::from_micros(created_at));
    stored.headers = match row.get_ref(1)? {
        ValueRef::Null => Headers::new(),
        headers => {
            let read = as_text(headers).and_then(|text| json::decode_headers(text).map_err(|_| "not a JSON object of strings".to_owned()));
            salvage.take("headers", read)
        }
    };
    for (column, name, field) in [
        (2, "content_type", &mut stored.content_type),
        (3, "idempotency_key", &mut stored.idempotency_key),
        (4, "ordering_key", &mut stored.ordering_key),
        (5, "tenant", &mut stored.tenant),
        (6, "organisation", &mut stored.organisation),
        (7, "correlation_id", &mut stored.correlation_id),
    ] {
        *field = match row.get_ref(column)? {
            ValueRef::Null => None,
            text => Some(salvage.take(name, as_text(text).map(str::to_owned))),
        };
    }
    stored.priority = match integer(&mut salvage, "priority", row.get_ref(8)?) {
        Some(number) => salvage.priority(number),
        None => Priority::Normal,
    };
    let max_attempts = integer(&mut salvage, "max_attempts", row.get_ref(9)?);
    stored.max_attempts = salvage.max_attempts(max_attempts);
    stored.scheduled_at = integer(&mut salvage, "scheduled_at", row.get_ref(10)?).map(Timestamp::from_micros);
    Ok(Salvaged { message: stored, unreadable: salvage.finish() })
}

/// A number of a row; `None` for NULL, and for what is no number.
fn integer(salvage: &mut Salvage, column: &str, value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number),
        other => {
            salvage.note(column, wrong_type(other));
            None
        }
    }
}

fn as_text(value: ValueRef<'_>) -> Result<&str, String> {
    match value {
        ValueRef::Text(text) => std::str::from_utf8(text).map_err(|why| why.to_string()),
        other => Err(wrong_type(other)),
    }
}

fn wrong_type(value: ValueRef<'_>) -> String {
    format!("holds a value of type {}", value.data_type())
}

/// A text with a replacement character for each part that is not UTF-8; SQLite checks nothing.
pub(crate) fn lossy(value: ValueRef<'_>) -> Cow<'_, str> {
    match value {
        ValueRef::Text(text) => String::from_utf8_lossy(text),
        _ => Cow::Borrowed(""),
    }
}

/// A text for people, such as an error or the name of a worker.
pub(crate) fn shown(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        text => Ok(Some(lossy(text).into_owned())),
    }
}

/// A number of attempts or crashes: what is out of range becomes the nearest that is not.
pub(crate) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u16> {
    Ok(clamped(row.get(column)?))
}

pub(crate) fn clamped(number: i64) -> u16 {
    u16::try_from(number.max(0)).unwrap_or(u16::MAX)
}

/// Lane, attempt and crashes from `column` on. No claim looks into a lane that there is not, so it counts as the normal one.
pub(crate) fn waiting(row: &Row<'_>, column: usize) -> rusqlite::Result<Waiting> {
    let lane: i64 = row.get(column)?;
    let lane = i16::try_from(lane).ok().and_then(Lane::from_i16).unwrap_or(Lane::Normal);
    let mut waiting = Waiting::new(lane, number(row, column + 1)?);
    waiting.crashes = number(row, column + 2)?;
    Ok(waiting)
}

/// How many members a claim has.
pub(crate) fn members(row: &Row<'_>, column: usize) -> rusqlite::Result<u32> {
    let members: i64 = row.get(column)?;
    Ok(u32::try_from(members).unwrap_or(0))
}

pub(crate) fn event_type(row: &Row<'_>, column: usize) -> rusqlite::Result<EventType> {
    Ok(EventType::from_stored(lossy(row.get_ref(column)?)))
}

pub(crate) fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, Fault> {
    row.get_ref(column)?.as_str().map_err(|error| unreadable(error).into())
}

pub(crate) fn blob<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r [u8], Fault> {
    row.get_ref(column)?.as_blob().map_err(|error| unreadable(error).into())
}

pub(crate) fn message_id(row: &Row<'_>, column: usize) -> Result<MessageId, Fault> {
    Ok(MessageId::from_slice(blob(row, column)?)?)
}

pub(crate) fn token(row: &Row<'_>, column: usize) -> Result<Token, Fault> {
    Ok(Token::from_slice(blob(row, column)?)?)
}

pub(crate) fn timestamp(row: &Row<'_>, column: usize) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_micros(row.get(column)?))
}

/// A duration as statements take it.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn bits(row: &Row<'_>, column: usize, members: u32) -> Result<Bits, Fault> {
    Ok(Bits::from_bytes(members, blob(row, column)?))
}

/// Numbers of the members of a claim, little-endian. One number stands for all members: most claims need no more.
pub(crate) fn pack(numbers: &[u16]) -> Vec<u8> {
    match numbers {
        [first, rest @ ..] if rest.iter().all(|number| number == first) => first.to_le_bytes().to_vec(),
        _ => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
    }
}

/// Reads what [`pack`] wrote for so many members.
pub(crate) fn unpack(bytes: &[u8], members: usize) -> Result<Vec<u16>, Fault> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let numbers: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    match numbers[..] {
        _ if !rest.is_empty() => Err(corrupt("a list of a claim has half a number")),
        [all] => Ok(vec![all; members]),
        _ if numbers.len() == members => Ok(numbers),
        _ => Err(corrupt("a list of a claim has not one number a member")),
    }
}

/// Ids of the members of a claim, 16 bytes each; `None` when the last one is cut short.
pub(crate) fn ids(bytes: &[u8]) -> Option<Vec<MessageId>> {
    bytes.chunks(16).map(|id| MessageId::from_slice(id).ok()).collect()
}

pub(crate) fn corrupt(what: &'static str) -> Fault {
    Error::new(ErrorKind::Corrupt, what).into()
}

fn unreadable(error: impl Into<tickr_core::BoxError>) -> Error {
    Error::new(ErrorKind::Corrupt, "a stored value has the wrong type").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_round_trip_and_equal_ones_are_short() {
        for numbers in [vec![], vec![1], vec![7, 7, 7], vec![1, 2, 65_535]] {
            assert_eq!(unpack(&pack(&numbers), numbers.len()).unwrap(), numbers);
        }
        assert_eq!(pack(&[3; 2_000]), [3, 0]);
    }

    #[test]
    fn a_list_that_does_not_fit_is_corrupt() {
        assert!(unpack(&[1, 0, 2, 0], 3).is_err());
        assert!(unpack(&[1], 1).is_err());
    }
}
