//! Headers of a message.

use std::borrow::Cow;

/// Names that every message of a trace has: one text stands for all of them.
const COMMON: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// Text by name, for what travels beside the body: `traceparent`, `content-encoding`, routing keys. Names are case-sensitive.
///
/// All names and values together may have [`Limits::header_bytes`](crate::Limits) bytes (64 KiB).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(
    /// By name, each once: a message has few, and most that are traced have one.
    Vec<(Cow<'static, str>, String)>,
);

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).ok().map(|at| self.0[at].1.as_str())
    }

    /// Sets `name`, and gives back what it was.
    pub fn insert(&mut self, name: impl AsRef<str> + Into<String>, value: impl Into<String>) -> Option<String> {
        match self.find(name.as_ref()) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value.into())),
            Err(at) => {
                self.0.insert(at, (kept(name), value.into()));
                None
            }
        }
    }

    /// Sets `name` unless it is there: tracing never overwrites what the user wrote.
    pub fn insert_if_absent(&mut self, name: impl AsRef<str> + Into<String>, value: impl Into<String>) {
        if let Err(at) = self.find(name.as_ref()) {
            self.0.insert(at, (kept(name), value.into()));
        }
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.find(name).ok().map(|at| self.0.remove(at).1)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Where `name` is, or would be.
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(name))
    }
}

/// A name as it is kept.
fn kept(name: impl AsRef<str> + Into<String>) -> Cow<'static, str> {
    let common = COMMON.into_iter().find(|common| *common == name.as_ref());
    common.map_or_else(|| name.into().into(), Cow::Borrowed)
}

impl<N: AsRef<str> + Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    /// Of a name that comes twice the last value counts.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in iter {
            headers.insert(name, value);
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_value_and_the_names_are_in_order() {
        let mut headers: Headers = [("b", "1"), ("c", "2"), ("a", "3"), ("b", "4")].into_iter().collect();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("a", "3"), ("b", "4"), ("c", "2")]);
        assert_eq!(headers.insert("b", "5").as_deref(), Some("4"));
        headers.insert_if_absent("b", "6");
        headers.insert_if_absent("ab", "7");
        assert_eq!((headers.get("b"), headers.get("ab"), headers.get("d")), (Some("5"), Some("7"), None));
        assert_eq!((headers.remove("a").as_deref(), headers.remove("a")), (Some("3"), None));
        assert_eq!((headers.len(), headers.bytes()), (3, 7));
        assert_eq!(headers, [("c", "2"), ("ab", "7"), ("b", "5")].into_iter().collect());
    }
}
