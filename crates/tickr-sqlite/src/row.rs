//! Rows and what they mean.

use std::num::NonZeroU16;

use rusqlite::Row;
use rusqlite::types::ValueRef;
use tickr_core::{Bits, Bytes, Error, ErrorKind, EventType, MessageId, Priority, StoredMessage, Timestamp, Token};
use tickr_sql::json;

use crate::error::Fault;

/// Reads a body as every statement selects it. `event_type` saves reading it again when the caller knows it.
pub(crate) fn message(row: &Row<'_>, id: Option<MessageId>, event_type: Option<&EventType>) -> Result<StoredMessage, Fault> {
    let event_type = match event_type {
        Some(known) => known.clone(),
        None => EventType::from_stored(text(row, 12)?),
    };
    let id = match id {
        Some(known) => known,
        None => message_id(row, 13)?,
    };
    let payload = Bytes::copy_from_slice(row.get_ref(0)?.as_blob().map_err(unreadable)?);
    let mut stored = StoredMessage::new(id, event_type, payload, Timestamp::from_micros(row.get(11)?));
    if let ValueRef::Text(headers) = row.get_ref(1)? {
        stored.headers = json::decode_headers(std::str::from_utf8(headers).map_err(unreadable)?)?;
    }
    stored.content_type = row.get(2)?;
    stored.idempotency_key = row.get(3)?;
    stored.ordering_key = row.get(4)?;
    stored.tenant = row.get(5)?;
    stored.organisation = row.get(6)?;
    stored.correlation_id = row.get(7)?;
    stored.priority = Priority::from_i16(row.get(8)?);
    stored.max_attempts = row.get::<_, Option<u16>>(9)?.and_then(NonZeroU16::new);
    stored.scheduled_at = row.get::<_, Option<i64>>(10)?.map(Timestamp::from_micros);
    Ok(stored)
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

/// Ids of the members of a claim, 16 bytes each.
pub(crate) fn ids(bytes: &[u8]) -> Result<Vec<MessageId>, Fault> {
    bytes.chunks(16).map(|id| Ok(MessageId::from_slice(id)?)).collect()
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
