//! awa as a peer. See ../README.md for the commands.

use std::io::{BufRead, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use awa::{Client, InsertOpts, InsertParams, JobArgs, JobResult, QueueConfig, QueueStorage, QueueStorageConfig};
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

#[derive(Parser)]
enum Command {
    Info,
    Prepare {
        #[arg(long)]
        url: String,
    },
    Enqueue {
        #[arg(long)]
        url: String,
        #[arg(long)]
        messages: u64,
        #[arg(long)]
        batch: u64,
        #[arg(long)]
        producers: u32,
        #[arg(long)]
        payload: usize,
    },
    Left {
        #[arg(long)]
        url: String,
    },
    Work {
        #[arg(long)]
        url: String,
    },
    Steady {
        #[arg(long)]
        url: String,
        #[arg(long)]
        rate: u64,
        #[arg(long)]
        seconds: u64,
    },
}

/// `at` is when the job was enqueued, in nanoseconds since the start of the process that enqueued it.
#[derive(Clone, Deserialize, JobArgs, Serialize)]
struct Nothing {
    at: u64,
    pad: String,
}

const QUEUE: &str = "peer";

static STARTED: OnceLock<Instant> = OnceLock::new();
static DONE: AtomicU64 = AtomicU64::new(0);

fn nanos() -> u64 {
    STARTED.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

async fn connect(url: &str, connections: u32) -> Result<PgPool> {
    let pool = PgPoolOptions::new().max_connections(connections).min_connections(connections).connect(url).await?;
    let mut held = Vec::new();
    for _ in 0..connections {
        held.push(pool.acquire().await?);
    }
    drop(held);
    Ok(pool)
}

fn config() -> QueueStorageConfig {
    QueueStorageConfig::default()
}

fn job(at: u64, pad: &str) -> Result<InsertParams> {
    let opts = InsertOpts { queue: QUEUE.into(), ..Default::default() };
    Ok(awa::model::insert::params_with(&Nothing { at, pad: pad.into() }, opts)?)
}

/// A client that works the queue and calls `handler` for each job.
async fn worker(pool: &PgPool, handler: fn(&Nothing)) -> Result<Client> {
    let queue = QueueConfig {
        max_workers: 1024,
        poll_interval: Duration::from_millis(50),
        deadline_duration: Duration::ZERO,
        ..Default::default()
    };
    let second = Duration::from_secs(1);
    let client = Client::builder(pool.clone())
        .queue(QUEUE, queue)
        .queue_storage(config(), second, second)
        .register::<Nothing, _, _>(move |job: Nothing, _| {
            handler(&job);
            DONE.fetch_add(1, Relaxed);
            std::future::ready(Ok(JobResult::Completed))
        })
        .build()?;
    Ok(client)
}

async fn prepare(url: &str) -> Result<()> {
    let pool = connect(url, 2).await?;
    sqlx::query("DROP SCHEMA IF EXISTS awa CASCADE").execute(&pool).await?;
    awa::migrations::run(&pool).await?;
    QueueStorage::new(config())?.install(&pool).await?;
    sqlx::query("INSERT INTO awa.queue_meta (queue, enqueue_shards) VALUES ($1, $2)").bind(QUEUE).bind(4i16).execute(&pool).await?;
    Ok(())
}

async fn enqueue(url: &str, messages: u64, batch: u64, producers: u32, payload: usize) -> Result<f64> {
    let pool = connect(url, producers).await?;
    let storage = Arc::new(QueueStorage::new(config())?);
    let pad = "x".repeat(payload);
    let taken = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..producers {
        let (pool, storage, pad, taken) = (pool.clone(), storage.clone(), pad.clone(), taken.clone());
        tasks.spawn(async move {
            loop {
                let first = taken.fetch_add(batch, Relaxed);
                if first >= messages {
                    return anyhow::Ok(());
                }
                let count = batch.min(messages - first);
                let jobs = (0..count).map(|_| job(0, &pad)).collect::<Result<Vec<_>>>()?;
                if batch == 1 {
                    storage.enqueue_params_batch(&pool, &jobs).await?;
                } else {
                    storage.enqueue_params_copy(&pool, &jobs).await?;
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// All that was enqueued less all that ended. `queue_counts` says the same and takes seconds on a long queue.
async fn left(url: &str) -> Result<i64> {
    let left = "SELECT ((SELECT sum(awa.sequence_next_value(seq_name) - 1) FROM awa.queue_enqueue_heads)
        - (SELECT coalesce(sum(live_terminal_count), 0) FROM awa.queue_terminal_live_counts)
        - (SELECT coalesce(sum(terminal_delta), 0) FROM awa.queue_terminal_count_deltas)
        - (SELECT coalesce(sum(completed_count), 0) FROM awa.receipt_completion_batches)
        - (SELECT coalesce(sum(pruned_completed_count + pruned_failed_count), 0) FROM awa.queue_terminal_rollups))::bigint";
    Ok(sqlx::query_scalar(left).fetch_one(&connect(url, 1).await?).await?)
}

async fn work(url: &str) -> Result<()> {
    let pool = connect(url, 20).await?;
    let client = worker(&pool, |_| ()).await?;
    println!("ready");
    std::io::stdin().lock().read_line(&mut String::new())?;
    client.start().await?;
    let (ended, mut end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let mut shown = 0;
    loop {
        tokio::select! {
            _ = &mut end => break,
            _ = ticks.tick() => {}
        }
        let done = DONE.load(Relaxed);
        if done != shown {
            shown = done;
            writeln!(std::io::stdout(), "done {done}")?;
        }
    }
    client.shutdown(Duration::from_secs(30)).await;
    Ok(())
}

async fn steady(url: &str, rate: u64, seconds: u64) -> Result<serde_json::Value> {
    static DELAYS: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let pool = connect(url, 20).await?;
    let client = worker(&pool, |job| {
        let delay = nanos() - job.at;
        DELAYS.lock().unwrap().push(delay);
    })
    .await?;
    client.start().await?;
    let storage = Arc::new(QueueStorage::new(config())?);
    let taken = Arc::new(AtomicU64::new(0));
    let begin = tokio::time::Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..rate.min(16) {
        let (pool, storage, taken) = (pool.clone(), storage.clone(), taken.clone());
        tasks.spawn(async move {
            let mut offered = 0;
            loop {
                let at = Duration::from_secs_f64(taken.fetch_add(1, Relaxed) as f64 / rate as f64);
                let over = Duration::from_secs(seconds);
                if at >= over || begin.elapsed() >= over {
                    return anyhow::Ok(offered);
                }
                tokio::time::sleep_until(begin + at).await;
                storage.enqueue_params_batch(&pool, &[job(nanos(), "")?]).await?;
                offered += 1;
            }
        });
    }
    let mut offered = 0;
    while let Some(task) = tasks.join_next().await {
        offered += task??;
    }
    let patience = Instant::now() + Duration::from_secs(30);
    while DONE.load(Relaxed) < offered && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.shutdown(Duration::from_secs(30)).await;
    let mut delays = std::mem::take(&mut *DELAYS.lock().unwrap());
    delays.sort_unstable();
    if delays.is_empty() {
        bail!("no job started");
    }
    let at = |part: f64| delays[((delays.len() - 1) as f64 * part) as usize] as f64 / 1e6;
    Ok(json!({"offered": offered, "started": delays.len(), "p50_ms": at(0.5), "p95_ms": at(0.95),
        "p99_ms": at(0.99), "max_ms": at(1.0)}))
}

#[tokio::main]
async fn main() -> Result<()> {
    let answer = match Command::parse() {
        Command::Info => json!({"name": "awa", "version": "awa 0.6.9",
            "settings": "queue storage (its default), 1024 workers (so 4 completion shards), claims of 512, no deadline (its compact path), \
                4 enqueue shards, poll interval 50 ms, pool of 20 connections; a batch by enqueue_params_copy, one job by enqueue_params_batch",
            "keeps": "rows in append-only partitions, truncated by its rotation once all jobs of a partition ended, and counts. At least once: \
                after a crash the jobs that were running are done again when their heartbeat is 90 s old, looked for every 30 s"}),
        Command::Prepare { url } => {
            prepare(&url).await?;
            json!({})
        }
        Command::Enqueue { url, messages, batch, producers, payload } => {
            let seconds = enqueue(&url, messages, batch.max(1), producers, payload).await?;
            json!({"messages": messages, "seconds": seconds})
        }
        Command::Left { url } => json!({"left": left(&url).await?}),
        Command::Work { url } => return work(&url).await,
        Command::Steady { url, rate, seconds } => steady(&url, rate, seconds).await?,
    };
    println!("{answer}");
    Ok(())
}
