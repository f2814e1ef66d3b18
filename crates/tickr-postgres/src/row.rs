//! Rows and what they mean: values that cross the wire, and how they become the types of the core.

use std::borrow::Cow;
use std::error::Error as StdError;

use bytes::{BufMut, BytesMut};
use tickr_core::{Bits, Bytes, Error, ErrorKind, EventType, Headers, MessageId, StoredMessage, Timestamp, Token, WorkerId};
use tickr_sql::{Salvage, Salvaged, json};
use tokio_postgres::Row;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use uuid::Uuid;

use crate::error::Fault;

type Failure = Box<dyn StdError + Sync + Send>;

/// `timestamptz`: microseconds since 2000-01-01 (<https://www.postgresql.org/docs/current/datatype-datetime.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At(pub(crate) Timestamp);

/// 2000-01-01 in microseconds since 1970.
const EPOCH_US: i64 = 946_684_800_000_000;
/// 4713 BC, the earliest moment PostgreSQL knows, in microseconds before 2000.
const EARLIEST_US: i64 = -211_813_488_000_000_000;

impl ToSql for At {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.put_i64(self.0.as_micros().saturating_sub(EPOCH_US).max(EARLIEST_US));
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for At {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        let since_2000 = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(Timestamp::from_micros(since_2000.saturating_add(EPOCH_US))))
    }

    accepts!(TIMESTAMPTZ);
}

/// `varbit`: the number of bits, then the bits, the first one leftmost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mask(pub(crate) Bits);

impl ToSql for Mask {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.put_i32(i32::try_from(self.0.len())?);
        out.extend(self.0.to_bytes().into_iter().map(u8::reverse_bits));
        Ok(IsNull::No)
    }

    accepts!(VARBIT, BIT);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Mask {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        let (length, bits) = raw.split_first_chunk().ok_or("a bit string without length")?;
        let bytes: Vec<u8> = bits.iter().map(|byte| byte.reverse_bits()).collect();
        Ok(Self(Bits::from_bytes(u32::try_from(i32::from_be_bytes(*length))?, &bytes)))
    }

    accepts!(VARBIT, BIT);
}

/// Ids as an array.
pub(crate) fn uuids<'a>(ids: impl IntoIterator<Item = &'a MessageId>) -> Vec<Uuid> {
    ids.into_iter().map(|id| *id.as_uuid()).collect()
}

/// The fourteen columns of a body from the first on, as every statement selects them. `None`: its row is missing.
pub(crate) fn message(row: &Row) -> Result<Option<Salvaged>, Fault> {
    let Some(id) = row.try_get::<_, Option<Uuid>>(0)? else { return Ok(None) };
    let mut salvage = Salvage::default();
    let payload = Bytes::copy_from_slice(row.try_get::<_, &[u8]>(2)?);
    let At(created_at) = row.try_get(13)?;
    let mut stored = StoredMessage::new(MessageId::from_uuid(id), EventType::from_stored(row.try_get::<_, &str>(1)?), payload, created_at);
    stored.headers = headers(&mut salvage, row.try_get(3)?);
    stored.content_type = row.try_get(4)?;
    stored.idempotency_key = row.try_get(5)?;
    stored.ordering_key = row.try_get(6)?;
    stored.tenant = row.try_get(7)?;
    stored.organisation = row.try_get(8)?;
    stored.correlation_id = row.try_get(9)?;
    stored.priority = salvage.priority(row.try_get::<_, i16>(10)?.into());
    stored.max_attempts = salvage.max_attempts(row.try_get::<_, Option<i32>>(11)?.map(i64::from));
    stored.scheduled_at = row.try_get::<_, Option<At>>(12)?.map(|At(at)| at);
    Ok(Some(Salvaged { message: stored, unreadable: salvage.finish() }))
}

