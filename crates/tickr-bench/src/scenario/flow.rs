//! Throughputs: how many messages a second go in, and how many come out.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Result;
use tickr::postgres::PostgresStorage;
use tickr::postgres::deadpool_postgres::{Manager, Pool};
use tickr::postgres::tokio_postgres::NoTls;
use tickr::{Client, Message};

use crate::contender::{Batch, Drained};
use crate::floor;
use crate::observed::Observed;
use crate::queue::{EVENT_TYPE, SCHEMA, Settings};
use crate::report::Bound;
use crate::run::Bench;
use crate::server::Spent;

const RATE: &str = "messages/s";
/// A body of most measurements.
const SMALL: usize = 64;

/// What batches of 500 are.
fn batches(messages: u64) -> Batch {
    Batch { messages, batch: 500, producers: 4, payload: SMALL }
}

/// Values of one thing, a run each.
#[derive(Clone, Debug, Default)]
struct Runs {
    name: String,
    values: Vec<f64>,
}

/// Things that are measured by turns, so that what the machine does meanwhile meets all of them.
#[derive(Clone, Debug, Default)]
struct Table(Vec<Runs>);

impl Table {
    fn add(&mut self, name: impl Into<String>, value: f64) {
        let name = name.into();
        match self.0.iter_mut().find(|runs| runs.name == name) {
            Some(runs) => runs.values.push(value),
            None => self.0.push(Runs { name, values: vec![value] }),
        }
    }

    fn report(self, bench: &mut Bench, scenario: &'static str) {
        for Runs { name, values } in self.0 {
            bench.report.figure(scenario, name, RATE, &values);
        }
    }
}

/// The ratio of two figures of a scenario; checked where both were measured.
fn ratio(bench: &mut Bench, scenario: &'static str, value: &str, of: &str, bound: Bound) {
    if let (Some(value_per_s), Some(of_per_s)) = (bench.report.median(scenario, value), bench.report.median(scenario, of)) {
        let name = format!("{value} / {of}");
        if !bench.report.checks.iter().any(|check| check.scenario == scenario && check.name == name) {
            bench.report.check(scenario, name, value_per_s / of_per_s, bound);
        }
    }
}

/// The name of the highest of the throughputs whose names are asked for.
fn best_of(bench: &Bench, scenario: &str, asked: impl Fn(&str) -> bool) -> Option<String> {
    let figures = bench.report.figures.iter().filter(|figure| figure.scenario == scenario && figure.unit == RATE && asked(&figure.name));
    figures.max_by(|a, b| a.median.total_cmp(&b.median)).map(|figure| figure.name.clone())
}

/// The fastest of the peers.
fn best_peer(bench: &Bench, scenario: &str, kind: &str) -> Option<String> {
    let is_peer = |name: &str| bench.peers.iter().any(|peer| name.starts_with(&format!("{},", peer.name)));
    best_of(bench, scenario, |name| name.contains(kind) && is_peer(name))
}

pub(crate) async fn enqueue(bench: &mut Bench) -> Result<()> {
    let mut table = Table::default();
    let (many, few) = (bench.messages(), bench.sized(10_000, 1_000));
    for _ in 0..bench.runs() {
        bench.fresh().await?;
        if bench.is_postgres() {
            table.add("floor, batches of 500", floor::enqueue(&bench.url, batches(many), false).await?);
            bench.fresh().await?;
        }
        table.add("tickr, batches of 500", bench.tickr.enqueue(&bench.url, batches(many), &[]).await?);
        bench.fresh().await?;
        table.add("tickr, batches of 500 with idempotency keys", bench.tickr.enqueue(&bench.url, batches(many), &["--keys"]).await?);
        for producers in [1, 8, 32] {
            let single = Batch { messages: few * producers.min(8), batch: 1, producers, payload: SMALL };
            bench.fresh().await?;
            if bench.is_postgres() {
                table.add(format!("floor, one a transaction, {producers} producers"), floor::enqueue(&bench.url, single, false).await?);
                bench.fresh().await?;
            }
            table.add(format!("tickr, one a transaction, {producers} producers"), bench.tickr.enqueue(&bench.url, single, &[]).await?);
        }
        if bench.is_postgres() {
            let single = Batch { messages: few * 8, batch: 1, producers: 8, payload: SMALL };
            for name in ["floor", "tickr"] {
                bench.fresh().await?;
                bench.server.script(&format!("CREATE TABLE {SCHEMA}.bench_orders (n bigserial PRIMARY KEY, note text NOT NULL)")).await?;
                let per_second = if name == "floor" {
                    floor::enqueue(&bench.url, single, true).await?
                } else {
                    in_transactions(&bench.url, single).await?
                };
                table.add(format!("{name}, in the caller's transaction, 8 producers"), per_second);
            }
        }
        for peer in bench.peers.clone() {
            let url = bench.database(&peer).await?;
            peer.prepare(&url).await?;
            bench.settle_down().await?;
            table.add(format!("{}, batches of 500", peer.name), peer.enqueue(&url, batches(many), &[]).await?);
            let single = Batch { messages: few * 2, batch: 1, producers: 8, payload: SMALL };
            table.add(format!("{}, one a transaction, 8 producers", peer.name), peer.enqueue(&url, single, &[]).await?);
            bench.remove(&peer).await?;
        }
    }
    table.report(bench, "enqueue");
    ratio(bench, "enqueue", "tickr, batches of 500", "floor, batches of 500", Bound::AtLeast(0.8));
    for kind in ["one a transaction, 1 producers", "one a transaction, 8 producers", "one a transaction, 32 producers"] {
        ratio(bench, "enqueue", &format!("tickr, {kind}"), &format!("floor, {kind}"), Bound::AtLeast(0.8));
    }
    let caller = "in the caller's transaction, 8 producers";
    ratio(bench, "enqueue", &format!("tickr, {caller}"), &format!("floor, {caller}"), Bound::AtLeast(0.8));
    if let Some(peer) = best_peer(bench, "enqueue", "batches of 500") {
        ratio(bench, "enqueue", "tickr, batches of 500", &peer, Bound::AtLeast(2.0));
    }
    Ok(())
}

