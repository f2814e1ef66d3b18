//! The server that plans, and psql, which talks to it.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use tickr_servers::{Address, Cluster, Package, Version, ensure, may_install};

use crate::shell::Workspace;

/// How much there is of everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) purged: u64,
    pub(super) finished: u64,
    pub(super) scheduled: u64,
    pub(super) ready: u64,
    /// Claims.
    pub(super) open: u64,
    /// Members of a claim.
    pub(super) members: u64,
}

/// Enough to tell by.
pub(super) const SMALL: Size = Size { purged: 50_000, finished: 50_000, scheduled: 2_000, ready: 20_000, open: 20, members: 1_000 };

/// What a busy queue may hold.
pub(super) const LARGE: Size =
    Size { purged: 1_000_000, finished: 5_000_000, scheduled: 100_000, ready: 1_000_000, open: 20, members: 1_000 };

impl Size {
    /// As variables of psql.
    pub(super) fn variables(&self) -> String {
        let Self { purged, finished, scheduled, ready, open, members } = self;
        let pairs =
            [("purged", purged), ("finished", finished), ("scheduled", scheduled), ("ready", ready), ("open", open), ("members", members)];
        pairs.iter().map(|(name, value)| format!("\\set {name} {value}\n")).collect()
    }
}

/// A throw-away server with the planner's default settings, on which nothing happens by itself.
#[derive(Debug)]
pub(super) struct Server {
    cluster: Cluster,
    psql: PathBuf,
}

impl Server {
    pub(super) fn start() -> Result<Self> {
        ensure(&[Package::Postgres], may_install())?;
        let settings = [
            // What the tables hold is known to the planner when the script says so.
            ("autovacuum", "off"),
            ("shared_buffers", "1GB"),
            ("maintenance_work_mem", "256MB"),
            ("wal_level", "minimal"),
            ("max_wal_senders", "0"),
            ("max_wal_size", "16GB"),
            ("checkpoint_timeout", "1h"),
            ("full_page_writes", "off"),
            // A bad plan is to be told of, not waited for.
            ("statement_timeout", "20min"),
        ];
        let builder = settings.iter().fold(Cluster::builder(), |builder, (name, value)| builder.setting(name, value));
        let cluster = builder.start()?;
        let beside = cluster.binaries().program("psql");
        let psql = if beside.is_file() { beside } else { PathBuf::from("psql") };
        Ok(Self { cluster, psql })
    }

    /// The version, on whose major plans depend.
    pub(super) fn version(&self) -> Version {
        self.cluster.version()
    }

    /// Runs a script in one session, up to its first error; gives what it printed.
    pub(super) fn run(&self, script: &str) -> Result<String> {
        let Address { host, port, user, .. } = self.cluster.address();
        let mut command = Command::new(&self.psql);
        command.args(["-XqAtw", "-v", "ON_ERROR_STOP=1", "-h", &host, "-p", &port.to_string(), "-U", &user, "-d", "postgres"]);
        // Nothing of the caller's may change where it goes or what it finds there.
        for name in ["PGSERVICE", "PGOPTIONS", "PGHOSTADDR", "PGSSLMODE"] {
            command.env_remove(name);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("could not start psql, which comes with PostgreSQL")?;
        let mut input = child.stdin.take().context("psql has no input")?;
        // Beside the reader: neither waits for the other.
        let script = script.to_owned();
        let writer = std::thread::spawn(move || input.write_all(script.as_bytes()));
        let output = child.wait_with_output().context("could not wait for psql")?;
        let written = writer.join().map_err(|_| anyhow!("could not write to psql"))?;
        if !output.status.success() {
            bail!("psql failed, {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
        }
        written.context("could not write to psql")?;
        String::from_utf8(output.stdout).context("psql printed what is not UTF-8")
    }
}

/// The scripts of the plain layout, one after the other: the names in the files are names.
const SCHEMA: [&str; 2] = ["0001_initial.sql", "0001_views.sql"];

/// The script that makes the schema.
pub(super) fn schema(workspace: &Workspace) -> Result<String> {
    let folder = workspace.root().join("migrations/postgres");
    let read = |script: &str| {
        let script = folder.join(script);
        fs::read_to_string(&script).with_context(|| format!("could not read {}", script.display()))
    };
    SCHEMA.into_iter().map(read).collect()
}
