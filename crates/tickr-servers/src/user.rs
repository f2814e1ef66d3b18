//! The user as whom servers run.

use std::fs;

use anyhow::{Context, Result, bail};

/// Users without rights that a Unix system has, the best first.
const UNPRIVILEGED: &[&str] = &["postgres", "nobody"];

/// A user of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// Finds a user to be instead of root, whom servers refuse to be.
    pub(crate) fn unprivileged() -> Result<Self> {
        let passwd = fs::read_to_string("/etc/passwd").context("could not read /etc/passwd to find a user other than root")?;
        match UNPRIVILEGED.iter().find_map(|name| Self::named(name, &passwd)) {
            Some(user) => Ok(user),
            None => bail!(
                "database servers refuse to run as root, and there is no user {}: run this as another user",
                UNPRIVILEGED.join(" or ")
            ),
        }
    }

    /// <https://man7.org/linux/man-pages/man5/passwd.5.html>
    fn named(name: &str, passwd: &str) -> Option<Self> {
        let mut fields = passwd.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(name))?;
        let mut number = |index| fields.nth(index).and_then(|field| field.parse().ok());
        Some(Self { name: name.to_owned(), uid: number(2)?, gid: number(0)? }).filter(|user| user.uid != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let passwd = "root:x:0:0::/:/bin/sh\npostgresql:x:1:1::/:/bin/sh\npostgres:x:101:104:,,,:/var:/bin/sh\n";
        let user = User::named("postgres", passwd).unwrap();
        assert_eq!((user.uid, user.gid), (101, 104));
        assert_eq!(User::named("nobody", passwd), None);
        assert_eq!(User::named("root", passwd), None);
    }
}
