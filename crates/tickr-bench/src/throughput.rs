//! How many messages a second go in, and how many come out.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use tickr::observe::Metrics;
use tickr::{AnyAdmin, Client, Worker};
use tokio::sync::Notify;

use crate::contender::Batch;
use crate::peer;
use crate::process;
use crate::queue::{self, EVENT_TYPE, Settings};
use crate::server::Server;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The database: `sqlite:PATH`, `postgres://USER@HOST/DATABASE`, or `memory:` for the engine alone. A SQLite file is made anew;
    /// on PostgreSQL the schema `tickr_bench` is.
    #[arg(long)]
    url: String,
    /// How many messages.
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// The bytes of a body.
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// Messages per enqueue.
    #[arg(long, default_value_t = 500)]
    batch: u64,
    /// Tasks that enqueue at the same time.
    #[arg(long, default_value_t = 4)]
    producers: u64,
}

/// The last line of the output.
#[derive(Debug, Serialize)]
struct Report {
    url_scheme: String,
    synchronous: &'static str,
    messages: u64,
    enqueue_per_s: u64,
    drain_per_s: u64,
    drain_default_per_s: u64,
    /// Bytes of log for the enqueue and the success of a message, full-page images included; PostgreSQL only.
    wal_bytes_per_message: Option<u64>,
    /// How many full-page images are among them.
    wal_full_page_images: Option<u64>,
    peak_rss_mb: Option<f64>,
    bench_settings: String,
}

/// Counts what is recorded, and says when it is all.
#[derive(Debug)]
struct Recorded {
    wanted: u64,
    so_far: AtomicU64,
    all: Notify,
}

impl Metrics for Recorded {
    fn settle_batch(&self, outcomes: u32, _duration: Duration) {
        let outcomes = u64::from(outcomes);
        if self.so_far.fetch_add(outcomes, Ordering::Relaxed) + outcomes >= self.wanted {
            self.all.notify_one();
        }
    }
}

pub(crate) async fn run(options: Options) -> Result<()> {
    ensure!(options.messages > 0 && options.batch > 0 && options.producers > 0, "messages, batch and producers must be above 0");
    let scheme = queue::scheme(&options.url);
    let storage = queue::fresh(&options.url).await?;

    let server = Server::observe(&options.url).await?;
    let before = server.position().await?;
    let enqueue_per_s = enqueue(&storage, &options).await?;
    println!("enqueued {} messages of {} bytes in batches of {}: {enqueue_per_s}/s", options.messages, options.payload, options.batch);
    let drain_per_s = drain(&storage, options.messages, Settings::Bench).await?;
    println!("drained with bench settings: {drain_per_s}/s");
    let spent = server.since(before.as_ref()).await?;
    enqueue(&storage, &options).await?;
    let drain_default_per_s = drain(&storage, options.messages, Settings::Defaults).await?;
    println!("drained with the defaults: {drain_default_per_s}/s");

    let report = Report {
        synchronous: match scheme.as_str() {
            "sqlite" => "full",
            "memory" => "none",
            _ => "on",
        },
        url_scheme: scheme,
        messages: options.messages,
        enqueue_per_s,
        drain_per_s,
        drain_default_per_s,
        wal_bytes_per_message: spent.map(|spent| spent.wal_bytes / options.messages),
        wal_full_page_images: spent.map(|spent| spent.full_page_images),
        peak_rss_mb: process::peak_mb(std::process::id()),
        bench_settings: format!("{}, producers {}", Settings::BENCH, options.producers),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn enqueue(storage: &AnyAdmin, options: &Options) -> Result<u64> {
    let &Options { messages, batch, producers, payload, .. } = options;
    let took = peer::enqueue(&Client::new(storage.clone()), Batch { messages, batch, producers, payload }, false).await?;
    Ok(per_second(messages, took))
}

async fn drain(storage: &AnyAdmin, messages: u64, settings: Settings) -> Result<u64> {
    let recorded = Arc::new(Recorded { wanted: messages, so_far: AtomicU64::new(0), all: Notify::new() });
    let worker = settings
        .of(Worker::builder(storage.clone()))
        .on(EVENT_TYPE, || async {})
        .metrics(Arc::clone(&recorded) as Arc<dyn Metrics>)
        .stats_interval(None)
        .build()?;
    let start = Instant::now();
    let worker = worker.spawn();
    recorded.all.notified().await;
    let took = start.elapsed();
    worker.shutdown();
    worker.join().await?;
    Ok(per_second(messages, took))
}

fn per_second(messages: u64, took: Duration) -> u64 {
    let nanos = u128::from(messages) * 1_000_000_000;
    u64::try_from(nanos / took.as_nanos().max(1)).unwrap_or(u64::MAX)
}
