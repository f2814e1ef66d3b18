//! Runs scenarios against a database, and compares what they show with the bounds.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tickr_servers::{Address, Cluster};

use crate::contender::Contender;
use crate::process;
use crate::queue::{self, Settings};
use crate::report::Report;
use crate::scenario::Scenario;
use crate::server::{self, Server};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What is measured (default: everything but soak).
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// The server, `postgres://USER@HOST/DATABASE`, on which databases named bench_... are made and dropped, or a folder for files,
    /// `sqlite:FOLDER` (default: a PostgreSQL server of its own, with its default settings).
    #[arg(long)]
    url: Option<String>,
    /// Measures peers too: see bench/peers.
    #[arg(long)]
    peers: bool,
    /// Small and short, with bounds half as strict: says whether something is broken, and little of how fast it is.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Fails when a bound is missed.
    #[arg(long)]
    check: bool,
    /// How often a throughput is measured (default 3; 1 with --quick).
    #[arg(long)]
    runs: Option<usize>,
    /// How many messages are drained (default 200,000; 40,000 with --quick).
    #[arg(long)]
    messages: Option<u64>,
    /// For how many minutes the snapshot is held (default 5; half a minute with --quick).
    #[arg(long)]
    minutes: Option<f64>,
    /// For how many minutes the soak lasts.
    #[arg(long, default_value_t = 30.0)]
    pub(crate) soak_minutes: f64,
    /// Where results.json, results.md and the charts are written.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// The checkout, for the peers.
    #[arg(long, default_value = ".")]
    workspace: PathBuf,
}

/// What scenarios work with.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) report: Report,
    pub(crate) tickr: Contender,
    pub(crate) peers: Vec<Contender>,
    /// The server as it looks from tickr's database.
    pub(crate) server: Server,
    /// tickr's database.
    pub(crate) url: String,
    ground: Ground,
}

/// Where databases are made.
#[derive(Debug)]
enum Ground {
    Postgres { address: Address, database: String, _own: Option<Box<Cluster>> },
    Files(PathBuf),
}

impl Ground {
    async fn find(url: Option<&str>) -> Result<Self> {
        let Some(url) = url else {
            // Durable, as a production system: the defaults of PostgreSQL but for what counts statements.
            let cluster = Cluster::builder()
                .setting("fsync", "on")
                .setting("synchronous_commit", "on")
                .setting("full_page_writes", "on")
                .setting("shared_buffers", "128MB")
                .setting("shared_preload_libraries", "pg_stat_statements")
                .setting("pg_stat_statements.track_utility", "off")
                .start()
                .context("cannot start a server; name one with --url")?;
            return Ok(Self::Postgres { address: cluster.address(), database: "postgres".to_owned(), _own: Some(Box::new(cluster)) });
        };
        if let Some(folder) = url.strip_prefix("sqlite:") {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {folder}"))?;
            return Ok(Self::Files(folder.into()));
        }
        let (address, database) = Address::parse(url)?;
        Ok(Self::Postgres { address, database, _own: None })
    }

    fn name(of: &str) -> String {
        format!("bench_{}", of.replace('-', "_"))
    }

    /// A new, empty database for a contender.
    async fn database(&self, of: &str) -> Result<String> {
        let name = Self::name(of);
        match self {
            Self::Postgres { address, database, .. } => {
                let client = server::connect(&address.url(database)).await?;
                client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
                client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
                Ok(address.url(&name))
            }
            Self::Files(folder) => Ok(format!("sqlite:{}", folder.join(name).with_extension("db").display())),
        }
    }

    /// Leaves the server as it was found.
    async fn remove(&self, of: &str) -> Result<()> {
        let name = Self::name(of);
        match self {
            Self::Postgres { address, database, .. } => {
                let client = server::connect(&address.url(database)).await?;
                client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
            }
            Self::Files(folder) => {
                for suffix in ["db", "db-wal", "db-shm"] {
                    let _ = std::fs::remove_file(folder.join(&name).with_extension(suffix));
                }
            }
        }
        Ok(())
    }
}

impl Bench {
    pub(crate) fn runs(&self) -> usize {
        self.options.runs.unwrap_or(if self.options.quick { 1 } else { 3 })
    }

    pub(crate) fn messages(&self) -> u64 {
        self.options.messages.unwrap_or(if self.options.quick { 40_000 } else { 200_000 })
    }

    /// One of two numbers.
    pub(crate) fn sized(&self, full: u64, quick: u64) -> u64 {
        if self.options.quick { quick } else { full }
    }

