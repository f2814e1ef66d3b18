//! The same job with volume: rows and messages in transactions of 500, then a worker on all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tickr::admin::StatsRequest;
use tickr::{Admin, BoxError, Client, Json, ListQuery, State, Status, Storage, Worker};

use crate::database::{Connection, Database, Order, Transaction};
use crate::report::{Promises, chapter};
use crate::shop::OrderPlaced;

/// How many orders one transaction places.
const BATCH: u64 = 500;

/// One transaction of so many is rolled back.
const ROLLED_BACK: u64 = 10;

#[derive(Clone, Default)]
struct Calls(Arc<AtomicU64>);

async fn count(Json(_): Json<OrderPlaced>, State(calls): State<Calls>) {
    calls.0.fetch_add(1, Ordering::Relaxed);
}

/// Enqueues and works off `messages`, and checks the counts.
pub(crate) async fn run(database: &impl Database, messages: u64) -> Result<Promises, BoxError> {
    let storage = database.storage();
    storage.migrate().await?;
    let since = storage.now().await?;

    chapter("1. Orders and their messages, in transactions of 500, of which one in ten is rolled back");
    let mut db = database.connect().await?;
    let before = db.count().await?;
    let client = Client::new(storage.clone());
    let order = Order { customer: "Everybody", item: "a pen", address: None, wants_mail: false };
    let bar = progress(messages)?;
    for round in 1.. {
        let mut tx = db.begin().await?;
        let mut bodies = Vec::new();
        for _ in 0..BATCH.min(messages - bar.position()) {
            bodies.push(Json(OrderPlaced { order: tx.insert(&order).await? }));
        }
        let enqueued = client.enqueue_all_in(&mut tx, bodies).await?.len() as u64;
        if round % ROLLED_BACK == 0 {
            tx.rollback().await?;
            continue;
        }
        tx.commit().await?;
        bar.inc(enqueued);
        if bar.position() >= messages {
            break;
        }
    }
    finish(&bar, "enqueued");

    chapter("2. A worker with default settings");
    let calls = Calls::default();
    let worker = Worker::builder(storage.clone()).state(calls.clone()).on_event(count).build()?;
    let bar = progress(messages)?;
    worker.run_until(drained(&storage, &calls, &bar)).await?;
    finish(&bar, "handled");

    let mut promises = Promises::default();
    promises.check("orders that were committed exist, rolled-back ones do not", db.count().await? - before, messages);
    promises.check("each of them has one message, and each message succeeded", successes(&storage, since).await?, messages);
    promises.check("every message was handled once", calls.0.load(Ordering::Relaxed), messages);
    promises.sound(&storage).await?;
    Ok(promises)
}

/// Counts every message since a moment, page by page, all of which must have succeeded.
async fn successes(storage: &impl Admin, since: tickr::Timestamp) -> Result<u64, BoxError> {
    let mut query = ListQuery::default().since(since).limit(ListQuery::LIMIT_MAX);
    let mut count = 0;
    loop {
        let page = storage.list(&query).await?;
        count += page.items.iter().filter(|record| record.status == Status::Success).count() as u64;
        match page.next {
            Some(last) => query = query.before(last),
            None => return Ok(count),
        }
    }
}

/// Waits until nothing waits or runs any more.
async fn drained(storage: &impl Admin, calls: &Calls, bar: &ProgressBar) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tick.tick().await;
        bar.set_position(calls.0.load(Ordering::Relaxed));
        // One is enough to know that there are some: the count may stop there.
        if let Ok(stats) = storage.stats(&StatsRequest::default().count_max(1)).await
            && [Status::Created, Status::Retrying, Status::Handling].iter().all(|status| stats.total(*status).n == 0)
        {
            bar.set_position(calls.0.load(Ordering::Relaxed));
            return;
        }
    }
}

fn progress(messages: u64) -> Result<ProgressBar, BoxError> {
    let style = ProgressStyle::with_template("  {wide_bar} {human_pos} of {human_len}, {per_sec}")?;
    Ok(ProgressBar::new(messages).with_style(style))
}

fn finish(bar: &ProgressBar, what: &str) {
    bar.finish_and_clear();
    let seconds = bar.elapsed().as_secs_f64();
    let rate = bar.position() as f64 / seconds;
    crate::report::line(&format!("{} messages {what} in {seconds:.1} s, {rate:.0} a second", bar.position()));
}
