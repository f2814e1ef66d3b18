//! Benchmarks of tickr: `cargo xtask bench` runs them, see the README.

#![allow(clippy::print_stdout, reason = "a command prints its results")]

mod contender;
mod floor;
mod load;
mod observed;
mod peer;
mod plot;
mod process;
mod queue;
mod report;
mod run;
mod scenario;
mod server;
mod throughput;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

#[derive(Debug, Parser)]
#[command(about = "Benchmarks of tickr", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures scenarios, compares them with their bounds, and writes a report.
    Run(run::Options),
    /// Enqueues messages in batches and drains them with a no-op handler: with bench settings, and with the defaults.
    Throughput(throughput::Options),
    /// What the harness runs, of tickr and of its peers alike: see bench/peers/README.md.
    #[command(subcommand)]
    Peer(peer::Peer),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Handlers that fail on purpose are not worth a line each.
    let filter = tracing_subscriber::EnvFilter::builder().with_default_directive(LevelFilter::OFF.into()).from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match Arguments::parse().command {
        Command::Run(options) => run::run(options).await,
        Command::Throughput(options) => throughput::run(options).await,
        Command::Peer(peer) => peer::run(peer).await,
    }
}