    pub(crate) fn snapshot_minutes(&self) -> f64 {
        self.options.minutes.unwrap_or(if self.options.quick { 0.5 } else { 5.0 })
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.ground, Ground::Postgres { .. })
    }

    /// A new, empty database for a peer.
    pub(crate) async fn database(&self, of: &Contender) -> Result<String> {
        self.ground.database(&of.name).await
    }

    /// Drops it again.
    pub(crate) async fn remove(&self, of: &Contender) -> Result<()> {
        self.ground.remove(&of.name).await
    }

    /// tickr's schema anew, and the server's log at a checkpoint, so that every measurement begins the same.
    pub(crate) async fn fresh(&self) -> Result<tickr::AnyAdmin> {
        let storage = queue::fresh(&self.url).await?;
        self.settle_down().await?;
        Ok(storage)
    }

    /// Lets the planner know what was loaded, as autovacuum would a minute later, and writes what is dirty.
    pub(crate) async fn loaded(&self, url: &str) -> Result<()> {
        if self.is_postgres() {
            server::connect(url).await?.batch_execute("ANALYZE").await?;
        }
        self.settle_down().await
    }

    /// Writes what is dirty, so that nothing measured next pays for what came before.
    pub(crate) async fn settle_down(&self) -> Result<()> {
        self.server.script("CHECKPOINT").await
    }
}

/// Measures; fails if a bound is missed and `--check` was given.
pub(crate) async fn run(options: Options) -> Result<()> {
    let ground = Ground::find(options.url.as_deref()).await?;
    let url = ground.database("tickr").await?;
    let server = Server::observe(&url).await?;
    let tickr = Contender::tickr()?;
    let mut report = Report { conditions: conditions(&server).await?, lenient: options.quick, ..Report::default() };
    report.contenders.push(tickr.info().await?);
    let mut peers = Vec::new();
    if options.peers {
        peers = known_peers(&options.workspace, matches!(ground, Ground::Postgres { .. }), &mut report).await?;
    }
    let scenarios = if options.scenarios.is_empty() { Scenario::usual() } else { options.scenarios.clone() };
    let (check, out) = (options.check, options.out.clone());
    let mut bench = Bench { options, report, tickr, peers, server, url, ground };
    for scenario in scenarios {
        scenario.run(&mut bench).await.with_context(|| format!("scenario {}", scenario.name()))?;
        // What there is so far, should a later one fail.
        bench.report.write(&out)?;
    }
    bench.server = Server::observe("none:").await?;
    bench.ground.remove("tickr").await?;
    println!("written to {}", out.display());
    let short: Vec<&str> = bench.report.checks.iter().filter(|check| !check.holds).map(|check| check.name.as_str()).collect();
    ensure!(!check || short.is_empty(), "{} of {} bounds are missed: {}", short.len(), bench.report.checks.len(), short.join("; "));
    Ok(())
}

/// Peers that know SQLite; all know PostgreSQL.
const ON_SQLITE_TOO: &[&str] = &["river"];

/// Those that are built and know the database.
async fn known_peers(workspace: &Path, postgres: bool, report: &mut Report) -> Result<Vec<Contender>> {
    let (built, missing) = Contender::peers(workspace)?;
    for name in missing {
        report.missing(format!("{name}, which is not built"));
    }
    let mut peers = Vec::new();
    for peer in built {
        let fits = postgres || ON_SQLITE_TOO.contains(&peer.name.as_str());
        if fits {
            report.contenders.push(peer.info().await?);
            peers.push(peer);
        }
    }
    Ok(peers)
}

/// Machine, versions, settings.
async fn conditions(server: &Server) -> Result<Vec<(String, String)>> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = process::memory_gib().map_or_else(|| "unknown".to_owned(), |gib| format!("{gib} GiB"));
    let mut conditions = vec![
        ("processor".to_owned(), format!("{}, {cores} cores for clients and server", process::processor().unwrap_or_default())),
        ("memory".to_owned(), memory),
        ("bench settings of tickr".to_owned(), Settings::BENCH.to_owned()),
    ];
    if let Some(version) = server.text("SELECT version()").await? {
        let sql = "SELECT string_agg(name || ' ' || current_setting(name), ', ' ORDER BY name) FROM pg_settings
                   WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers', 'max_wal_size', 'autovacuum')";
        conditions.push(("server".to_owned(), version));
        conditions.push(("server's settings".to_owned(), server.text(sql).await?.unwrap_or_default()));
    } else {
        conditions.push(("durability".to_owned(), "SQLite, WAL, synchronous FULL".to_owned()));
    }
    Ok(conditions)
}
