//! Messages at a rate: latency, and whether it stays flat.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use tickr::Retention;
use tickr::postgres::tokio_postgres::{self, AsyncMessage, NoTls};

use crate::load::{Latency, Offer, Outcome, Second, Site, histogram};
use crate::queue::{self, SCHEMA};
use crate::report::{Bound, Series, median};
use crate::run::Bench;
use crate::server;

/// The bare way of a wake-up: NOTIFY on one connection until another one hears it.
async fn ping(url: &str) -> Result<Latency> {
    let (listener, mut connection) = tokio_postgres::connect(url, NoTls).await?;
    let mut messages = poll_fn(move |context| connection.poll_message(context));
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let reader = tokio::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            if matches!(message, AsyncMessage::Notification(_)) && heard.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    listener.batch_execute("LISTEN bench_ping").await?;
    let sender = server::connect(url).await?;
    let mut latencies = histogram();
    for _ in 0..200 {
        let began = Instant::now();
        sender.batch_execute("NOTIFY bench_ping").await?;
        let at = hears.recv().await.context("the listener is gone")?;
        latencies.saturating_record(u64::try_from((at - began).as_nanos())?);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(listener);
    reader.abort();
    Ok(Latency::of(&latencies))
}

fn latencies(bench: &mut Bench, scenario: &'static str, name: &str, latency: Latency) {
    for (which, value) in [("p50", latency.p50), ("p95", latency.p95), ("p99", latency.p99), ("max", latency.max)] {
        bench.report.figure(scenario, format!("{name}, {which}"), "ms", &[value]);
    }
}

pub(crate) async fn steady(bench: &mut Bench) -> Result<()> {
    let seconds = bench.sized(30, 5);
    let bare = if bench.is_postgres() { Some(ping(&bench.url).await?) } else { None };
    if let Some(bare) = bare {
        latencies(bench, "steady", "bare LISTEN/NOTIFY ping", bare);
    }
    for rate in [500, 2_000, 10_000] {
        let storage = bench.fresh().await?;
        let site = Site::start(&storage, |worker| worker)?;
        // Connections are made and plans are cached.
        site.load(Offer::steady(rate, 2), async |_| Ok(())).await?;
        let before = bench.server.position().await?;
        let outcome = site.load(Offer::steady(rate, seconds), async |_| Ok(())).await?;
        let spent = bench.server.since(before.as_ref()).await?;
        site.end().await?;
        let name = format!("tickr, {rate} messages/s");
        latencies(bench, "steady", &format!("{name}, enqueue to start"), outcome.start);
        latencies(bench, "steady", &format!("{name}, enqueue to success"), outcome.success);
        #[expect(clippy::cast_precision_loss, reason = "a depth for people")]
        bench.report.figure("steady", format!("{name}, most that waited"), "messages", &[outcome.deepest as f64]);
        bench.report.figure("steady", format!("{name}, done"), "messages/s", &[outcome.per_second]);
        if let Some(cpu) = spent.and_then(|spent| spent.cpu_seconds) {
            #[expect(clippy::cast_precision_loss, reason = "few seconds")]
            bench.report.figure("steady", format!("{name}, CPU of the server"), "cores", &[cpu / seconds as f64]);
        }
        if let (2_000, Some(bare)) = (rate, bare) {
            if bare.p50 < 1.0 {
                bench.report.check("steady", "enqueue to start at 2,000/s, p50 in ms", outcome.start.p50, Bound::AtMost(3.0));
                bench.report.check("steady", "enqueue to start at 2,000/s, p99 in ms", outcome.start.p99, Bound::AtMost(15.0));
            } else {
                bench.report.missing(format!("the bounds at 2,000/s: a bare ping takes {} ms, so the machine is busy", bare.p50));
            }
        }
        if rate == 2_000 {
            let points = outcome.seconds.iter().map(|second| (second.at, second.start.p99)).collect();
            let lines = vec![("p99".to_owned(), points)];
            bench.report.series.push(Series { scenario: "steady", title: "enqueue to start at 2,000/s".to_owned(), unit: "ms", lines });
        }
    }
    for peer in bench.peers.clone() {
        let url = bench.database(&peer).await?;
        peer.prepare(&url).await?;
        bench.settle_down().await?;
        let steady = peer.steady(&url, 2_000, seconds.min(10)).await?;
        bench.remove(&peer).await?;
        let name = format!("{}, 2000 messages/s, enqueue to start", peer.name);
        let latency = Latency { p50: steady.p50_ms, p95: steady.p95_ms, p99: steady.p99_ms, max: steady.max_ms };
        latencies(bench, "steady", &name, latency);
        if steady.started < steady.offered {
            bench.report.missing(format!("{}: {} of {} were started", peer.name, steady.started, steady.offered));
        }
    }
    Ok(())
}

/// The median of what the seconds between two moments show.
fn between(outcome: &Outcome, from: f64, to: f64, of: impl Fn(&Second) -> f64) -> f64 {
    let values: Vec<f64> = outcome.seconds.iter().filter(|second| second.at > from && second.at <= to + 0.5).map(of).collect();
    median(&values)
}

pub(crate) async fn snapshot(bench: &mut Bench) -> Result<()> {
    if !bench.is_postgres() {
        bench.report.missing("snapshot: readers of SQLite hold nothing back but the log's end");
        return Ok(());
    }
    const RATE: u64 = 2_000;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds")]
    let held = (bench.snapshot_minutes() * 60.0) as u64;
    let after = bench.sized(30, 5);
    let storage = bench.fresh().await?;
    let site = Site::start(&storage, |worker| worker)?;
    site.load(Offer::steady(RATE, 2), async |_| Ok(())).await?;

    let holder = server::connect(&bench.url).await?;
    holder.batch_execute(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM {SCHEMA}.tickr_ready")).await?;
    let (mut dead, mut size) = (Vec::new(), Vec::new());
    let server = &bench.server;
    let outcome = site
        .load(Offer::steady(RATE, held + after), async |second| {
            if second == held {
                holder.batch_execute("COMMIT").await?;
            }
            if second % 5 == 0 {
                let sql = format!("SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_all_tables WHERE schemaname = '{SCHEMA}'");
                #[expect(clippy::cast_precision_loss, reason = "for a chart")]
                let number = |value: Option<i64>| value.unwrap_or(0) as f64;
                #[expect(clippy::cast_precision_loss, reason = "for a chart")]
                let at = second as f64;
                dead.push((at, number(server.number(&sql).await?)));
                let sql = format!("SELECT pg_total_relation_size('{SCHEMA}.tickr_ready')");
                size.push((at, number(server.number(&sql).await?) / 1_048_576.0));
            }
            Ok(())
        })
        .await?;
    site.end().await?;

    #[expect(clippy::cast_precision_loss, reason = "few seconds")]
    let (held, minute) = (held as f64, 60.0_f64.min(held as f64 / 2.0));
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let started = |second: &Second| second.started as f64;
    let p99 = |second: &Second| second.start.p99;
    let (first, last) = (between(&outcome, 0.0, minute, started), between(&outcome, held - minute, held, started));
    bench.report.figure("snapshot", "first minute", "messages/s", &[first]);
    bench.report.figure("snapshot", "last minute", "messages/s", &[last]);
    let (first_p99, last_p99) = (between(&outcome, 0.0, minute, p99), between(&outcome, held - minute, held, p99));
    bench.report.figure("snapshot", "first minute, enqueue to start, p99 of a second", "ms", &[first_p99]);
    bench.report.figure("snapshot", "last minute, enqueue to start, p99 of a second", "ms", &[last_p99]);
    let most = dead.iter().map(|(_, dead)| *dead).fold(0.0, f64::max);
    bench.report.figure("snapshot", "most dead rows", "rows", &[most]);
    bench.report.check("snapshot", "throughput of the last minute / of the first", last / first, Bound::AtLeast(0.9));
    bench.report.check("snapshot", "p99 of the last minute / of the first", last_p99 / first_p99, Bound::AtMost(2.0));
    let line = |name: &str, of: &dyn Fn(&Second) -> f64| (name.to_owned(), outcome.seconds.iter().map(|s| (s.at, of(s))).collect());
    let released = format!(", a snapshot is held until second {held}");
    bench.report.series.push(Series {
        scenario: "snapshot",
        title: format!("throughput{released}"),
        unit: "messages/s",
        lines: vec![line("started", &started)],
    });
    bench.report.series.push(Series {
        scenario: "snapshot",
        title: format!("enqueue to start{released}"),
        unit: "ms",
        lines: vec![line("p50", &|second| second.start.p50), line("p99", &p99)],
    });
    bench.report.series.push(Series {
        scenario: "snapshot",
        title: format!("dead rows of all tables{released}"),
        unit: "rows",
        lines: vec![("dead rows".to_owned(), dead)],
    });
    bench.report.series.push(Series {
        scenario: "snapshot",
        title: format!("size of ready and its indexes{released}"),
        unit: "MiB",
        lines: vec![("ready".to_owned(), size)],
    });
    Ok(())
}

pub(crate) async fn soak(bench: &mut Bench) -> Result<()> {
    let storage = bench.fresh().await?;
    let keep = Duration::from_secs(20);
    let retention = Retention::default().success(keep).dead(Some(keep)).history(Some(keep));
    let site = Site::start(&storage, |worker| worker.purge_interval(Duration::from_secs(1)).purge_batch(20_000).retention(retention))?;
    // What comes through while it is enqueued as fast as it can be: producers take their share of the machine from the drain.
    let burst = Offer { rate: bench.messages() * 5, batch: 500, seconds: 1, payload: 64 };
    let began = Instant::now();
    site.load(burst, async |_| Ok(())).await?;
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let through = burst.messages() as f64 / began.elapsed().as_secs_f64();
    bench.report.figure("soak", "enqueued and drained at the same time", "messages/s", &[through]);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate")]
    let rate = (through * 0.6) as u64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds")]
    let seconds = if bench.options.quick { 20 } else { (bench.options.soak_minutes * 60.0) as u64 };
    let (mut memory, mut disk) = (Vec::new(), Vec::new());
    let server = &bench.server;
    let url = bench.url.clone();
    let offer = Offer { rate, batch: rate.div_ceil(200), seconds, payload: 64 };
    let outcome = site
        .load(offer, async |second| {
            if second % 5 == 0 {
                #[expect(clippy::cast_precision_loss, reason = "for a chart")]
                let at = second as f64;
                memory.push((at, crate::process::now_mb(std::process::id()).unwrap_or(0.0)));
                disk.push((at, size_mb(server, &url).await?));
            }
            Ok(())
        })
        .await?;
    site.end().await?;
    bench.report.figure(
        "soak",
        "offered",
        "messages/s",
        &[{
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = rate as f64;
            rate
        }],
    );
    bench.report.figure("soak", "done", "messages/s", &[outcome.per_second]);
    latencies(bench, "soak", "enqueue to start", outcome.start);
    for (name, unit, points) in [("memory of the process", "MB", memory), ("size of the database", "MB", disk)] {
        let third = points.len() / 3;
        let values = |points: &[(f64, f64)]| points.iter().map(|(_, value)| *value).collect::<Vec<_>>();
        let (middle, last) = (median(&values(&points[third..2 * third])), median(&values(&points[2 * third..])));
        bench.report.figure("soak", format!("{name}, middle third"), unit, &[middle]);
        bench.report.figure("soak", format!("{name}, last third"), unit, &[last]);
        bench.report.check("soak", format!("{name}, last third / middle third"), last / middle, Bound::AtMost(1.2));
        bench.report.series.push(Series { scenario: "soak", title: name.to_owned(), unit, lines: vec![(name.to_owned(), points)] });
    }
    #[expect(clippy::cast_precision_loss, reason = "a duration")]
    let third = seconds as f64 / 3.0;
    let p99 = |second: &Second| second.start.p99;
    let (middle, last) = (between(&outcome, third, 2.0 * third, p99), between(&outcome, 2.0 * third, 3.0 * third, p99));
    bench.report.figure("soak", "enqueue to start, p99 of a second, middle third", "ms", &[middle]);
    bench.report.figure("soak", "enqueue to start, p99 of a second, last third", "ms", &[last]);
    bench.report.check("soak", "p99 of the last third / of the middle third", last / middle, Bound::AtMost(2.0));
    let points = outcome.seconds.iter().map(|second| (second.at, second.start.p99)).collect();
    let lines = vec![("p99".to_owned(), points)];
    bench.report.series.push(Series { scenario: "soak", title: "enqueue to start".to_owned(), unit: "ms", lines });
    Ok(())
}

/// The database on disk.
async fn size_mb(server: &server::Server, url: &str) -> Result<f64> {
    let bytes = if queue::scheme(url) == "postgres" {
        server.number("SELECT pg_database_size(current_database())").await?.unwrap_or(0)
    } else {
        let path = url.trim_start_matches("sqlite:");
        ["", "-wal"]
            .iter()
            .filter_map(|suffix| std::fs::metadata(format!("{path}{suffix}")).ok())
            .map(|file| file.len())
            .sum::<u64>()
            .cast_signed()
    };
    #[expect(clippy::cast_precision_loss, reason = "for a chart")]
    Ok(bytes as f64 / 1e6)
}
