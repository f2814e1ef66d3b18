//! PgBouncer in front of a PostgreSQL server.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::address::Address;
use crate::detached::{Detached, Kind};
use crate::folder::Folder;
use crate::install::Package;
use crate::probe::{self, Answer};
use crate::server::{Look, Server};
use crate::version::Version;
use crate::{debian, port, program};

/// The first version with prepared statements in transaction mode, <https://www.pgbouncer.org/changelog.html>.
const PREPARED_STATEMENTS: Version = Version { major: 1, minor: 21 };

/// The name of the program.
const PROGRAM: &str = "pgbouncer";

/// How often another port is tried when somebody took the one that was free.
const PORTS_MAX: u32 = 5;

/// For how long a client keeps a connection to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolMode {
    /// Until it goes.
    Session,
    /// For one transaction.
    #[default]
    Transaction,
    /// For one statement.
    Statement,
}

impl fmt::Display for PoolMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        })
    }
}

/// Whom PgBouncer lets in. It never asks for a password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Everybody; to the database all are the upstream's user.
    #[default]
    Any,
    /// The upstream's user.
    Trust,
}

/// A PgBouncer of one's own; stopped and removed when dropped.
#[derive(Debug)]
pub struct Bouncer {
    server: Server,
    version: Version,
    port: u16,
    user: String,
    database: String,
}

/// What a PgBouncer is to be like.
#[derive(Clone, Debug)]
pub struct BouncerBuilder {
    upstream: Address,
    database: String,
    program: Option<PathBuf>,
    pool_mode: PoolMode,
    auth: Auth,
    prepared_statements: Option<u32>,
    settings: Vec<(String, String)>,
}

impl BouncerBuilder {
    /// Takes this program, [`Bouncer::newest`] for instance, instead of the one that is in `PATH` or in `/usr/sbin`.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// The database that a client has to reach before it is taken for started: `postgres`, if nothing else is said.
    #[must_use]
    pub fn database(mut self, database: &str) -> Self {
        database.clone_into(&mut self.database);
        self
    }

    /// For how long clients keep a connection: for a transaction, if nothing else is said.
    #[must_use]
    pub fn pool_mode(mut self, pool_mode: PoolMode) -> Self {
        self.pool_mode = pool_mode;
        self
    }

    /// Whom it lets in: everybody, if nothing else is said.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Keeps that many prepared statements per connection of clients, where the version can: see [`Bouncer::has_prepared_statements`].
    /// 0 is none. If nothing else is said it is as PgBouncer has it: none before 1.24, then 200.
    #[must_use]
    pub fn max_prepared_statements(mut self, count: u32) -> Self {
        self.prepared_statements = Some(count);
        self
    }

