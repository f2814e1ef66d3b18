//! A PostgreSQL server of one's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::address::Address;
use crate::binaries::Binaries;
use crate::certificate::Certificate;
use crate::detached::{Detached, IMMEDIATE, Kind};
use crate::folder::Folder;
use crate::probe::{self, Answer};
use crate::server::{Look, Server};
use crate::version::Version;
use crate::{port, program};

/// The superuser of every cluster.
const SUPERUSER: &str = "postgres";

/// What a server says while it starts: `cannot_connect_now`, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
const STARTING: &str = "57P03";

/// Settings of every cluster, before those of the builder. Losing data with the machine does no harm here, so nothing waits for the
/// disk; `synchronous_commit` stays on, because what is promised to a client must survive the end of the server.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("fsync", "off"),
    ("max_connections", "200"),
    ("shared_buffers", "32MB"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
];

/// How often another port is tried when somebody took the one that was free.
const PORTS_MAX: u32 = 5;

/// How a cluster is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ends sessions, writes a checkpoint.
    Fast,
    /// Ends at once, as after a crash: the next start recovers from the log.
    Immediate,
}

/// A PostgreSQL server with a data directory of its own; stopped and removed when dropped.
///
/// It listens on a port of 127.0.0.1 and on a unix socket in [`Self::folder`]. Its superuser is `postgres`.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    binaries: Binaries,
    port: u16,
    password: Option<String>,
    certificate: Option<PathBuf>,
}

/// What a cluster is to be like.
#[derive(Clone, Debug, Default)]
pub struct ClusterBuilder {
    binaries: Option<Binaries>,
    password: Option<String>,
    tls: bool,
    settings: Vec<(String, String)>,
}

impl ClusterBuilder {
    /// Takes these programs instead of those that [`Binaries::find`] finds.
    #[must_use]
    pub fn binaries(mut self, binaries: Binaries) -> Self {
        self.binaries = Some(binaries);
        self
    }

    /// Asks everybody who comes by TCP for a password, with SCRAM-SHA-256; without this, and on the unix socket, all are trusted.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Offers TLS, with a certificate for `localhost` and `127.0.0.1` that the server signed itself. Needs the program `openssl`.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Sets a parameter of `postgresql.conf`, also one that has a value here already.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the cluster, in UTF-8 and the C locale, and returns when it takes connections.
    ///
    /// # Errors
    ///
    /// If PostgreSQL is not on the machine, or does not start: the error has the end of its log.
    pub fn start(self) -> Result<Cluster> {
        let folder = Folder::create()?;
        let binaries = self.binaries.clone().map_or_else(Binaries::find, Ok)?.reachable_for(&folder)?;
        let name = format!("PostgreSQL {}", binaries.version());
        // From here on a guard watches over the folder.
        let server = Server::new(name, Kind::Postgres, folder)?;
        let folder = server.folder();
        init(folder, &binaries, self.password.as_deref())?;
        let certificate = if self.tls { Some(Certificate::create(folder)?) } else { None };
        let settings = self.configuration(folder, certificate.as_ref()).context("could not write the settings of PostgreSQL")?;
        append(&folder.join("data/postgresql.conf"), &settings)?;
        let certificate = certificate.map(|certificate| certificate.certificate);
        let mut cluster = Cluster { server, binaries, port: 0, password: self.password, certificate };
        cluster.start_somewhere()?;
        Ok(cluster)
    }

    fn configuration(&self, folder: &Folder, certificate: Option<&Certificate>) -> std::io::Result<String> {
        let mut settings: Vec<(&str, String)> = SETTINGS.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        settings.push(("unix_socket_directories", folder.path().to_string_lossy().into_owned()));
        if let Some(Certificate { certificate, key }) = certificate {
            settings.push(("ssl", "on".to_owned()));
            settings.push(("ssl_cert_file", certificate.to_string_lossy().into_owned()));
            settings.push(("ssl_key_file", key.to_string_lossy().into_owned()));
        }
        settings.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let mut text = "\n# Of these and what is above the last one counts.\n".to_owned();
        for (name, value) in settings {
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') || value.contains('\n') {
                return Err(std::io::Error::other(format!("`{name}` is no setting, or its value has several lines")));
            }
            let value = value.replace('\\', "\\\\").replace('\'', "''");
            text.push_str(&format!("{name} = '{value}'\n"));
        }
        Ok(text)
    }
}

