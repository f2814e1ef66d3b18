//! A database of one's own on a server that is there anyway.

use std::env;
use std::fmt;
use std::path::Path;
use std::process::{self, Command, Stdio};

use anyhow::Result;
use tickr_servers::{Address, Guard};

use crate::shell;

/// Where servers put their unix sockets: Debian and its like, and PostgreSQL as it comes.
const SOCKETS: &[&str] = &["/var/run/postgresql", "/tmp"];

/// PostgreSQL's own port.
const PORT: u16 = 5432;

/// Removes the database `$4` on host `$1`, port `$2`, as user `$3`. Servers before 13 know no `FORCE`.
const DROP: &str = r#"
unset PGSERVICE PGOPTIONS PGPASSWORD
if command -v psql >/dev/null; then
  drop() { psql -XqAtw -h "$1" -p "$2" -U "$3" -d postgres -c "DROP DATABASE IF EXISTS \"$4\" $5"; }
else
  drop() { dropdb -w --if-exists ${5:+--force} -h "$1" -p "$2" -U "$3" "$4"; }
fi
drop "$1" "$2" "$3" "$4" "WITH (FORCE)" || drop "$1" "$2" "$3" "$4" ""
"#;

/// How the server must be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// By TCP, or a unix socket.
    Any,
    /// By TCP, because others than the own user will come.
    Tcp,
}

/// A database that is dropped with this.
#[derive(Debug)]
pub(super) struct Scratch {
    address: Address,
    database: String,
    _guard: Guard,
}

impl Scratch {
    /// Makes a database on the first server that lets it, without a password; none if none does.
    pub(super) fn make(reach: Reach) -> Result<Option<Self>> {
        let Some(client) = Client::find() else {
            return Ok(None);
        };
        let database = format!("tickr_test_{}", process::id());
        for address in addresses(reach) {
            let Address { host, port, user, .. } = &address;
            // Before the database is made: whatever happens in between, it goes.
            let mut guard = Guard::arm(DROP, &[host, &port.to_string(), user, &database])?;
            if shell::works(&mut client.create(&address, &database)) {
                return Ok(Some(Self { address, database, _guard: guard }));
            }
            guard.disarm();
        }
        Ok(None)
    }

    pub(super) fn url(&self) -> String {
        self.address.url(&self.database)
    }
}

impl fmt::Display for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { host, port, user, .. } = &self.address;
        write!(f, "the scratch database {} of {user} on {host}, port {port}", self.database)
    }
}

/// Servers to try. TCP comes first, though it is the same server: all drivers know it.
fn addresses(reach: Reach) -> Vec<Address> {
    let sockets = SOCKETS.iter().filter(|folder| Path::new(folder).join(format!(".s.PGSQL.{PORT}")).exists());
    let sockets = sockets.filter(|_| reach == Reach::Any).copied();
    let hosts: Vec<&str> = std::iter::once("127.0.0.1").chain(sockets).collect();
    let users = users();
    let of_host = |host: &&str| users.iter().map(|user| address(host, user)).collect::<Vec<_>>();
    hosts.iter().flat_map(of_host).collect()
}

fn address(host: &str, user: &str) -> Address {
    Address { host: host.to_owned(), port: PORT, user: user.to_owned(), password: None }
}

/// Whom to be there, the likeliest first.
fn users() -> Vec<String> {
    let own = shell::capture(Command::new("id").arg("-un")).ok().map(|name| name.trim().to_owned());
    let mut users = Vec::new();
    for user in [env::var("PGUSER").ok(), Some("postgres".to_owned()), own].into_iter().flatten() {
        if !user.is_empty() && !users.contains(&user) {
            users.push(user);
        }
    }
    users
}

/// A program that can make a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Psql,
    Createdb,
}

impl Client {
    fn find() -> Option<Self> {
        let exists = |name: &str| shell::works(Command::new(name).arg("--version"));
        if exists("psql") {
            return Some(Self::Psql);
        }
        exists("createdb").then_some(Self::Createdb)
    }

    fn create(self, address: &Address, database: &str) -> Command {
        let mut command = match self {
            Self::Psql => Command::new("psql"),
            Self::Createdb => Command::new("createdb"),
        };
        // Tests have the URL only: a password out of the environment or a file would not be theirs.
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        command.env("PGCONNECT_TIMEOUT", "3").env("PGPASSFILE", "/dev/null").stdin(Stdio::null());
        command.args(["-w", "-h", &address.host, "-p", &address.port.to_string(), "-U", &address.user]);
        match self {
            Self::Psql => {
                let statement = format!("CREATE DATABASE \"{database}\" TEMPLATE template0 ENCODING 'UTF8'");
                command.args(["-XqAt", "-d", "postgres", "-c", &statement])
            }
            Self::Createdb => command.args(["-T", "template0", "-E", "UTF8", database]),
        };
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_others_must_reach_is_sought_by_tcp_only() {
        assert!(addresses(Reach::Tcp).iter().all(|address| address.host == "127.0.0.1"));
        assert_eq!(addresses(Reach::Any)[0].host, "127.0.0.1");
    }

    #[test]
    fn nobody_is_asked_for_a_password() {
        for client in [Client::Psql, Client::Createdb] {
            let command = client.create(&address("127.0.0.1", "me"), "scratch");
            assert!(command.get_args().any(|argument| argument == "-w"));
        }
    }
}
