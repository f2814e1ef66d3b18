//! River's Rust client as a peer. See ../README.md for the commands.

use std::convert::Infallible;
use std::io::{BufRead, Read, Write};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use riverqueue::migrate::{PostgresMigrator, SqliteMigrator};
use riverqueue::sqlx::postgres::PgPoolOptions;
use riverqueue::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use riverqueue::sqlx::{self, PgPool, SqlitePool};
use riverqueue::{Client, ClientBuilder, Job, JobArgs, QueueConfig, RunHandle};
use riverqueue::{WorkContext, WorkOutcome, Workers};
use serde::{Deserialize, Serialize};
use serde_json::json;

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
#[river(kind = "nothing")]
struct Nothing {
    at: u64,
    pad: String,
}

static STARTED: OnceLock<Instant> = OnceLock::new();
static DONE: AtomicU64 = AtomicU64::new(0);

fn nanos() -> u64 {
    STARTED.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Pool {
    async fn connect(url: &str, connections: u32) -> Result<Pool> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let options = SqliteConnectOptions::new()
                .filename(path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(30));
            let pool = SqlitePoolOptions::new().max_connections(connections.min(5)).connect_with(options).await?;
            return Ok(Pool::Sqlite(pool));
        }
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .min_connections(connections)
            .connect_with(sqlx::postgres::PgConnectOptions::from_str(url)?)
            .await?;
        let mut held = Vec::new();
        for _ in 0..connections {
            held.push(pool.acquire().await?);
        }
        drop(held);
        Ok(Pool::Postgres(pool))
    }

    fn builder(&self) -> ClientBuilder {
        match self {
            Pool::Postgres(pool) => Client::builder(pool.clone()),
            Pool::Sqlite(pool) => Client::builder(pool.clone()),
        }
    }
}

/// A client that works the default queue and calls `handler` for each job.
fn worker(pool: &Pool, handler: fn(&Nothing)) -> Result<Client> {
    let mut workers = Workers::new();
    workers.add_fn(move |_: WorkContext, job: Job<Nothing>| {
        handler(&job.args);
        DONE.fetch_add(1, Relaxed);
        std::future::ready(Ok::<_, Infallible>(WorkOutcome::Complete))
    })?;
    let queue = QueueConfig::new(5000).with_fetch_cooldown(Duration::from_millis(2)).with_fetch_poll_interval(Duration::from_millis(20));
    let builder = pool.builder().workers(workers);
    Ok(builder.queue(riverqueue::QUEUE_DEFAULT, queue).build()?)
}

async fn start(client: &Client) -> Result<RunHandle> {
    let mut run = client.start()?;
    run.wait_ready().await?;
    Ok(run)
}

async fn prepare(url: &str) -> Result<()> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        for suffix in ["", "-wal", "-shm"] {
            match std::fs::remove_file(format!("{path}{suffix}")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
    }
    match Pool::connect(url, 1).await? {
        Pool::Postgres(pool) => {
            sqlx::raw_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public").execute(&pool).await?;
            PostgresMigrator::new(pool).migrate_up().await?;
        }
        Pool::Sqlite(pool) => {
            SqliteMigrator::new(pool.clone()).migrate_up().await?;
            pool.close().await;
        }
    }
    Ok(())
}

async fn enqueue(url: &str, messages: u64, batch: u64, producers: u32, payload: usize) -> Result<f64> {
    // SQLite has one writer at a time: one connection spares its producers the waiting for each other's locks.
    let connections = if url.starts_with("sqlite:") { 1 } else { producers };
    let client = Pool::connect(url, connections).await?.builder().build()?;
    let pad = "x".repeat(payload);
    let taken = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..producers {
        let (client, pad, taken) = (client.clone(), pad.clone(), taken.clone());
        tasks.spawn(async move {
            loop {
                let first = taken.fetch_add(batch, Relaxed);
                if first >= messages {
                    return anyhow::Ok(());
                }
                let job = || Nothing { at: 0, pad: pad.clone() };
                if batch == 1 {
                    client.insert(job()).await?;
                } else {
                    let count = batch.min(messages - first);
                    client.insert_many((0..count).map(|_| job())).await?;
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(begin.elapsed().as_secs_f64())
}

async fn left(url: &str) -> Result<i64> {
    const COUNT: &str = "SELECT count(*) FROM river_job WHERE finalized_at IS NULL";
    Ok(match Pool::connect(url, 1).await? {
        Pool::Postgres(pool) => sqlx::query_scalar(COUNT).fetch_one(&pool).await?,
        Pool::Sqlite(pool) => sqlx::query_scalar(COUNT).fetch_one(&pool).await?,
    })
}

async fn work(url: &str) -> Result<()> {
    let pool = Pool::connect(url, 20).await?;
    let client = worker(&pool, |_| ())?;
    println!("ready");
    std::io::stdin().lock().read_line(&mut String::new())?;
    let mut run = start(&client).await?;
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
            result = run.wait() => return result.context("the client stopped"),
            _ = ticks.tick() => {}
        }
        let done = DONE.load(Relaxed);
        if done != shown {
            shown = done;
            writeln!(std::io::stdout(), "done {done}")?;
        }
    }
    run.stop().await?;
    Ok(())
}

async fn steady(url: &str, rate: u64, seconds: u64) -> Result<serde_json::Value> {
    static DELAYS: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let pool = Pool::connect(url, 20).await?;
    let client = worker(&pool, |job| {
        let delay = nanos() - job.at;
        DELAYS.lock().unwrap().push(delay);
    })?;
    let mut run = start(&client).await?;
    let taken = Arc::new(AtomicU64::new(0));
    let begin = tokio::time::Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..rate.min(16) {
        let (client, taken) = (client.clone(), taken.clone());
        tasks.spawn(async move {
            let mut offered = 0;
            loop {
                let at = Duration::from_secs_f64(taken.fetch_add(1, Relaxed) as f64 / rate as f64);
                let over = Duration::from_secs(seconds);
                if at >= over || begin.elapsed() >= over {
                    return anyhow::Ok(offered);
                }
                tokio::time::sleep_until(begin + at).await;
                client.insert(Nothing { at: nanos(), pad: String::new() }).await?;
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
    run.stop().await?;
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
        Command::Info => json!({"name": "River (Rust)", "version": "riverqueue 0.5.0",
            "settings": "5000 workers, fetch cooldown 2 ms, poll interval 20 ms, pool of 20 connections; insert_many, one transaction a batch. \
                With SQLite: WAL, synchronous FULL, pool of 5, of 1 to enqueue",
            "keeps": "the row, with state completed, until its cleaner deletes it 24 h later. At least once: after a crash the jobs that \
                were running are done again when its rescuer finds them, an hour (and the job timeout of a minute) later"}),
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
