//! apalis with its PostgreSQL storage as a peer. See ../README.md for the commands.

use std::io::{BufRead, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use apalis::prelude::*;
use apalis_postgres::{Config, PostgresStorage};
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;

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
#[derive(Clone, Deserialize, Serialize)]
struct Nothing {
    at: u64,
    pad: String,
}

type Storage = PostgresStorage<Nothing>;

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

fn storage(pool: &PgPool) -> Storage {
    PostgresStorage::new(pool).with_config(Config::default().queue("peer").batch_size(5000).lock_tasks(false))
}

type Running = (WorkerContext, JoinSet<std::result::Result<(), WorkerError>>);

/// Starts a worker that calls `handler` for each job.
fn start(pool: &PgPool, handler: fn(&Nothing)) -> Running {
    let context = WorkerContext::new(&format!("peer-{}", std::process::id()));
    // A tick of one interval that falls in a fetch is lost, and the worker then sleeps until its heartbeat: the second one wakes it.
    let backend = storage(pool).poll_with_interval(Duration::from_millis(5)).poll_with_interval(Duration::from_millis(100));
    let worker = WorkerBuilder::new(&context).backend(backend).build(move |job: Nothing| {
        handler(&job);
        DONE.fetch_add(1, Relaxed);
        std::future::ready(Ok::<(), BoxDynError>(()))
    });
    let mut running = JoinSet::new();
    running.spawn(worker.run());
    (context, running)
}

async fn prepare(url: &str) -> Result<()> {
    let pool = connect(url, 1).await?;
    sqlx::raw_sql("DROP SCHEMA IF EXISTS apalis CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public").execute(&pool).await?;
    // A new connection: this one remembers types of the schema that is gone.
    pool.close().await;
    Ok(PostgresStorage::setup(&connect(url, 1).await?).await?)
}

async fn enqueue(url: &str, messages: u64, batch: u64, producers: u32, payload: usize) -> Result<f64> {
    let pool = connect(url, producers).await?;
    let pad = "x".repeat(payload);
    let taken = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..producers {
        let (mut storage, pad, taken) = (storage(&pool), pad.clone(), taken.clone());
        tasks.spawn(async move {
            loop {
                let first = taken.fetch_add(batch, Relaxed);
                if first >= messages {
                    return anyhow::Ok(());
                }
                let count = batch.min(messages - first);
                storage.push_bulk((0..count).map(|_| Nothing { at: 0, pad: pad.clone() }).collect()).await?;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(begin.elapsed().as_secs_f64())
}

async fn left(url: &str) -> Result<i64> {
    let pool = connect(url, 1).await?;
    Ok(sqlx::query_scalar("SELECT count(*) FROM apalis.jobs WHERE status <> 'Done'").fetch_one(&pool).await?)
}

async fn work(url: &str) -> Result<()> {
    let pool = connect(url, 20).await?;
    println!("ready");
    std::io::stdin().lock().read_line(&mut String::new())?;
    let (context, mut running) = start(&pool, |_| ());
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
            ended = running.join_next() => bail!("the worker ended: {ended:?}"),
            _ = ticks.tick() => {}
        }
        let done = DONE.load(Relaxed);
        if done != shown {
            shown = done;
            writeln!(std::io::stdout(), "done {done}")?;
        }
    }
    finish((context, running)).await
}

async fn finish((context, running): Running) -> Result<()> {
    context.stop()?;
    for ended in running.join_all().await {
        ended?;
    }
    Ok(())
}

async fn steady(url: &str, rate: u64, seconds: u64) -> Result<serde_json::Value> {
    static DELAYS: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let pool = connect(url, 20).await?;
    let handler = |job: &Nothing| {
        let delay = nanos() - job.at;
        DELAYS.lock().unwrap().push(delay);
    };
    let running = start(&pool, handler);
    let taken = Arc::new(AtomicU64::new(0));
    let begin = tokio::time::Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..rate.min(16) {
        let (mut storage, taken) = (storage(&pool), taken.clone());
        tasks.spawn(async move {
            let mut offered = 0;
            loop {
                let at = Duration::from_secs_f64(taken.fetch_add(1, Relaxed) as f64 / rate as f64);
                let over = Duration::from_secs(seconds);
                if at >= over || begin.elapsed() >= over {
                    return anyhow::Ok(offered);
                }
                tokio::time::sleep_until(begin + at).await;
                storage.push(Nothing { at: nanos(), pad: String::new() }).await?;
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
    finish(running).await?;
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
        Command::Info => json!({"name": "apalis (PostgreSQL)", "version": "apalis 1.0.0, apalis-postgres 1.0.0",
            "settings": "batches of 5000, no locks per task, poll intervals 5 ms and 100 ms (a tick during a fetch is lost), one worker, pool of 20 connections; push_bulk",
            "keeps": "the row, with status Done, for ever. At least once: after a crash the jobs that the worker held are done again when \
                another worker sees that its heartbeat is 300 s old"}),
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