impl Cluster {
    /// Begins to describe a cluster.
    #[must_use]
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// The URL of a database for the superuser, by TCP. The databases of a new cluster are `postgres`, `template0` and `template1`.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.address().url(database)
    }

    /// Where it listens, by TCP.
    #[must_use]
    pub fn address(&self) -> Address {
        Address { host: "127.0.0.1".to_owned(), port: self.port, user: SUPERUSER.to_owned(), password: self.password.clone() }
    }

    /// Where it listens on a unix socket, which asks for no password. Only the user of the server, and root, can enter the folder.
    #[must_use]
    pub fn socket_address(&self) -> Address {
        let host = self.folder().to_string_lossy().into_owned();
        Address { host, port: self.port, user: SUPERUSER.to_owned(), password: None }
    }

    /// The port, which stays the same over stops and starts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The main process; none while it is stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// The version of the server.
    #[must_use]
    pub fn version(&self) -> Version {
        self.binaries.version()
    }

    /// The programs it was made with.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// All of its files: `data`, `log`, the unix socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.server.folder().path()
    }

    /// The certificate to trust, where there is TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<&Path> {
        self.certificate.as_deref()
    }

    /// Everything that the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.read_log()
    }

    /// Stops the server and waits for its end; does nothing if it is stopped. What does not end in time is killed.
    pub fn stop(&mut self, how: Stop) {
        let signals = self.server.signals();
        let first = match how {
            Stop::Fast => 0,
            Stop::Immediate => signals.iter().position(|&signal| signal == IMMEDIATE).unwrap_or(0),
        };
        self.server.stop(&signals[first..]);
    }

    /// Starts the stopped server again, on the same port, and returns when it takes connections.
    ///
    /// # Errors
    ///
    /// If it runs, or does not start: the error has the end of its log.
    pub fn start(&mut self) -> Result<()> {
        let mut command: Command = self.server.folder().command(self.binaries.program("postgres"));
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        let (data, port) = (self.data(), self.port);
        self.server.start(command, |server| look(server, &data, port))
    }

    /// Starts a streaming replica of this server: a hot standby on a port of its own, with a copy of the data. It is asynchronous: the
    /// primary does not wait for it, so that it may lack the last transactions when the primary is gone.
    ///
    /// # Errors
    ///
    /// If `pg_basebackup` is not with the programs, or fails, or if the standby does not start.
    pub fn standby(&self) -> Result<Self> {
        let folder = Folder::create()?;
        let binaries = self.binaries.clone().reachable_for(&folder)?;
        let server = Server::new(format!("standby of PostgreSQL {}", binaries.version()), Kind::Postgres, folder)?;
        let folder = server.folder();
        let mut command = folder.command(binaries.program("pg_basebackup"));
        command.arg("-D").arg(folder.join("data")).args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", SUPERUSER]);
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password);
        }
        program::output(&mut command).context("could not copy the primary")?;
        let own = format!("unix_socket_directories = '{}'\n", folder.path().display());
        append(&folder.join("data/postgresql.conf"), &own)?;
        let (password, certificate) = (self.password.clone(), self.certificate.clone());
        let mut standby = Self { server, binaries, port: 0, password, certificate };
        standby.start_somewhere()?;
        Ok(standby)
    }

    /// Makes a standby the primary, and returns when it takes writes.
    ///
    /// # Errors
    ///
    /// If it is no standby, or does not run.
    pub fn promote(&self) -> Result<()> {
        let mut command = self.server.folder().command(self.binaries.program("pg_ctl"));
        command.arg("promote").arg("-D").arg(self.data()).arg("--wait");
        program::output(&mut command).map(drop).context("could not promote the standby")
    }

    /// Lets the server run on when this process ends.
    ///
    /// # Errors
    ///
    /// If it is stopped.
    pub fn detach(self) -> Result<Detached> {
        self.server.detach()
    }

    fn data(&self) -> PathBuf {
        self.server.folder().join("data")
    }

    /// Starts on a free port, and on another one if somebody took it meanwhile.
    fn start_somewhere(&mut self) -> Result<()> {
        let mut attempt = 0;
        loop {
            self.port = port::free(attempt)?;
            attempt += 1;
            match self.start() {
                Ok(()) => return Ok(()),
                Err(error) if attempt == PORTS_MAX || !self.log().contains("could not bind") => return Err(error),
                // The next attempt is not to be judged by what the last one said.
                Err(_) => fs::remove_file(self.server.log()).context("could not begin a new log")?,
            }
        }
    }
}

/// Adds to the settings of a server.
fn append(file: &Path, settings: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().append(true).open(file).context("could not open the settings of PostgreSQL")?;
    std::io::Write::write_all(&mut file, settings.as_bytes()).context("could not write the settings of PostgreSQL")
}

fn init(folder: &Folder, binaries: &Binaries, password: Option<&str>) -> Result<()> {
    let mut command = folder.command(binaries.program("initdb"));
    command.arg("-D").arg(folder.join("data"));
    command.args(["--username", SUPERUSER, "--encoding=UTF8", "--locale=C", "--no-sync", "--auth-local=trust"]);
    let secret = password.map(|password| folder.write("password", &format!("{password}\n"))).transpose()?;
    match &secret {
        Some(file) => command.arg("--auth-host=scram-sha-256").arg("--pwfile").arg(file),
        None => command.arg("--auth-host=trust"),
    };
    program::output(&mut command).with_context(|| format!("could not make a cluster of PostgreSQL {}", binaries.version()))?;
    if let Some(file) = secret {
        fs::remove_file(file).context("could not remove the file with the password")?;
    }
    Ok(())
}

/// The server tells in its pid file when it is ready, so that no other server on the port is taken for it; then it is asked.
/// <https://www.postgresql.org/docs/current/storage-file-layout.html>
fn look(server: &Server, data: &Path, port: u16) -> Look {
    const STATUS: usize = 7;
    let file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = file.lines();
    let own = lines.next().and_then(|line| line.trim().parse().ok()) == server.pid();
    let status = lines.nth(STATUS - 1).unwrap_or("").trim();
    if !own || status != "ready" {
        return Look::Waiting(format!("its pid file says {status:?}"));
    }
    match probe::log_in(port, SUPERUSER, SUPERUSER) {
        Ok(Answer::Refusal { code, message }) if code == STARTING => Look::Waiting(message),
        Ok(_) => Look::Ready,
        Err(error) => Look::Waiting(format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(name: &str, value: &str) -> std::io::Result<String> {
        Cluster::builder().setting(name, value).configuration(&Folder::create().unwrap(), None)
    }

    #[test]
    fn settings_are_quoted_and_come_last() {
        let text = configuration("application_name", r"it's a \").unwrap();
        assert!(text.ends_with("application_name = 'it''s a \\\\'\n"), "{text}");
        assert!(!text.contains("synchronous_commit"), "stays as PostgreSQL has it, on");
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        assert!(configuration("a b", "1").is_err());
        assert!(configuration("a", "1\nfsync = on").is_err());
    }
}
