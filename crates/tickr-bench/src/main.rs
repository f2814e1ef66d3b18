//! Benchmarks of tickr: `cargo run --release -p tickr-bench -- throughput --url sqlite:bench.db`.

#![allow(clippy::print_stdout, reason = "a command prints its results")]

mod memory;
mod throughput;
mod wal;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Benchmarks of tickr", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enqueues messages in batches and drains them with a no-op handler: with bench settings, and with the defaults.
    Throughput(throughput::Options),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_writer(std::io::stderr).init();
    match Arguments::parse().command {
        Command::Throughput(options) => throughput::run(options).await,
    }
}
