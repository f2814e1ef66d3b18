//! Database servers: `cargo xtask services` for work at home, and [`Provision`] for the tests.

mod provision;
mod scratch;
mod state;
mod supply;

pub(crate) use provision::{Environment, Provision, needs};
pub(crate) use supply::{Lack, lacks, supply};

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::{Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use tickr_servers::{Address, Binaries, Bouncer, Cluster, Package, ensure, may_install};

use crate::shell::Workspace;
use state::{Entry, State};

/// How many prepared statements the PgBouncer that follows them keeps per client.
const PREPARED_STATEMENTS: u32 = 200;

/// A server that tests need, found by them in a variable of the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Service {
    /// PostgreSQL as the system has it, or else its newest major.
    Postgres,
    /// PostgreSQL's newest major.
    PostgresNewest,
    /// PgBouncer in front of the first, without prepared statements.
    Pgbouncer,
    /// A PgBouncer that follows prepared statements, in front of the first.
    PgbouncerPrepared,
}

impl Service {
    /// The variable that holds its URL.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "TICKR_TEST_POSTGRES_URL",
            Self::PostgresNewest => "TICKR_TEST_POSTGRES_NEWEST_URL",
            Self::Pgbouncer => "TICKR_TEST_PGBOUNCER_URL",
            Self::PgbouncerPrepared => "TICKR_TEST_PGBOUNCER_PREPARED_URL",
        }
    }

    /// Tells whether it stands in front of the first.
    fn is_bouncer(self) -> bool {
        matches!(self, Self::Pgbouncer | Self::PgbouncerPrepared)
    }

    /// What to say where it cannot be had.
    fn missing(self) -> String {
        format!("no server for {} (set {} to use one of yours)", self.name(), self.variable())
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Arguments of `cargo xtask services`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    order: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Starts servers that run on in the background, and prints their URLs for a shell: eval "$(cargo xtask services up)".
    Up {
        /// Those to start; all when none is named.
        services: Vec<Service>,
        /// Installs Debian packages that are missing.
        #[arg(long)]
        install: bool,
    },
    /// Stops what `up` has started, and nothing else.
    Down {
        /// Those to stop; all when none is named.
        services: Vec<Service>,
    },
    /// Tells what runs, from where, and in which version.
    Status,
}

/// Starts, stops or shows servers.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut state = State::read(workspace)?;
    match &args.order {
        Order::Up { services, install } => up(&mut state, &all_if_empty(services), *install || may_install()),
        Order::Down { services } => down(&mut state, &all_if_empty(services)),
        Order::Status => {
            status(&state);
            Ok(())
        }
    }
}

/// Installs what the tests start servers from, or names what is missing.
pub(crate) fn tools(workspace: &Workspace) -> Result<()> {
    ensure(&[Package::Postgres, Package::Bouncer, Package::Prometheus], may_install())?;
    println!("servers: PostgreSQL {}, {}", Binaries::installed()?.version(), Bouncer::installed()?.display());
    let tests = workspace.root().join("conformance/tests");
    let targets: Vec<&str> = provision::targets().filter(|target| tests.join(format!("{target}.rs")).exists()).collect();
    let needs = needs(targets.into_iter());
    if needs.contains(&Service::PostgresNewest) {
        println!("servers: PostgreSQL {}, the newest major", newest(may_install())?.version());
    }
    if needs.contains(&Service::PgbouncerPrepared) && provision::given(Service::PgbouncerPrepared).is_none() {
        let program = Bouncer::fetch_newest().with_context(|| Service::PgbouncerPrepared.missing())?;
        println!("servers: {}, with prepared statements", program.display());
    }
    Ok(())
}

fn all_if_empty(services: &[Service]) -> Vec<Service> {
    if services.is_empty() { Service::value_variants().to_vec() } else { services.to_vec() }
}

fn up(state: &mut State, services: &[Service], install: bool) -> Result<()> {
    state.forget_ended()?;
    let mut services = services.to_vec();
    if services.iter().any(|service| service.is_bouncer()) {
        services.push(Service::Postgres);
    }
    // In their order, each after what it stands on.
    services.sort_unstable();
    services.dedup();
    for service in &services {
        if state.get(*service).is_none() {
            let entry = start(*service, state, install).with_context(|| format!("could not start {}", service.name()))?;
            state.add(entry)?;
        }
    }
    for entry in services.iter().filter_map(|service| state.get(*service)) {
        println!("export {}='{}'", entry.service.variable(), entry.url);
    }
    Ok(())
}

fn start(service: Service, state: &State, install: bool) -> Result<Entry> {
    let (version, from, url, server) = match service {
        Service::Postgres | Service::PostgresNewest => {
            let binaries = if service == Service::Postgres { system(install)? } else { newest(install)? };
            let cluster = Cluster::builder().binaries(binaries.clone()).start()?;
            (binaries.version(), binaries.folder().to_path_buf(), cluster.url("postgres"), cluster.detach()?)
        }
        Service::Pgbouncer | Service::PgbouncerPrepared => {
            let upstream = state.get(Service::Postgres).context("there is no server for PgBouncer to stand before")?;
            let (bouncer, from) = bouncer(service, &upstream.url, install)?;
            (bouncer.version(), from, bouncer.url("postgres"), bouncer.detach()?)
        }
    };
    Ok(Entry { service, version: version.to_string(), from, url, server })
}

/// The system's PostgreSQL, installed if that is allowed; else the newest major, fetched if it is not there.
fn system(install: bool) -> Result<Binaries> {
    has(Package::Postgres, install)?;
    Binaries::find()
}

/// Has a package installed, if that is allowed, or else fetched.
fn has(package: Package, install: bool) -> Result<()> {
    let installed = if install { ensure(&[package], true) } else { Err(anyhow!("it may not be installed")) };
    installed.or_else(|_| package.fetch())
}

/// PostgreSQL's newest major, fetched if it is not there.
fn newest(install: bool) -> Result<Binaries> {
    Binaries::newest().or_else(|_| {
        has(Package::Pip, install)?;
        Binaries::fetch_newest()
    })
}

/// PgBouncer in transaction mode before the server of a URL, and the program that it is. One follows prepared statements; the other
/// does not, also where the system's could.
fn bouncer(service: Service, upstream: &str, install: bool) -> Result<(Bouncer, PathBuf)> {
    let (program, prepared_statements) = if service == Service::PgbouncerPrepared {
        (Bouncer::fetch_newest()?, PREPARED_STATEMENTS)
    } else {
        has(Package::Bouncer, install)?;
        (Bouncer::find()?, 0)
    };
    let (upstream, database) = Address::parse(upstream)?;
    let builder = Bouncer::builder(upstream).database(&database).program(&program);
    Ok((builder.max_prepared_statements(prepared_statements).start()?, program))
}

fn down(state: &mut State, services: &[Service]) -> Result<()> {
    // A PgBouncer before what it stands on.
    for service in Service::value_variants().iter().rev().filter(|service| services.contains(service)) {
        if state.stop(*service)? {
            println!("stopped {}", service.name());
        }
    }
    Ok(())
}

fn status(state: &State) {
    if state.entries().is_empty() {
        println!("nothing was started: cargo xtask services up");
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["service", "state", "version", "process", "URL", "from"]);
    for entry in state.entries() {
        let running = if entry.server.is_running() { "running" } else { "ended" };
        let (pid, from) = (entry.server.pid.to_string(), entry.from.display().to_string());
        table.add_row([&entry.service.name(), running, &entry.version, &pid, &entry.url, &from]);
    }
    println!("{table}");
}