/// A business row and a message a transaction, as an application would with a pool.
async fn in_transactions(url: &str, what: Batch) -> Result<f64> {
    let pool = Pool::builder(Manager::new(url.parse()?, NoTls)).max_size(usize::try_from(what.producers)?).build()?;
    let storage = PostgresStorage::builder().pool(pool.clone()).schema(SCHEMA).connect().await?;
    let client = Client::new(storage);
    let left = Arc::new(AtomicU64::new(what.messages));
    // Connecting is not measured.
    let mut connections = Vec::new();
    for _ in 0..what.producers {
        connections.push(pool.get().await?);
    }
    let began = Instant::now();
    let producers: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let (client, left) = (client.clone(), Arc::clone(&left));
            tokio::spawn(async move {
                let order = connection.prepare_cached(&format!("INSERT INTO {SCHEMA}.bench_orders (note) VALUES ('shipped')")).await?;
                while left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let mut tx = connection.transaction().await?;
                    tx.execute(&order, &[]).await?;
                    client.enqueue_in(&mut tx, Message::new(EVENT_TYPE, vec![b'x'; what.payload])).await?;
                    tx.commit().await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for producer in producers {
        producer.await??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    Ok(what.messages as f64 / began.elapsed().as_secs_f64())
}

/// A preloaded drain of tickr, and what the server spent for enqueue and drain.
async fn drain_once(bench: &Bench, messages: u64, processes: usize, more: &[&str]) -> Result<(Drained, Option<Spent>, Option<Spent>)> {
    bench.fresh().await?;
    let before = bench.server.position().await?;
    bench.tickr.enqueue(&bench.url, batches(messages), &[]).await?;
    let enqueued = bench.server.since(before.as_ref()).await?;
    bench.loaded(&bench.url).await?;
    let before = bench.server.position().await?;
    let drained = bench.tickr.drain(&bench.url, messages, processes, more).await?;
    Ok((drained, enqueued, bench.server.since(before.as_ref()).await?))
}

pub(crate) async fn drain(bench: &mut Bench) -> Result<()> {
    let messages = bench.messages();
    let mut table = Table::default();
    let (mut wal, mut floor_wal, mut statements, mut commits, mut memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let each = |n: u64| n as f64 / messages as f64;
    for _ in 0..bench.runs() {
        for loops in [1, 2] {
            let storage = bench.fresh().await?;
            let before = bench.server.position().await?;
            if bench.is_postgres() {
                floor::enqueue(&bench.url, batches(messages), false).await?;
            } else {
                bench.tickr.enqueue(&bench.url, batches(messages), &[]).await?;
            }
            let enqueued = bench.server.since(before.as_ref()).await?;
            bench.loaded(&bench.url).await?;
            let before = bench.server.position().await?;
            table.add(format!("floor, {loops} loops"), floor::drain(&bench.url, &storage, messages, loops).await?);
            if let (1, Some(enqueued), Some(drained)) = (loops, enqueued, bench.server.since(before.as_ref()).await?) {
                floor_wal.push(each(enqueued.records_bytes() + drained.records_bytes()));
            }
        }
        for settings in [Settings::Bench, Settings::Defaults] {
            for processes in [1, 2, 4] {
                let (drained, enqueued, spent) = drain_once(bench, messages, processes, &["--settings", settings.name()]).await?;
                table.add(format!("tickr, {processes} processes, {} settings", settings.name()), drained.per_second);
                memory.extend(drained.peak_mb);
                if let (Settings::Bench, 1, Some(enqueued), Some(spent)) = (settings, processes, enqueued, spent) {
                    wal.push(each(enqueued.records_bytes() + spent.records_bytes()));
                    commits.push(each(spent.commits) * 100.0);
                    statements.extend(spent.statements.map(|statements| each(statements) * 100.0));
                }
            }
        }
        for peer in bench.peers.clone() {
            let processes: &[usize] = if peer.name == "graphile-worker" { &[1, 2] } else { &[1] };
            for &processes in processes {
                let url = bench.database(&peer).await?;
                peer.prepare(&url).await?;
                peer.enqueue(&url, batches(messages), &[]).await?;
                bench.loaded(&url).await?;
                let drained = peer.drain(&url, messages, processes, &[]).await?;
                table.add(format!("{}, {processes} processes", peer.name), drained.per_second);
                bench.remove(&peer).await?;
            }
        }
    }
    table.report(bench, "drain");
    let single = "tickr, 1 processes, bench settings";
    ratio(bench, "drain", single, "floor, 1 loops", Bound::AtLeast(0.7));
    let best = best_of(bench, "drain", |name| name.starts_with("tickr") && name.contains("process"));
    let floor = best_of(bench, "drain", |name| name.starts_with("floor"));
    let peer = best_peer(bench, "drain", "processes");
    if let (Some(best), Some(floor)) = (&best, floor) {
        ratio(bench, "drain", best, &floor, Bound::AtLeast(0.7));
    }
    ratio(bench, "drain", "tickr, 1 processes, defaults settings", single, Bound::AtLeast(0.6));
    ratio(bench, "drain", "tickr, 4 processes, bench settings", single, Bound::AtLeast(0.9));
    if let (Some(best), Some(peer)) = (best, peer) {
        ratio(bench, "drain", &best, &peer, Bound::AtLeast(4.0));
    }
    if !memory.is_empty() {
        bench.report.figure("drain", "tickr, most memory of a worker", "MB", &memory);
    }
    if !wal.is_empty() {
        let floor = bench.report.figure("drain", "floor, WAL for enqueue and success, without full-page images", "B/message", &floor_wal);
        let tickr = bench.report.figure("drain", "tickr, WAL for enqueue and success, without full-page images", "B/message", &wal);
        bench.report.check("drain", "WAL of tickr / floor", tickr / floor, Bound::AtMost(1.2));
        bench.report.figure("drain", "tickr, commits for 100 messages", "commits", &commits);
    }
    if !statements.is_empty() {
        let statements = bench.report.figure("drain", "tickr, statements for 100 messages", "statements", &statements);
        bench.report.check("drain", "statements for 100 messages", statements, Bound::AtMost(2.0));
    }
    Ok(())
}

pub(crate) async fn failures(bench: &mut Bench) -> Result<()> {
    let messages = bench.messages() / 2;
    let mut table = Table::default();
    for _ in 0..bench.runs() {
        for (name, handler) in [("tickr, nothing fails", "noop"), ("tickr, 30 % retried, 5 % dead", "fails")] {
            let (drained, ..) = drain_once(bench, messages, 1, &["--handler", handler]).await?;
            table.add(name, drained.per_second);
        }
    }
    table.report(bench, "failures");
    Ok(())
}

pub(crate) async fn observed(bench: &mut Bench) -> Result<()> {
    let messages = bench.messages();
    let mut table = Table::default();
    let kinds = [
        (Observed::Nothing, "nothing observed"),
        (Observed::Metrics, "metrics"),
        (Observed::OnePercent, "metrics and 1 % of traces"),
        (Observed::All, "metrics and all traces"),
    ];
    for _ in 0..bench.runs() {
        for (observed, name) in kinds {
            bench.fresh().await?;
            let more = ["--observed", observed.name()];
            table.add(format!("enqueue, {name}"), bench.tickr.enqueue(&bench.url, batches(messages), &more).await?);
            bench.loaded(&bench.url).await?;
            let more = ["--settings", Settings::Bench.name(), "--observed", observed.name()];
            table.add(format!("drain, {name}"), bench.tickr.drain(&bench.url, messages, 1, &more).await?.per_second);
        }
    }
    table.report(bench, "observed");
    ratio(bench, "observed", "drain, metrics and 1 % of traces", "drain, nothing observed", Bound::AtLeast(0.9));
    Ok(())
}

pub(crate) async fn payload(bench: &mut Bench) -> Result<()> {
    let mut table = Table::default();
    for _ in 0..bench.runs() {
        for (name, payload, messages, batch) in [
            ("64 B", 64, bench.messages() / 2, 500),
            ("4 KiB", 4_096, bench.messages() / 10, 500),
            ("256 KiB", 262_144, bench.messages() / 200, 20),
        ] {
            bench.fresh().await?;
            let what = Batch { messages, batch, producers: 4, payload };
            table.add(format!("tickr, enqueue, {name}"), bench.tickr.enqueue(&bench.url, what, &[]).await?);
            bench.settle_down().await?;
            table.add(format!("tickr, drain, {name}"), bench.tickr.drain(&bench.url, messages, 1, &[]).await?.per_second);
        }
    }
    table.report(bench, "payload");
    Ok(())
}
