//! A house full of what is finished and what is not due: it costs those who work as little as an empty one.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tickr::adapter::Uuid;
use tickr::admin::StatsRequest;
use tickr::{Admin, AnyAdmin, Handler, ListQuery, MessageId, Status, Storage as _, WorkerBuilder};

use crate::contender::Batch;
use crate::load::{Latency, Offer, Outcome, Site, histogram};
use crate::queue::SCHEMA;
use crate::report::{Bound, median};
use crate::run::Bench;
use crate::server;

/// What is there before.
struct House {
    finished: u64,
    delayed: u64,
    capped: u64,
}

/// A worker with 50 more types, and one at its cap: two messages of it are in work as long as the house is open.
fn tenants(open: &Arc<AtomicBool>) -> impl FnOnce(WorkerBuilder) -> WorkerBuilder {
    let open = Arc::clone(open);
    move |worker| {
        let worker = (0..50).fold(worker, |worker, n| worker.on(&format!("type-{n}"), || async {}));
        let handler = move || {
            let open = Arc::clone(&open);
            async move {
                while open.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        worker.on("capped", handler.max_in_flight(2))
    }
}

/// A load on the house as it is, and how fast a backlog is drained in it.
async fn live_in(bench: &Bench, storage: &AnyAdmin) -> Result<(Outcome, f64)> {
    let open = Arc::new(AtomicBool::new(true));
    let site = Site::start(storage, tenants(&open))?;
    site.load(Offer::steady(500, 2), async |_| Ok(())).await?;
    let outcome = site.load(Offer::steady(500, bench.sized(20, 5)), async |_| Ok(())).await?;
    open.store(false, Ordering::Relaxed);
    site.end().await?;

    let messages = bench.messages() / 2;
    let mut rates = Vec::new();
    for _ in 0..bench.runs() {
        bench.tickr.enqueue(&bench.url, Batch { messages, batch: 500, producers: 4, payload: 64 }, &[]).await?;
        bench.settle_down().await?;
        let mut crew = bench.tickr.hire(&bench.url, 1, &["--settings", "bench"]).await?;
        let began = Instant::now();
        crew.go().await?;
        // What the database holds besides is not of the type that is drained: what is done is what was recorded.
        crew.finish(messages).await?;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        rates.push(messages as f64 / began.elapsed().as_secs_f64());
        crew.dismiss().await?;
    }
    Ok((outcome, median(&rates)))
}

pub(crate) async fn full(bench: &mut Bench) -> Result<()> {
    if !bench.is_postgres() {
        bench.report.missing("full: the house is filled by SQL for PostgreSQL");
        return Ok(());
    }
    let house =
        House { finished: bench.sized(10_000_000, 200_000), delayed: bench.sized(1_000_000, 20_000), capped: bench.sized(100_000, 10_000) };
    let storage = bench.fresh().await?;
    let (empty, empty_drain) = live_in(bench, &storage).await?;
    drop(storage);
    let storage = bench.fresh().await?;
    println!("          full  filling: {} finished, {} delayed, {} behind a cap", house.finished, house.delayed, house.capped);
    fill(bench, &house).await?;
    bench.settle_down().await?;
    let (full, full_drain) = live_in(bench, &storage).await?;

    for (name, outcome, drain) in [("empty", &empty, empty_drain), ("full", &full, full_drain)] {
        bench.report.figure("full", format!("{name}, drain"), "messages/s", &[drain]);
        bench.report.figure("full", format!("{name}, enqueue to start at 500/s, p50"), "ms", &[outcome.start.p50]);
        bench.report.figure("full", format!("{name}, enqueue to start at 500/s, p99"), "ms", &[outcome.start.p99]);
    }
    bench.report.check("full", "drain in a full house / in an empty one", full_drain / empty_drain, Bound::AtLeast(0.9));
    questions(bench, &storage, &house).await?;
    backlog(bench).await
}

/// What operators ask.
async fn questions(bench: &mut Bench, storage: &AnyAdmin, house: &House) -> Result<()> {
    let client = server::connect(&bench.url).await?;
    let times = bench.sized(100, 20);
    let mut ids = Vec::new();
    for n in 0..times {
        let i = i64::try_from(1 + n * (house.finished / times))?;
        let id: Uuid = client.query_one(&format!("SELECT {SCHEMA}.bench_id($1)"), &[&i]).await?.get(0);
        ids.push(MessageId::from_uuid(id));
    }
    // The first ones make connections and plans.
    storage.get(ids[0]).await?;
    storage.history(ids[0]).await?;
    let (mut status, mut history, mut stats, mut list) = (histogram(), histogram(), histogram(), histogram());
    let nanos = |began: Instant| u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    for id in &ids {
        let began = Instant::now();
        let found = storage.get(*id).await?.context("a finished message is not found")?;
        status.saturating_record(nanos(began));
        anyhow::ensure!(found.status == Status::Success, "a finished message reads {:?}", found.status);
        let began = Instant::now();
        anyhow::ensure!(storage.history(*id).await?.len() >= 2, "a finished message has a history");
        history.saturating_record(nanos(began));
    }
    for _ in 0..times.min(20) {
        let began = Instant::now();
        storage.stats(&StatsRequest::default()).await?;
        stats.saturating_record(nanos(began));
        let began = Instant::now();
        storage.list(&ListQuery::default().status(Status::Success).limit(100)).await?;
        list.saturating_record(nanos(began));
    }
    for (name, histogram, bound) in
        [("status", &status, Some(50.0)), ("history", &history, Some(50.0)), ("stats", &stats, None), ("list of SUCCESS", &list, None)]
    {
        let latency = Latency::of(histogram);
        bench.report.figure("full", format!("{name}, p50"), "ms", &[latency.p50]);
        bench.report.figure("full", format!("{name}, p99"), "ms", &[latency.p99]);
        if let Some(bound) = bound {
            bench.report.check("full", format!("{name}, p99 in ms"), latency.p99, Bound::AtMost(bound));
        }
    }
    Ok(())
}

/// A worker before millions of ready messages.
async fn backlog(bench: &mut Bench) -> Result<()> {
    let messages = bench.sized(10_000_000, 100_000);
    bench.fresh().await?;
    println!("          full  filling: {messages} ready");
    let sql = include_str!("fill.sql").replace("'capped'", "'bench'");
    script(bench, &sql, 0, 0, messages).await?;
    bench.settle_down().await?;
    let mut crew = bench.tickr.hire(&bench.url, 1, &[]).await?;
    let began = Instant::now();
    crew.go().await?;
    let part = bench.sized(500_000, 20_000);
    crew.finish(part).await?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = crew.done() as f64 / began.elapsed().as_secs_f64();
    bench.report.figure("full", format!("defaults before {messages} ready messages"), "messages/s", &[rate]);
    if let Some(peak) = crew.peak_mb() {
        bench.report.figure("full", format!("memory of a worker before {messages} ready messages"), "MB", &[peak]);
        bench.report.check("full", "memory of a worker before a long backlog in MB", peak, Bound::AtMost(100.0));
    }
    crew.dismiss().await
}

async fn fill(bench: &Bench, house: &House) -> Result<()> {
    script(bench, include_str!("fill.sql"), house.finished, house.delayed, house.capped).await
}

/// Runs the statements one by one: VACUUM takes no transaction around it.
async fn script(bench: &Bench, sql: &str, finished: u64, delayed: u64, capped: u64) -> Result<()> {
    let sql = sql.replace("SCHEMA", SCHEMA);
    let numbers = [("FINISHED", finished), ("DELAYED", delayed), ("CAPPED", capped)];
    let sql = numbers.iter().fold(sql, |sql, (name, value)| sql.replace(name, &value.to_string()));
    let client = server::connect(&bench.url).await?;
    for statement in sql.split(";\n\n") {
        client.batch_execute(statement).await?;
    }
    Ok(())
}
