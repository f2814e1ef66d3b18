//! How the types that a storage keeps are written by serde (feature `serde`).
//!
//! The forms are those of the columns of the built-in storages, and stay as they are within a major version: a row that one release
//! wrote is read by the next. Struct fields that a later release adds are optional when they are read.
//!
//! | Type | Text formats such as JSON | Binary formats |
//! |---|---|---|
//! | ids, tokens | the UUID as text | its 16 bytes |
//! | [`Timestamp`] | microseconds since 1970, an integer | the same |
//! | [`Priority`], [`Lane`] | the number of `as_i16` | the same |
//! | [`Recorded`], [`Status`] | the word of `as_str` | the same |
//! | [`EventType`], [`PauseScope`] | the name (everything: empty) | the same |
//! | [`Headers`] | a map by name | the same |
//! | [`Bits`] | the length and the bytes of `to_bytes` | the same |
//! | bytes: payloads, [`Bits`] | base64 with padding | bytes |
//!
//! Timestamps are integers because those hold every moment exactly, sort and compare in every database, and need no parser.
//! What a constructor refuses is refused here too.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::bits::Bits;
use crate::event_type::EventType;
use crate::headers::Headers;
use crate::id::{MessageId, Token, WorkerId};
use crate::message::Priority;
use crate::protocol::{Lane, Recorded};
use crate::status::Status;
use crate::storage::PauseScope;
use crate::time::Timestamp;

/// Reads a text by `parse`.
struct Text<T, E>(&'static str, fn(&str) -> Result<T, E>);

impl<T, E: fmt::Display> Visitor<'_> for Text<T, E> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<D: de::Error>(self, text: &str) -> Result<T, D> {
        self.1(text).map_err(D::custom)
    }
}

macro_rules! ids {
    ($($name:ident),*) => {$(
        #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(self.as_bytes()) }
            }
        }

        #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    return deserializer.deserialize_str(Text("a UUID", Self::from_str));
                }
                let bytes = payload::deserialize(deserializer)?;
                Self::from_slice(&bytes).map_err(de::Error::custom)
            }
        }
    )*};
}

ids!(MessageId, Token, WorkerId);

/// Types that are stored as a number.
macro_rules! numbers {
    ($($name:ident: $number:ty = $to:ident, $from:expr;)*) => {$(
        #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.$to().serialize(serializer)
            }
        }

        #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = <$number>::deserialize(deserializer)?;
                let value: Option<Self> = $from(number);
                value.ok_or_else(|| de::Error::custom(format_args!(concat!("{} is no ", stringify!($name)), number)))
            }
        }
    )*};
}

numbers! {
    Priority: i16 = as_i16, Self::from_i16;
    Lane: i16 = as_i16, Self::from_i16;
    Timestamp: i64 = as_micros, |micros| Some(Self::from_micros(micros));
}

/// Types that are stored as a text.
macro_rules! texts {
    ($($name:ident: $what:literal, $to:expr, $from:expr;)*) => {$(
        #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let to: fn(&Self) -> &str = $to;
                serializer.serialize_str(to(self))
            }
        }

        #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text($what, $from))
            }
        }
    )*};
}

texts! {
    EventType: "an event type", Self::as_str, Self::new;
    Recorded: "what is recorded of an attempt", |recorded| recorded.as_str(), |word| {
        Self::parse(word).ok_or_else(|| format!("{word:?} is not recorded of any attempt"))
    };
    Status: "a status in capitals", |status| status.as_str(), |name| Self::parse(name).ok_or_else(|| format!("{name:?} is no status"));
    PauseScope: "an event type, or nothing for everything", stored_scope, |key| {
        if key.is_empty() { Ok(Self::Everything) } else { EventType::new(key).map(Self::Type) }
    };
}