/// Headers of a row. Every other text can be read: the server converts it, or refuses the statement.
pub(crate) fn headers(salvage: &mut Salvage, stored: Option<&str>) -> Headers {
    let read = stored.map(|text| json::decode_headers(text).map_err(|_| "not a JSON object of strings"));
    read.map(|read| salvage.take("headers", read)).unwrap_or_default()
}

pub(crate) fn message_id(row: &Row, column: usize) -> Result<MessageId, Fault> {
    Ok(MessageId::from_uuid(row.try_get(column)?))
}

pub(crate) fn message_ids(row: &Row, column: usize) -> Result<Vec<MessageId>, Fault> {
    let ids: Vec<Uuid> = row.try_get(column)?;
    Ok(ids.into_iter().map(MessageId::from_uuid).collect())
}

pub(crate) fn token(row: &Row, column: usize) -> Result<Token, Fault> {
    Ok(Token::from_uuid(row.try_get(column)?))
}

pub(crate) fn worker_id(row: &Row, column: usize) -> Result<WorkerId, Fault> {
    Ok(WorkerId::from_uuid(row.try_get(column)?))
}

pub(crate) fn timestamp(row: &Row, column: usize) -> Result<Timestamp, Fault> {
    Ok(row.try_get::<_, At>(column)?.0)
}

pub(crate) fn bits(row: &Row, column: usize) -> Result<Bits, Fault> {
    Ok(row.try_get::<_, Mask>(column)?.0)
}

pub(crate) fn event_type(row: &Row, column: usize) -> Result<EventType, Fault> {
    Ok(EventType::from_stored(row.try_get::<_, &str>(column)?))
}

/// Event types as an array; a NULL in it stands for none.
pub(crate) fn event_types(row: &Row, column: usize) -> Result<Vec<EventType>, Fault> {
    let names: Vec<Option<&str>> = row.try_get(column)?;
    Ok(names.into_iter().flatten().map(EventType::from_stored).collect())
}

/// A count or a number of attempts, which the schema keeps in a wider type.
pub(crate) fn number(row: &Row, column: usize) -> Result<u16, Fault> {
    Ok(clamped(row.try_get::<_, i32>(column)?))
}

pub(crate) fn index(row: &Row, column: usize) -> Result<u32, Fault> {
    Ok(row.try_get::<_, i32>(column)?.unsigned_abs())
}

pub(crate) fn count(row: &Row, column: usize) -> Result<u64, Fault> {
    Ok(row.try_get::<_, i64>(column)?.unsigned_abs())
}

pub(crate) fn clamped(number: i32) -> u16 {
    u16::try_from(number.max(0)).unwrap_or(u16::MAX)
}

/// Crashes, which the schema keeps in 16 bits with a sign.
pub(crate) fn small(number: u16) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}

/// What texts a database can store (<https://www.postgresql.org/docs/current/multibyte.html>). No encoding has a NUL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// All others: UTF8, or SQL_ASCII, which checks no character.
    #[default]
    Everything,
    /// LATIN1: the first 256 characters.
    Latin1,
    /// One whose characters are not known here: ASCII is in all of them.
    Ascii,
}

impl Encoding {
    pub(crate) fn parse(name: &str) -> Self {
        match name {
            "UTF8" | "SQL_ASCII" => Self::Everything,
            "LATIN1" => Self::Latin1,
            _ => Self::Ascii,
        }
    }

    fn has(self, c: char) -> bool {
        match self {
            Self::Everything => c != '\0',
            Self::Latin1 => c != '\0' && u32::from(c) <= 0xFF,
            Self::Ascii => c != '\0' && c.is_ascii(),
        }
    }

    /// A text that only people read, as the database can store it: what it lacks is replaced or spelt out.
    pub(crate) fn text(self, text: &str) -> Cow<'_, str> {
        if text.chars().all(|c| self.has(c)) {
            return text.into();
        }
        let mut stored = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                c if self.has(c) => stored.push(c),
                '\0' if self == Self::Everything => stored.push('\u{FFFD}'),
                c => stored.extend(c.escape_unicode()),
            }
        }
        stored.into()
    }
}

