//! An HTTP service that writes an order and its message in one transaction, a worker for the messages in the same program, and what
//! operations want of both: metrics, health, traces.
//!
//! ```sh
//! cargo run -p orders -- --load 50
//! curl -i localhost:8080/orders -H 'content-type: application/json' -d '{"item": "a lamp", "card": "good"}'
//! curl localhost:8080/ledger localhost:8080/metrics localhost:8080/readyz
//! ```
#![allow(clippy::disallowed_methods, reason = "an application starts its own tasks and sleeps as it likes")]

mod load;
mod service;
mod shop;
mod telemetry;
mod worker;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use tickr::shutdown_signal;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::telemetry::Telemetry;

/// An order service with an outbox.
#[derive(Debug, Parser)]
#[command(about)]
struct Args {
    /// The database: sqlite:PATH, or postgres://USER@HOST/DATABASE with the feature `postgres` (default: a temporary SQLite file).
    #[arg(long)]
    url: Option<String>,
    /// Where to listen; port 0 takes a free one, and says which.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// What this process is: two processes on one database share the work.
    #[arg(long, value_enum, default_value_t = Role::Both)]
    role: Role,
    /// Places so many orders a second by itself, some with cards that fail.
    #[arg(long, default_value_t = 0)]
    load: u32,
    /// How many handlers run at a time.
    #[arg(long, default_value_t = 32)]
    pool: u32,
    /// Every how many seconds the depth of the queue is sampled.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    stats_seconds: u64,
    /// How long after its payment an order's receipt is due, in milliseconds.
    #[arg(long, default_value_t = 2_000)]
    receipt_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Takes orders.
    Service,
    /// Handles their messages.
    Worker,
    /// Both.
    Both,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match observed(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // tickr's errors say all of it themselves; of others the causes are told too.
            let text = if error.is::<tickr::Error>() { error.to_string() } else { format!("{error:#}") };
            tracing::error!("{text}");
            ExitCode::FAILURE
        }
    }
}

async fn observed(args: &Args) -> Result<()> {
    let telemetry = Telemetry::start(&worker::EVENT_TYPES)?;
    let ended = run(args, &telemetry).await;
    // What is left in its queue is exported, whatever happened.
    telemetry.end().await;
    ended
}

async fn run(args: &Args, telemetry: &Telemetry) -> Result<()> {
    let receipt_after = Duration::from_millis(args.receipt_ms);
    let (shop, _temporary) = shop::open(args.url.as_deref(), telemetry, receipt_after).await?;
    let worker = match args.role {
        Role::Service => None,
        Role::Worker | Role::Both => {
            let stats_interval = Duration::from_secs(args.stats_seconds);
            Some(Arc::new(worker::build(&shop, telemetry, args.pool, stats_interval)?))
        }
    };
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    // A line of its own for scripts, which may have asked for a free port.
    tracing::info!(address = %listener.local_addr()?, database = %shop.name(), role = ?args.role, "listening");

    let service = service::router(Arc::clone(&shop), worker.clone(), telemetry);
    let load = (args.load > 0).then(|| tokio::spawn(load::place(shop, args.load)));
    let (over, ended) = oneshot::channel();
    let work = async {
        let worked = match worker {
            Some(worker) => worker.run_until(shutdown_signal()).await,
            None => {
                shutdown_signal().await;
                Ok(())
            }
        };
        tracing::info!("shutting down");
        // Probes and scrapes are answered until the worker is through with what it had begun.
        let _ = over.send(());
        worked.context("the worker ended")
    };
    let serve = axum::serve(listener, service).with_graceful_shutdown(async {
        let _ = ended.await;
    });
    let result = tokio::try_join!(work, async { serve.await.context("the service ended") });
    if let Some(load) = load {
        load.abort();
    }
    result.map(drop)
}
