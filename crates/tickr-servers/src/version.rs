//! Versions of servers, as far as decisions need them.

use std::fmt;

/// The first two numbers of a version: `18.6` of PostgreSQL, `1.18` of PgBouncer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second; 0 where there is none, as in `19beta1`.
    pub minor: u32,
}

impl Version {
    /// Reads the first word that begins with a digit, as in `postgres (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let word = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        let mut parts = word.split('.');
        let major = leading_number(parts.next()?)?;
        Some(Self { major, minor: parts.next().and_then(leading_number).unwrap_or(0) })
    }
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_programs_say() {
        let version = |text: &str| Version::parse(text).unwrap().to_string();
        assert_eq!(version("postgres (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)"), "15.12");
        assert_eq!(version("postgres (PostgreSQL) 19beta1"), "19.0");
        assert_eq!(version("PgBouncer 1.18.0\nlibevent 2.1.12-stable"), "1.18");
        assert_eq!(Version::parse("no number"), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(Version { major: 1, minor: 9 } < Version { major: 1, minor: 21 });
        assert!(Version { major: 9, minor: 6 } < Version { major: 18, minor: 0 });
    }
}