fn stored_scope(scope: &PauseScope) -> &str {
    match scope {
        PauseScope::Everything => "",
        PauseScope::Type(event_type) => event_type,
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The length first, which formats without a closing mark need.
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of headers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Headers::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    headers.insert(name, value);
                }
                Ok(headers)
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bits = serializer.serialize_struct("Bits", 2)?;
        bits.serialize_field("len", &self.len())?;
        bits.serialize_field("set", &Blob(self.to_bytes().into()))?;
        bits.end()
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(rename = "Bits")]
        struct Stored {
            len: u32,
            set: Blob,
        }

        let Stored { len, set: Blob(bytes) } = Stored::deserialize(deserializer)?;
        // Checked before anything of that length is allocated.
        if bytes.len() != len.div_ceil(8) as usize {
            return Err(de::Error::custom(format_args!("{len} bits do not have {} bytes", bytes.len())));
        }
        let bits = Self::from_bytes(len, &bytes);
        if bits.to_bytes() != bytes {
            Err(de::Error::custom(format_args!("a bit is set beyond the {len} that there are")))
        } else {
            Ok(bits)
        }
    }
}

struct Blob(Bytes);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        payload::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        payload::deserialize(deserializer).map(Self)
    }
}

/// Bytes: base64 in text formats, where a list of numbers would take four times their size.
pub(crate) mod payload {
    use super::{Bytes, Deserializer, Engine, STANDARD, SeqAccess, Serializer, Text, Visitor, de, fmt};

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.serialize_str(&STANDARD.encode(bytes)) } else { serializer.serialize_bytes(bytes) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_str(Text("bytes in base64", |text| STANDARD.decode(text).map(Bytes::from)));
        }
        deserializer.deserialize_byte_buf(Raw)
    }

    struct Raw;

    impl<'de> Visitor<'de> for Raw {
        type Value = Bytes;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
            Ok(Bytes::copy_from_slice(bytes))
        }

        fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
            Ok(bytes.into())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = seq.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::num::NonZeroU16;

    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::message::StoredMessage;
    use crate::protocol::Waiting;
    use crate::status::{ClaimEntry, OutcomeEntry};
    use crate::storage::Pause;

    const AT: Timestamp = Timestamp::from_micros(1_764_345_600_000_001);

    fn id<T: FromStr<Err: Debug>>() -> T {
        "019ac8f0-7c3a-7b1e-8d52-3f1c0a9b8e77".parse().unwrap()
    }

    /// Through a text and a binary format, and by the form that rows in the field have.
    #[track_caller]
    fn keeps<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, form: &Value) {
        assert_eq!(serde_json::to_value(value).unwrap(), *form);
        assert_eq!(serde_json::from_value::<T>(form.clone()).unwrap(), *value);
        // From a reader nothing can be borrowed.
        assert_eq!(serde_json::from_reader::<_, T>(form.to_string().as_bytes()).unwrap(), *value);
        let bytes = postcard::to_stdvec(value).unwrap();
        assert_eq!(postcard::from_bytes::<T>(&bytes).unwrap(), *value);
    }

    #[track_caller]
    fn refuses<T: DeserializeOwned + Debug>(form: &Value, why: &str) {
        let error = serde_json::from_value::<T>(form.clone()).unwrap_err().to_string();
        assert!(error.contains(why), "{form}: {error}");
    }

    fn stored() -> StoredMessage {
        let mut message = StoredMessage::new(id(), EventType::new("order.placed").unwrap(), Bytes::from_static(b"\x00{}\xff"), AT);
        message.headers = [("traceparent", "00-1"), ("a", "b")].into_iter().collect();
        message.tenant = Some("acme".to_owned());
        message.priority = Priority::High;
        message.max_attempts = NonZeroU16::new(3);
        message.scheduled_at = Some(Timestamp::from_micros(-1));
        message
    }

    #[test]
    fn single_values_keep_the_forms_of_columns() {
        let text = json!("019ac8f0-7c3a-7b1e-8d52-3f1c0a9b8e77");
        keeps(&id::<MessageId>(), &text);
        keeps(&id::<Token>(), &text);
        keeps(&id::<WorkerId>(), &text);
        keeps(&AT, &json!(1_764_345_600_000_001_i64));
        keeps(&Timestamp::from_micros(i64::MIN), &json!(i64::MIN));
        keeps(&EventType::new("order.placed").unwrap(), &json!("order.placed"));
        keeps(&Bits::from_indices(10, [0, 9]), &json!({"len": 10, "set": "AQI="}));
        keeps(&Bits::default(), &json!({"len": 0, "set": ""}));
        keeps(&PauseScope::Everything, &json!(""));
        for priority in [Priority::High, Priority::Normal, Priority::Low] {
            keeps(&priority, &json!(priority.as_i16()));
        }
        for lane in Lane::ORDINARY.into_iter().chain([Lane::Suspect]) {
            keeps(&lane, &json!(lane.as_i16()));
        }
        for recorded in Recorded::ALL {
            keeps(&recorded, &json!(recorded.as_str()));
        }
        for status in Status::ALL {
            keeps(&status, &json!(status.as_str()));
        }
    }

    #[test]
    fn ids_are_sixteen_bytes_in_binary_formats() {
        let token: Token = id();
        assert_eq!(postcard::to_stdvec(&token).unwrap()[1..], *token.as_bytes());
    }

    #[test]
    fn rows_keep_their_forms() {
        let form = json!({
            "id": "019ac8f0-7c3a-7b1e-8d52-3f1c0a9b8e77", "event_type": "order.placed", "payload": "AHt9/w==",
            "headers": {"a": "b", "traceparent": "00-1"}, "content_type": null, "idempotency_key": null, "ordering_key": null,
            "tenant": "acme", "organisation": null, "correlation_id": null, "priority": 1, "max_attempts": 3, "scheduled_at": -1,
            "created_at": 1_764_345_600_000_001_i64,
        });
        keeps(&stored(), &form);
        let mut waiting = Waiting::new(Lane::Suspect, 2);
        waiting.crashes = 3;
        keeps(&waiting, &json!({"lane": 4, "attempt": 2, "crashes": 3}));
        let claim = ClaimEntry::new(id(), 1, "w".to_owned(), AT);
        keeps(&claim, &json!({"token": id::<Token>(), "attempt": 1, "worker": "w", "at": AT}));
        let mut outcome = OutcomeEntry::new(Recorded::Failed, 1, AT);
        outcome.error = Some("boom".to_owned());
        keeps(&outcome, &json!({"token": null, "recorded": "failed", "attempt": 1, "error": "boom", "at": AT}));
        let pause = Pause::new("mail".into(), AT, None);
        keeps(&pause, &json!({"scope": "mail", "since": AT, "until": null, "reason": null, "by": null}));
    }

    #[test]
    fn a_row_of_another_release_is_read() {
        let form = json!({"id": id::<MessageId>(), "event_type": "a", "payload": "", "created_at": 1, "of_a_later_release": 7});
        let read: StoredMessage = serde_json::from_value(form).unwrap();
        assert_eq!(read, StoredMessage::new(id(), EventType::new("a").unwrap(), Bytes::new(), Timestamp::from_micros(1)));
    }

    #[test]
    fn what_constructors_refuse_is_refused() {
        refuses::<EventType>(&json!(""), "empty");
        refuses::<EventType>(&json!("a\nb"), "U+000A");
        refuses::<EventType>(&json!("x".repeat(256)), "255");
        refuses::<PauseScope>(&json!("a\nb"), "U+000A");
        refuses::<Priority>(&json!(0), "0 is no Priority");
        refuses::<Lane>(&json!(5), "5 is no Lane");
        refuses::<Recorded>(&json!("OK"), "OK");
        refuses::<Status>(&json!("created"), "created");
        refuses::<MessageId>(&json!("7"), "not a UUID");
        refuses::<Timestamp>(&json!("2026-11-28T16:00:00Z"), "invalid type");
        refuses::<Bits>(&json!({"len": u32::MAX, "set": "AQI="}), "4294967295 bits do not have 2 bytes");
        refuses::<Bits>(&json!({"len": 9, "set": "AQI="}), "beyond the 9");
        let mut form = serde_json::to_value(stored()).unwrap();
        form["max_attempts"] = json!(0);
        refuses::<StoredMessage>(&form, "nonzero");
        form["payload"] = json!("a");
        refuses::<StoredMessage>(&form, "");
        let short = postcard::to_stdvec(&[1_u8; 3][..]).unwrap();
        assert!(postcard::from_bytes::<Token>(&short).is_err());
    }
}