/// A value for the driver, which logs parameters by `Debug`: this shows the type and the length.
pub(crate) struct Quiet<'a> {
    pub(crate) value: &'a (dyn ToSql + Sync),
    pub(crate) of: &'a Type,
}

impl std::fmt::Debug for Quiet<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sent = BytesMut::new();
        match self.value.to_sql_checked(self.of, &mut sent) {
            Ok(IsNull::Yes) => write!(f, "{} NULL", self.of),
            Ok(IsNull::No) => write!(f, "{} of {} bytes", self.of, sent.len()),
            Err(_) => write!(f, "{}", self.of),
        }
    }
}

impl ToSql for Quiet<'_> {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        self.value.to_sql_checked(of, out)
    }

    /// Asked of the type, not of the value; the value itself is asked when it is sent.
    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        self.value.to_sql_checked(of, out)
    }

    fn encode_format(&self, of: &Type) -> Format {
        self.value.encode_format(of)
    }
}

/// The row of a statement that always answers one.
pub(crate) fn only(rows: &[Row]) -> Result<&Row, Fault> {
    rows.first().ok_or_else(|| corrupt("a statement that always answers one row answered none"))
}

pub(crate) fn corrupt(what: impl Into<Cow<'static, str>>) -> Fault {
    Error::new(ErrorKind::Corrupt, what).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(value: &impl ToSql, of: &Type) -> BytesMut {
        let mut out = BytesMut::new();
        assert!(matches!(value.to_sql(of, &mut out), Ok(IsNull::No)));
        out
    }

    #[test]
    fn bits_are_sent_with_the_first_leftmost() {
        let mask = Mask(Bits::from_indices(10, [0, 9]));
        let wire = sent(&mask, &Type::VARBIT);
        assert_eq!(&wire[..], [0, 0, 0, 10, 0b1000_0000, 0b0100_0000]);
        assert_eq!(Mask::from_sql(&Type::VARBIT, &wire).unwrap(), mask);
    }

    #[test]
    fn values_are_logged_by_type_and_length() {
        let value: &(dyn ToSql + Sync) = &"secret";
        let quiet = Quiet { value, of: &Type::TEXT };
        assert_eq!(format!("{quiet:?}"), "text of 6 bytes");
        assert_eq!(sent(&quiet, &Type::TEXT), "secret");
        let none: Option<&str> = None;
        assert_eq!(format!("{:?}", Quiet { value: &none, of: &Type::TEXT }), "text NULL");
    }

    #[test]
    fn texts_are_made_storable_in_every_encoding() {
        for (encoding, given, stored) in [
            ("UTF8", "ошибка é\0", "ошибка é\u{FFFD}"),
            ("SQL_ASCII", "ошибка", "ошибка"),
            ("LATIN1", "gr\u{f6}\u{df}e", "gr\u{f6}\u{df}e"),
            ("LATIN1", "о\0", "\\u{43e}\\u{0}"),
            ("WIN1251", "é", "\\u{e9}"),
        ] {
            assert_eq!(Encoding::parse(encoding).text(given), stored, "{encoding}");
        }
    }

    #[test]
    fn moments_round_trip_and_stay_in_range() {
        for micros in [0, 1, -1, EPOCH_US, 1_700_000_000_123_456, i64::MAX] {
            let at = At(Timestamp::from_micros(micros));
            assert_eq!(At::from_sql(&Type::TIMESTAMPTZ, &sent(&at, &Type::TIMESTAMPTZ)).unwrap(), at);
        }
        let wire = sent(&At(Timestamp::from_micros(i64::MIN)), &Type::TIMESTAMPTZ);
        assert_eq!(i64::from_be_bytes(wire[..].try_into().unwrap()), EARLIEST_US);
    }
}
