//! Where a server listens and who logs in, as URL and back.

use anyhow::{Context, Result, bail};

/// The port of a URL that names none.
const PORT: u16 = 5432;

/// The address of a PostgreSQL server, or of what speaks like one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, an IP address, or the folder of a unix socket.
    pub host: String,
    /// The port; of a unix socket the end of its name.
    pub port: u16,
    /// The user who logs in.
    pub user: String,
    /// The password, where one is asked for.
    pub password: Option<String>,
}

impl Address {
    /// The URL of a database, in a form that libpq and the drivers of Rust understand.
    ///
    /// A unix socket is given as `postgres:///database?host=/folder&port=5432&user=name`.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let Self { host, port, user, password } = self;
        let (database, user) = (encode(database), encode(user));
        let password = password.as_deref().map(encode);
        if host.starts_with('/') {
            let password = password.map_or_else(String::new, |password| format!("&password={password}"));
            return format!("postgres:///{database}?host={host}&port={port}&user={user}{password}");
        }
        let password = password.map_or_else(String::new, |password| format!(":{password}"));
        format!("postgres://{user}{password}@{host}:{port}/{database}")
    }

    /// Reads a URL; returns the address and the name of the database.
    ///
    /// Of the parameters `host`, `port`, `user` and `password` are taken. Without a user it is `postgres`, without a database that of the
    /// user's name.
    ///
    /// # Errors
    ///
    /// If it is no `postgres://` or `postgresql://` URL of one host.
    pub fn parse(url: &str) -> Result<(Self, String)> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let Some(rest) = rest else {
            bail!("a URL of PostgreSQL begins with postgres://, and this one does not");
        };
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
        let (host, port) = match place.rsplit_once(':') {
            // The colons of an IPv6 address stand in brackets.
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (place, ""),
        };
        let (mut host, mut port, mut user) = (decode(host), port.to_owned(), decode(user));
        let mut password = password.map(decode);
        for (name, value) in parameters.split('&').filter_map(|parameter| parameter.split_once('=')) {
            match name {
                "host" => host = decode(value),
                "port" => value.clone_into(&mut port),
                "user" => user = decode(value),
                "password" => password = Some(decode(value)),
                _ => {}
            }
        }
        if host.contains(',') {
            bail!("the URL names several hosts: give one");
        }
        let port = if port.is_empty() {
            PORT
        } else {
            port.parse().context("the URL has a port that is no number; a password is percent-encoded")?
        };
        let host = if host.is_empty() { "127.0.0.1".to_owned() } else { host.trim_matches(['[', ']']).to_owned() };
        let user = if user.is_empty() { "postgres".to_owned() } else { user };
        let database = if database.is_empty() { user.clone() } else { decode(database) };
        Ok((Self { host, port, user, password }, database))
    }
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|code| std::str::from_utf8(code).ok()).and_then(|code| u8::from_str_radix(code, 16).ok());
        match code {
            Some(code) if *first == b'%' => {
                bytes.push(code);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, password: Option<&str>) -> Address {
        Address { host: host.to_owned(), port: 5433, user: "me".to_owned(), password: password.map(str::to_owned) }
    }

    #[test]
    fn a_url_is_read_as_it_was_written() {
        for address in [address("127.0.0.1", None), address("db", Some("p@ss/w:rd%")), address("/var/run/postgresql", Some("&?"))] {
            assert_eq!(Address::parse(&address.url("a b")).unwrap(), (address, "a b".to_owned()));
        }
    }

    #[test]
    fn what_a_url_leaves_out_has_a_default() {
        let (address, database) = Address::parse("postgresql://localhost").unwrap();
        assert_eq!(address.url(&database), "postgres://postgres@localhost:5432/postgres");
        let (address, _) = Address::parse("postgres://[::1]/a").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("::1", 5432));
    }

    #[test]
    fn what_is_no_url_of_postgresql_is_refused() {
        assert!(Address::parse("sqlite://a").is_err());
        assert!(Address::parse("postgres://a:b/c").is_err());
        assert!(Address::parse("postgres://a,b/c").is_err());
    }
}
