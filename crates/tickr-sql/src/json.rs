//! The two values that are stored as JSON text, the same way in every database.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;
use tickr_core::{Error, ErrorKind, EventType, Headers, Result};

/// Headers as a JSON object of strings; `None` when there are none.
///
/// # Errors
/// None for text; [`Codec`](ErrorKind::Codec) is the encoder's.
pub fn encode_headers(headers: &Headers) -> Result<Option<String>> {
    if headers.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_string(&Object(headers));
    text.map(Some).map_err(|source| Error::new(ErrorKind::Codec, "headers cannot be encoded").with_source(source))
}

/// Headers as they are written.
struct Object<'h>(&'h Headers);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

/// Reads what [`encode_headers`] wrote.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt) when it is no JSON object of strings.
pub fn decode_headers(text: &str) -> Result<Headers> {
    if let Some(headers) = lone(text) {
        return Ok(headers);
    }
    let read = serde_json::from_str::<Pairs>(text);
    let corrupt = |source| Error::new(ErrorKind::Corrupt, "stored headers are not a JSON object of strings").with_source(source);
    read.map(|Pairs(headers)| headers).map_err(corrupt)
}

/// One header with nothing to unescape: with tracing nearly every message has this and no more.
fn lone(text: &str) -> Option<Headers> {
    let pair = text.strip_prefix(r#"{""#)?.strip_suffix(r#""}"#)?;
    let (name, rest) = pair.split_at(pair.find('"')?);
    let value = rest.strip_prefix(r#"":""#)?;
    // To the end in any case, which many bytes at a time can do.
    let is_plain = |text: &str| text.bytes().fold(true, |plain, byte| plain & (byte >= b' ') & (byte != b'"') & (byte != b'\\'));
    (is_plain(name) && is_plain(value)).then(|| Headers::from_iter([(name, value)]))
}

/// An object of strings. By way of a map of values it would be read twice.
struct Pairs(Headers);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Pairs, A::Error> {
                let mut headers = Headers::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    headers.insert(name, value);
                }
                Ok(Pairs(headers))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Names as a JSON array of strings.
pub fn encode_names<'a>(names: impl IntoIterator<Item = &'a EventType>) -> String {
    Value::from_iter(names.into_iter().map(EventType::as_str)).to_string()
}

/// Reads what [`encode_names`] wrote.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt) when it is no JSON array of strings.
pub fn decode_names(text: &str) -> Result<Vec<EventType>> {
    let names: Vec<String> = serde_json::from_str(text)
        .map_err(|source| Error::new(ErrorKind::Corrupt, "stored event types are not a JSON array of strings").with_source(source))?;
    Ok(names.into_iter().map(EventType::from_stored).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        let headers: Headers = [("a", "1"), ("quote", "\"\\\n\u{e9}")].into_iter().collect();
        let text = encode_headers(&headers).unwrap().unwrap();
        assert_eq!(decode_headers(&text).unwrap(), headers);
        assert_eq!(encode_headers(&Headers::new()).unwrap(), None);
    }

    #[test]
    fn a_lone_header_is_read_as_any_other() {
        let usual = r#"{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#;
        assert!(lone(usual).is_some(), "what is usual is read quickly");
        for at in 0..=usual.len() {
            for with in ["", "\"", "\\", "\\\"", "\\u00e9", "\u{e9}", "\n", "\u{7f}", " ", ",", ":", "{", "}", r#"","b":""#] {
                for keep in [at, (at + 1).min(usual.len())] {
                    let text = [&usual[..at], with, &usual[keep..]].concat();
                    let read = serde_json::from_str::<Pairs>(&text).map(|Pairs(headers)| headers);
                    if let Some(headers) = lone(&text) {
                        assert_eq!(headers, read.unwrap(), "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_text_is_corrupt() {
        assert_eq!(decode_headers(r#"{"a":1}"#).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(decode_headers("[]").unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn names_round_trip() {
        let names = [EventType::new("a").unwrap(), EventType::new("b\"c").unwrap()];
        assert_eq!(decode_names(&encode_names(&names)).unwrap(), names);
    }
}
