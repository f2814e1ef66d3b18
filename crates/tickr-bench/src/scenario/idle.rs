//! Workers that wait: for work, or for handlers that take long.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use tickr::postgres::tokio_postgres::{self, AsyncMessage, NoTls};
use tickr::{Client, Message, Worker};
use tickr_sql::postgres::Names;
use tokio::sync::mpsc;

use crate::contender::Batch;
use crate::load::{Latency, Offer, Site, histogram};
use crate::queue::{self, EVENT_TYPE, SCHEMA};
use crate::report::Bound;
use crate::run::Bench;

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) async fn idle(bench: &mut Bench) -> Result<()> {
    let seconds = bench.sized(60, 10);
    for workers in [1, 16] {
        bench.fresh().await?;
        let mut crew = bench.tickr.hire(&bench.url, workers, &[]).await?;
        crew.go().await?;
        // Until they have found out that there is nothing to do.
        tokio::time::sleep(Duration::from_secs(8)).await;
        let (before, cpu, beats) = (bench.server.position().await?, crew.cpu_seconds(), heartbeats(bench).await?);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let cpu = (crew.cpu_seconds() - cpu) / seconds as f64 / workers as f64 * 100.0;
        let (spent, beats_now) = (bench.server.since(before.as_ref()).await?, heartbeats(bench).await?);
        crew.dismiss().await?;
        let each = |n: f64| n / seconds as f64 / workers as f64;
        let cpu = bench.report.figure("idle", format!("{workers} workers, CPU of each"), "% of a core", &[cpu]);
        bench.report.check("idle", format!("{workers} workers, CPU of each in % of a core"), cpu, Bound::AtMost(0.5));
        let Some(spent) = spent else { continue };
        if let Some(cpu) = spent.cpu_seconds {
            bench.report.figure("idle", format!("{workers} workers, CPU of the server"), "% of a core", &[cpu / seconds as f64 * 100.0]);
        }
        match (spent.statements, beats, beats_now) {
            (Some(statements), Some(beats), Some(beats_now)) => {
                let statements = each(statements as f64 - (beats_now - beats) as f64);
                bench.report.figure(
                    "idle",
                    format!("{workers} workers, statements of each, without heartbeats"),
                    "statements/s",
                    &[statements],
                );
                bench.report.check("idle", format!("{workers} workers, statements/s of each"), statements, Bound::AtMost(1.0));
            }
            _ => bench.report.missing("statements of idle workers: the server has no pg_stat_statements"),
        }
    }
    first_message(bench).await?;
    if bench.is_postgres() {
        notifications(bench).await?;
    }
    Ok(())
}

/// How many statements were heartbeats.
async fn heartbeats(bench: &Bench) -> Result<Option<i64>> {
    let sql = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements WHERE query LIKE '/* tickr worker/beat%'";
    Ok(bench.server.number(sql).await.ok().flatten())
}

/// From before the enqueue to the start of the handler, after silence: by the handle of the worker, and by another one with
/// connections of its own, as from another process.
async fn first_message(bench: &mut Bench) -> Result<()> {
    let (silence, times) = (bench.sized(10, 3), bench.sized(12, 3));
    for (name, same) in [("own handle", true), ("another process's handle", false)] {
        let storage = bench.fresh().await?;
        let (started, mut starts) = mpsc::unbounded_channel();
        let started = Arc::new(started);
        let handler = move || {
            let started = Arc::clone(&started);
            async move {
                let _ = started.send(Instant::now());
            }
        };
        let worker = Worker::builder(storage.clone()).on(EVENT_TYPE, handler).build()?.spawn();
        let client = Client::new(if same { storage } else { queue::open(&bench.url).await? });
        let mut latencies = histogram();
        for _ in 0..times {
            tokio::time::sleep(Duration::from_secs(silence)).await;
            let began = Instant::now();
            client.enqueue(Message::new(EVENT_TYPE, "first")).await?;
            let at =
                tokio::time::timeout(Duration::from_secs(10), starts.recv()).await.context("a message is lost")?.context("no worker")?;
            latencies.saturating_record(u64::try_from((at - began).as_nanos())?);
        }
        worker.shutdown();
        worker.join().await?;
        let latency = Latency::of(&latencies);
        bench.report.figure("idle", format!("first message after {silence} s, {name}, median of {times}"), "ms", &[latency.p50]);
        bench.report.figure("idle", format!("first message after {silence} s, {name}, longest of {times}"), "ms", &[latency.max]);
        let bound = if bench.is_postgres() || same { 10.0 } else { 25.0 };
        bench.report.check("idle", format!("first message after silence, {name}, median in ms"), latency.p50, Bound::AtMost(bound));
    }
    Ok(())
}

/// A busy producer's transactions notify nobody.
async fn notifications(bench: &mut Bench) -> Result<()> {
    let storage = bench.fresh().await?;
    let site = Site::start(&storage, |worker| worker)?;
    site.load(Offer::steady(2_000, 2), async |_| Ok(())).await?;
    let (listener, mut connection) = tokio_postgres::connect(&bench.url, NoTls).await?;
    let (heard, mut hears) = mpsc::unbounded_channel();
    let reader = tokio::spawn(async move {
        let mut messages = poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if matches!(message, AsyncMessage::Notification(_)) {
                let _ = heard.send(());
            }
        }
    });
    let channel = Names::new(Some(SCHEMA), Names::PREFIX)?.channel();
    listener.batch_execute(&format!("LISTEN \"{channel}\"")).await?;
    let outcome = site.load(Offer::steady(2_000, 5), async |_| Ok(())).await?;
    site.end().await?;
    let mut count = 0.0;
    while hears.try_recv().is_ok() {
        count += 1.0;
    }
    reader.abort();
    bench.report.figure("idle", format!("notifications of {} busy transactions", outcome.offered), "notifications", &[count]);
    bench.report.check("idle", "notifications of busy transactions", count, Bound::AtMost(0.0));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) async fn long(bench: &mut Bench) -> Result<()> {
    let messages = bench.sized(5_000, 1_000);
    bench.fresh().await?;
    bench.tickr.enqueue(&bench.url, Batch { messages, batch: 500, producers: 4, payload: 64 }, &[]).await?;
    bench.settle_down().await?;
    let (before, beats) = (bench.server.position().await?, heartbeats(bench).await?);
    let drained = bench.tickr.drain(&bench.url, messages, 1, &["--handler", "long"]).await?;
    let took = messages as f64 / drained.per_second;
    let per_second = bench.report.figure("long", "500 at a time, 2 s each", "messages/s", &[drained.per_second]);
    bench.report.figure("long", "of what 500 at a time could be", "of 250 messages/s", &[per_second / 250.0]);
    if let Some(spent) = bench.server.since(before.as_ref()).await? {
        if let (Some(beats), Some(now)) = (beats, heartbeats(bench).await?) {
            bench.report.figure("long", "heartbeats", "statements/s", &[(now - beats) as f64 / took]);
        }
        if let Some(statements) = spent.statements {
            bench.report.figure("long", "all statements", "statements/s", &[statements as f64 / took]);
        }
        if let Some(cpu) = spent.cpu_seconds {
            bench.report.figure("long", "CPU of the server", "% of a core", &[cpu / took * 100.0]);
        }
    }
    Ok(())
}