    /// Sets a parameter of the section `[pgbouncer]`, also one that has a value here already.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and returns when a client gets through to the upstream.
    ///
    /// # Errors
    ///
    /// If PgBouncer is not on the machine, does not start, or does not reach the upstream: the error has the end of its log.
    pub fn start(self) -> Result<Bouncer> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => Bouncer::find()?,
        };
        let version = version(&program)?;
        let folder = Folder::create()?;
        let program = reachable_for(&folder, program)?;
        let server = Server::new(format!("PgBouncer {version}"), Kind::Bouncer, folder)?;
        let mut bouncer = Bouncer { server, version, port: 0, user: self.upstream.user.clone(), database: self.database.clone() };
        let mut attempt = 0;
        loop {
            bouncer.port = port::free(attempt)?;
            attempt += 1;
            match bouncer.start(&program, &self) {
                Ok(()) => return Ok(bouncer),
                Err(error) if attempt == PORTS_MAX || !bouncer.log().contains("ddress already in use") => return Err(error),
                // The next attempt is not to be judged by what the last one said.
                Err(_) => fs::remove_file(bouncer.server.log()).context("could not begin a new log")?,
            }
        }
    }

    /// <https://www.pgbouncer.org/config.html>
    fn configuration(&self, folder: &Folder, port: u16, version: Version) -> Result<String> {
        let Address { host, port: upstream, user, password } = &self.upstream;
        let mut text = format!("[databases]\n* = host={} port={upstream}", quote(host)?);
        if self.auth == Auth::Any {
            write!(text, " user={}", quote(user)?)?;
            if let Some(password) = password {
                write!(text, " password={}", quote(password)?)?;
            }
        }
        let auth = match self.auth {
            Auth::Any => "any",
            Auth::Trust => "trust",
        };
        let place = folder.path().display();
        write!(text, "\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = {place}\n")?;
        write!(text, "auth_type = {auth}\nauth_file = {place}/users.txt\nadmin_users = {user}\npool_mode = {}\n", self.pool_mode)?;
        // Drivers send it, and it changes nothing in how tests read numbers.
        text.push_str("ignore_startup_parameters = extra_float_digits\nmax_client_conn = 500\ndefault_pool_size = 50\n");
        if let Some(count) = self.prepared_statements.filter(|_| version >= PREPARED_STATEMENTS) {
            writeln!(text, "max_prepared_statements = {count}")?;
        }
        for (name, value) in &self.settings {
            if name.contains(['\n', '=', '[']) || value.contains('\n') {
                bail!("`{name}` is no setting of PgBouncer, or its value has several lines");
            }
            writeln!(text, "{name} = {value}")?;
        }
        Ok(text)
    }

    /// <https://www.pgbouncer.org/config.html#authentication-file-format>
    fn users(&self) -> String {
        let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        format!("{} {}\n", quote(&self.upstream.user), quote(self.upstream.password.as_deref().unwrap_or("")))
    }
}

impl Bouncer {
    /// Begins to describe a PgBouncer in front of that server, reached by TCP or a unix socket.
    #[must_use]
    pub fn builder(upstream: Address) -> BouncerBuilder {
        let (pool_mode, auth) = (PoolMode::default(), Auth::default());
        BouncerBuilder {
            upstream,
            database: "postgres".to_owned(),
            program: None,
            pool_mode,
            auth,
            prepared_statements: None,
            settings: Vec::new(),
        }
    }

    /// Finds the program: in `PATH`, where Debian puts it, or the one that [`Self::fetch_newest`] has fetched.
    ///
    /// # Errors
    ///
    /// If it is not there; the error says what to install.
    pub fn find() -> Result<PathBuf> {
        Self::installed().or_else(|error| debian::program(&debian::BOUNCER, PROGRAM).ok_or(error))
    }

    /// Finds the program that is installed: in `PATH`, or where Debian puts it.
    ///
    /// # Errors
    ///
    /// If it is not there; the error says what to install.
    pub fn installed() -> Result<PathBuf> {
        program::find(PROGRAM).with_context(|| format!("PgBouncer is not on this machine; {}", Package::Bouncer.advice()))
    }

    /// Finds a program that has prepared statements, without any network: the one that [`Self::fetch_newest`] has fetched before, or the
    /// system's.
    ///
    /// # Errors
    ///
    /// If nothing was fetched, and the system's is older or not there.
    pub fn newest() -> Result<PathBuf> {
        let own = || Self::installed().ok().filter(|program| version(program).is_ok_and(|version| version >= PREPARED_STATEMENTS));
        debian::program(&debian::BOUNCER, PROGRAM).or_else(own).with_context(|| {
            format!(
                "there is no PgBouncer {PREPARED_STATEMENTS} or later in PATH, and none was fetched: \
                 `cargo xtask services up pgbouncer-prepared` does on Debian; elsewhere install one"
            )
        })
    }

    /// As [`Self::newest`], and fetches it with `apt-get` if it is not there: on an older Debian the packages of a newer one, of which
    /// 14 MB stay in the user's cache folder. Nothing is installed, so nobody has to be root.
    ///
    /// # Errors
    ///
    /// If the system is not Debian, or its mirror cannot be reached.
    pub fn fetch_newest() -> Result<PathBuf> {
        if let Ok(program) = Self::newest() {
            return Ok(program);
        }
        debian::fetch(&debian::BOUNCER).with_context(|| {
            format!("could not fetch PgBouncer {PREPARED_STATEMENTS} or later, with prepared statements (one in PATH would be taken)")
        })?;
        Self::newest()
    }

