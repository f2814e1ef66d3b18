//! The command line, which is also how the supervisor tells its processes what to do.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tickr_core::Timestamp;

use crate::plan::Plan;
use crate::producer::Share;

/// Proves that nothing is lost: real producers and workers on one database, killed and stopped at random, and at the
/// end an independent ledger against the database.
#[derive(Debug, Parser)]
pub(crate) struct Cli {
    /// What this process is.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts everything, kills it again and again, and verifies what is left.
    Run(Run),
    /// Verifies the kept files of a run again.
    Verify {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        size: Size,
    },
    /// Runs transactions (started by `run`).
    #[command(hide = true)]
    Producer {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        size: Size,
        #[command(flatten)]
        name: Name,
        /// When the first message is due, in microseconds since 1970.
        #[arg(long)]
        begin_us: i64,
    },
    /// Handles messages (started by `run`).
    #[command(hide = true)]
    Worker {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        name: Name,
        /// The lease.
        #[arg(long)]
        lease_ms: u64,
    },
}

/// The kind of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum On {
    /// A file.
    Sqlite,
    /// A schema of a database of a server.
    Postgres,
}

impl On {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// Where a run has its database and its files.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// The kind of the database.
    #[arg(long, value_enum, default_value_t = On::Sqlite)]
    pub(crate) on: On,
    /// The SQLite file, or the URL of the PostgreSQL database.
    #[arg(long, visible_alias = "url")]
    pub(crate) db: String,
    /// The schema of tickr's and the application's tables (PostgreSQL).
    #[arg(long, required_if_eq("on", "postgres"))]
    pub(crate) schema: Option<String>,
    /// How long an operation of tickr may take (PostgreSQL; default: the adapter's).
    #[arg(long)]
    pub(crate) operation_timeout_ms: Option<u64>,
    /// The folder of the ledger.
    #[arg(long)]
    pub(crate) ledger: PathBuf,
    /// Sends every commit to the disk. A killed process loses nothing without it, only a machine that loses power does;
    /// so the time is better spent on more messages.
    #[arg(long)]
    pub(crate) durable: bool,
}

/// What is enqueued.
#[derive(Args, Clone, Debug)]
pub(crate) struct Size {
    /// How many messages there are.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) messages: u32,
    /// How many producers.
    #[arg(long, default_value_t = 3)]
    pub(crate) producers: u32,
    /// Over how many seconds the messages are spread; the storm lasts until the last one is handled.
    #[arg(long, default_value_t = 40)]
    pub(crate) seconds: u64,
    /// The same in minutes.
    #[arg(long, conflicts_with = "seconds")]
    pub(crate) minutes: Option<u64>,
    /// What everything random is made from (default: the clock).
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// How many writers stop themselves inside of their transaction.
    #[arg(long, default_value_t = 3)]
    pub(crate) holds: u32,
}

/// Which incarnation of which process.
#[derive(Args, Clone, Debug)]
pub(crate) struct Name {
    /// The number of the producer or worker.
    #[arg(long)]
    pub(crate) index: u32,
    /// How often it was started before.
    #[arg(long)]
    pub(crate) incarnation: u32,
}

/// What `run` does.
#[derive(Args, Clone, Debug)]
pub(crate) struct Run {
    /// The kind of the database (default: what `--db` looks like, else SQLite).
    #[arg(long, value_enum)]
    pub(crate) on: Option<On>,
    /// The SQLite file, which must not exist (default: in a temporary folder, kept if something is wrong), or the URL of a
    /// PostgreSQL database, in which a schema is made and removed (default: a server of its own).
    #[arg(long, visible_alias = "url")]
    pub(crate) db: Option<String>,
    /// Sends every commit to the disk, as a production system does; then fewer messages fit into the time.
    #[arg(long)]
    pub(crate) durable: bool,
    #[command(flatten)]
    pub(crate) size: Size,
    /// How many workers.
    #[arg(long, default_value_t = 4)]
    pub(crate) workers: u32,
    /// How long a worker may be silent.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) lease_ms: u64,
    /// How often a random process is killed; 0 for never.
    #[arg(long, default_value_t = 300)]
    pub(crate) kill_every_ms: u64,
    /// How often a random process is stopped for longer than its lease; 0 for never.
    #[arg(long, default_value_t = 3_500)]
    pub(crate) stop_every_ms: u64,
    /// How often a random worker is told to end, as a deployment does; 0 for never.
    #[arg(long, default_value_t = 3_000)]
    pub(crate) term_every_ms: u64,
    /// How often the server is ended as by a crash, and started again, if it is this program's own; 0 for never (PostgreSQL).
    #[arg(long, default_value_t = 15_000)]
    pub(crate) restart_every_ms: u64,
    /// How often the network stalls for longer than a lease; 0 for never (PostgreSQL).
    #[arg(long, default_value_t = 7_000)]
    pub(crate) stall_every_ms: u64,
    /// One of how many commits has its connection cut around it; 0 for none (PostgreSQL).
    #[arg(long, default_value_t = 100)]
    pub(crate) cut_one_in: u32,
    /// How long work may stand still, or the database not answer, after a stopped process, the server or the network goes on.
    #[arg(long, default_value_t = 10)]
    pub(crate) recover_seconds: u64,
    /// When the run has failed (default: twice the time of the messages, and a minute).
    #[arg(long)]
    pub(crate) limit_seconds: Option<u64>,
}

impl Size {
    /// How long messages are enqueued.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_secs(self.minutes.map_or(self.seconds, |minutes| minutes * 60))
    }

    /// The plan.
    pub(crate) fn plan(&self) -> Plan {
        Plan { seed: self.seed.unwrap_or_default(), messages: self.messages, holds: self.holds }
    }

    /// The part of one producer.
    pub(crate) fn share(&self, index: u32, begin: Timestamp) -> Share {
        Share { index, producers: self.producers, begin, span: self.span() }
    }

    /// As arguments again.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let numbers = [
            ("messages", u64::from(self.messages)),
            ("producers", u64::from(self.producers)),
            ("seconds", self.span().as_secs()),
            ("seed", self.seed.unwrap_or_default()),
            ("holds", u64::from(self.holds)),
        ];
        numbers.into_iter().map(|(name, number)| format!("--{name}={number}").into()).collect()
    }
}

impl Place {
    /// As arguments again.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![format!("--on={}", self.on.as_str()).into()];
        args.extend(["--db".into(), self.db.clone().into(), "--ledger".into(), self.ledger.clone().into()]);
        args.extend(self.schema.as_ref().map(|schema| format!("--schema={schema}").into()));
        args.extend(self.operation_timeout_ms.map(|timeout_ms| format!("--operation-timeout-ms={timeout_ms}").into()));
        args.extend(self.durable.then(|| "--durable".into()));
        args
    }
}

impl Run {
    /// The kind of the database.
    pub(crate) fn on(&self) -> On {
        let is_url = self.db.as_ref().is_some_and(|db| db.starts_with("postgres://") || db.starts_with("postgresql://"));
        self.on.unwrap_or(if is_url { On::Postgres } else { On::Sqlite })
    }
}

impl Name {
    /// The name of the process, such as `worker-2-17`: its ledger, its log, and the name of the worker.
    pub(crate) fn of(&self, role: &str) -> String {
        format!("{role}-{}-{}", self.index, self.incarnation)
    }
}
