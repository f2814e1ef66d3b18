//! How many messages a second go in, and how many come out.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use tickr::postgres::PostgresStorage;
use tickr::{AnyAdmin, Client, MemoryStorage, Message, Metrics, Prefetch, Worker, WorkerBuilder};
use tokio::sync::Notify;

use crate::wal::{self, Log};

/// The event type of every message.
const EVENT_TYPE: &str = "bench";
/// The bench settings: what the defaults would grow to, from the start, and claims as large as a settle.
const BENCH_BATCH: u32 = 2_000;
const BENCH_PREFETCH: u32 = 4_000;
const BENCH_POOL: u32 = 16;
/// What the bench makes anew on PostgreSQL.
const SCHEMA: &str = "tickr_bench";

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
    let scheme = options.url.split(':').next().unwrap_or_default().replace("postgresql", "postgres");
    let storage = open(&options.url, &scheme).await?;

    let log = Log::open(&options.url, &scheme).await?;
    let before = log.position().await?;
    let enqueue_per_s = enqueue(&storage, &options).await?;
    println!("enqueued {} messages of {} bytes in batches of {}: {enqueue_per_s}/s", options.messages, options.payload, options.batch);
    let bench = |worker: WorkerBuilder| worker.pool(BENCH_POOL).batch(BENCH_BATCH).prefetch(Prefetch::Fixed(BENCH_PREFETCH));
    let drain_per_s = drain(&storage, options.messages, bench).await?;
    println!("drained with bench settings: {drain_per_s}/s");
    let written = log.position().await?.since(before);
    enqueue(&storage, &options).await?;
    let drain_default_per_s = drain(&storage, options.messages, |worker| worker).await?;
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
        wal_bytes_per_message: written.map(|written| written.bytes / options.messages),
        wal_full_page_images: written.map(|written| written.full_page_images),
        peak_rss_mb: crate::memory::peak_mb(),
        bench_settings: format!("pool {BENCH_POOL}, batch {BENCH_BATCH}, prefetch {BENCH_PREFETCH}, producers {}", options.producers),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn open(url: &str, scheme: &str) -> Result<AnyAdmin> {
    if scheme == "memory" {
        return Ok(AnyAdmin::new(MemoryStorage::new()));
    }
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.trim_start_matches("//");
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{path}{suffix}"));
        }
    }
    if scheme == "postgres" {
        wal::connect(url).await?.batch_execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")).await?;
        let storage = PostgresStorage::builder().url(url)?.schema(SCHEMA).connect().await.context("cannot connect")?;
        tickr::Storage::migrate(&storage).await?;
        return Ok(AnyAdmin::new(storage));
    }
    let storage = tickr::connect(url).await.with_context(|| format!("cannot open {url}"))?;
    tickr::Storage::migrate(&storage).await?;
    Ok(storage)
}

async fn enqueue(storage: &AnyAdmin, options: &Options) -> Result<u64> {
    let client = Client::new(storage.clone());
    let left = Arc::new(AtomicU64::new(options.messages));
    let (payload, batch) = (vec![b'x'; options.payload], options.batch);
    let start = Instant::now();
    let producers = (0..options.producers).map(|_| {
        let (client, left, payload) = (client.clone(), Arc::clone(&left), payload.clone());
        tokio::spawn(async move {
            loop {
                let take = left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left > 0).then(|| left.saturating_sub(batch)));
                let Ok(before) = take else { return Ok::<(), tickr::Error>(()) };
                let messages = (0..before.min(batch)).map(|_| Message::new(EVENT_TYPE, payload.clone()));
                client.enqueue_all(messages).await?;
            }
        })
    });
    let producers: Vec<_> = producers.collect();
    for producer in producers {
        producer.await??;
    }
    Ok(per_second(options.messages, start.elapsed()))
}

async fn drain(storage: &AnyAdmin, messages: u64, settings: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> Result<u64> {
    let recorded = Arc::new(Recorded { wanted: messages, so_far: AtomicU64::new(0), all: Notify::new() });
    let worker = settings(Worker::builder(storage.clone()))
        .on(EVENT_TYPE, || async {}, |o| o)
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