    /// The URL of a database, by TCP, for the upstream's user. The database `pgbouncer` is its own console.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.address().url(database)
    }

    /// Where it listens, by TCP.
    #[must_use]
    pub fn address(&self) -> Address {
        Address { host: "127.0.0.1".to_owned(), port: self.port, user: self.user.clone(), password: None }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process; none if it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// The version of PgBouncer.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Tells whether this version knows prepared statements in transaction mode, and so
    /// [`max_prepared_statements`](BouncerBuilder::max_prepared_statements).
    #[must_use]
    pub fn has_prepared_statements(&self) -> bool {
        self.version >= PREPARED_STATEMENTS
    }

    /// All of its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.server.folder().path()
    }

    /// Everything that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.read_log()
    }

    /// Lets it run on when this process ends.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn detach(self) -> Result<Detached> {
        self.server.detach()
    }

    fn start(&mut self, program: &Path, builder: &BouncerBuilder) -> Result<()> {
        let folder = self.server.folder();
        let configuration = folder.write("pgbouncer.ini", &builder.configuration(folder, self.port, self.version)?)?;
        folder.write("users.txt", &builder.users())?;
        let mut command: Command = folder.command(program);
        command.arg(configuration);
        let (port, user, database) = (self.port, self.user.clone(), self.database.clone());
        self.server.start(command, |server| look(server, port, &user, &database))
    }
}

fn version(program: &Path) -> Result<Version> {
    let said = program::output(Command::new(program).arg("--version"))?;
    Version::parse(&said).with_context(|| format!("`{} --version` says no version: {}", program.display(), said.trim()))
}

/// The same program where the user of the servers can run it. One that was not fetched is where it is, to be run or not.
fn reachable_for(folder: &Folder, program: PathBuf) -> Result<PathBuf> {
    match debian::folder(&debian::BOUNCER) {
        Ok(tree) if program.starts_with(&tree) && !folder.can_run(&program) => Ok(folder.adopt(&tree)?.join(PROGRAM)),
        _ => Ok(program),
    }
}

/// A value of a connection string.
fn quote(value: &str) -> Result<String> {
    if value.contains('\n') {
        bail!("a user or password of several lines");
    }
    Ok(format!("'{}'", value.replace('\'', "''")))
}

/// Its log tells that the port is its own; only then a client tries to get through to the upstream.
fn look(server: &Server, port: u16, user: &str, database: &str) -> Look {
    if !server.read_log().contains(&format!("listening on 127.0.0.1:{port}")) {
        return Look::Waiting(format!("{} does not listen on its port", server.name()));
    }
    match probe::log_in(port, user, database) {
        Ok(Answer::Welcome) => Look::Ready,
        Ok(Answer::Refusal { code, message }) => Look::Waiting(format!("it refuses a client: {message} ({code})")),
        Err(error) => Look::Waiting(format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(minor: u32) -> String {
        let upstream = Address { host: "127.0.0.1".to_owned(), port: 1, user: "it's".to_owned(), password: Some("p".to_owned()) };
        let builder = Bouncer::builder(upstream).max_prepared_statements(100).setting("server_lifetime", "60");
        builder.configuration(&Folder::create().unwrap(), 2, Version { major: 1, minor }).unwrap()
    }

    #[test]
    fn prepared_statements_are_set_where_the_version_knows_them() {
        assert!(!configuration(20).contains("max_prepared_statements"));
        assert!(configuration(21).contains("max_prepared_statements = 100\n"));
    }

    #[test]
    fn the_upstream_is_quoted_and_settings_come_last() {
        let text = configuration(18);
        assert!(text.contains("* = host='127.0.0.1' port=1 user='it''s' password='p'\n"), "{text}");
        assert!(text.ends_with("server_lifetime = 60\n"), "{text}");
    }
}
