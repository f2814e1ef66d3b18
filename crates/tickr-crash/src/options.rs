//! The command line, which is also how the supervisor tells its processes what to do.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
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

/// Where a run has its files.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// The SQLite file.
    #[arg(long)]
    pub(crate) db: PathBuf,
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
    /// The SQLite file, which must not exist (default: in a temporary folder, kept if something is wrong).
    #[arg(long)]
    pub(crate) db: Option<PathBuf>,
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
    /// How long work may stand still after a stopped process goes on.
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
        let mut args: Vec<OsString> = vec!["--db".into(), self.db.clone().into(), "--ledger".into(), self.ledger.clone().into()];
        args.extend(self.durable.then(|| "--durable".into()));
        args
    }
}

impl Name {
    /// The name of the process, such as `worker-2-17`: its ledger, its log, and the name of the worker.
    pub(crate) fn of(&self, role: &str) -> String {
        format!("{role}-{}-{}", self.index, self.incarnation)
    }
}
