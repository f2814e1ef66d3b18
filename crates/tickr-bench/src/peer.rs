//! tickr as one of the programs that the harness runs: see `bench/peers/README.md`.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use futures_util::future::try_join_all;
use serde_json::json;
use tickr::observe::{HandlerOutcome, Metrics};
use tickr::{AnyAdmin, Client, Context, Failure, Message, Storage as _, Worker};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::Notify;

use crate::contender::Batch;
use crate::load::{Offer, Site};
use crate::observed::Observed;
use crate::queue::{self, EVENT_TYPE, Settings};

#[derive(Debug, Subcommand)]
pub(crate) enum Peer {
    /// Says what is measured.
    Info,
    /// Makes the tables anew.
    Prepare(Place),
    /// Enqueues messages.
    Enqueue(Enqueue),
    /// Counts what is not finished.
    Left(Place),
    /// Works until standard input ends.
    Work(Work),
    /// Enqueues at a rate, and works.
    Steady(Steady),
}

#[derive(Debug, Args)]
pub(crate) struct Place {
    #[arg(long)]
    url: String,
}

#[derive(Debug, Args)]
pub(crate) struct Enqueue {
    #[arg(long)]
    url: String,
    #[arg(long)]
    messages: u64,
    #[arg(long)]
    batch: u64,
    #[arg(long)]
    producers: u64,
    #[arg(long)]
    payload: usize,
    /// Gives every message an idempotency key.
    #[arg(long)]
    keys: bool,
    #[arg(long, value_enum, default_value_t)]
    observed: Observed,
}

#[derive(Debug, Args)]
pub(crate) struct Work {
    #[arg(long)]
    url: String,
    #[arg(long, value_enum, default_value_t)]
    settings: Settings,
    #[arg(long, value_enum, default_value_t)]
    handler: Kind,
    #[arg(long, value_enum, default_value_t)]
    observed: Observed,
}

/// What a handler does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Nothing.
    #[default]
    Noop,
    /// Of a hundred messages 30 fail once and are retried at once, 5 are dead.
    Fails,
    /// Takes two seconds; 500 at a time.
    Long,
}

#[derive(Debug, Args)]
pub(crate) struct Steady {
    #[arg(long)]
    url: String,
    #[arg(long)]
    rate: u64,
    #[arg(long)]
    seconds: u64,
}

/// One line of JSON is the answer.
pub(crate) async fn run(peer: Peer) -> Result<()> {
    let answer = match peer {
        Peer::Info => json!({
            "name": "tickr",
            "version": env!("CARGO_PKG_VERSION"),
            "settings": Settings::BENCH,
            "keeps": "body for a day and history for 30 by default; after a crash what was not settled runs again when the lease ends (30 s)",
        }),
        Peer::Prepare(place) => {
            queue::fresh(&place.url).await?;
            json!({})
        }
        Peer::Enqueue(Enqueue { url, messages, batch, producers, payload, keys, observed }) => {
            // A connection a producer, as the floor has.
            let url = if url.starts_with("postgres") && !url.contains('?') { format!("{url}?pool_size={producers}") } else { url };
            let client = client(queue::open(&url).await?, observed)?;
            let took = enqueue(&client, Batch { messages, batch, producers, payload }, keys).await?;
            json!({ "messages": messages, "seconds": took.as_secs_f64() })
        }
        Peer::Left(place) => json!({ "left": queue::left(&queue::open(&place.url).await?).await? }),
        Peer::Work(work) => return work.run().await,
        Peer::Steady(steady) => {
            let storage = queue::open(&steady.url).await?;
            let site = Site::start(&storage, |worker| worker)?;
            let outcome = site.load(Offer::steady(steady.rate, steady.seconds), async |_| Ok(())).await?;
            site.end().await?;
            let start = outcome.start;
            json!({
                "offered": outcome.offered, "started": outcome.started,
                "p50_ms": start.p50, "p95_ms": start.p95, "p99_ms": start.p99, "max_ms": start.max,
            })
        }
    };
    println!("{answer}");
    Ok(())
}

fn client(storage: AnyAdmin, observed: Observed) -> Result<Client<AnyAdmin>> {
    let mut builder = Client::builder(storage);
    if let Some(metrics) = observed.metrics()? {
        builder = builder.metrics(metrics);
    }
    if let Some(tracer) = observed.tracer() {
        builder = builder.tracer(tracer);
    }
    Ok(builder.build())
}

/// Enqueues from several tasks; the time from the first enqueue to the last commit.
pub(crate) async fn enqueue(client: &Client<AnyAdmin>, what: Batch, keys: bool) -> Result<Duration> {
    ensure!(what.messages > 0 && what.batch > 0 && what.producers > 0, "messages, batch and producers must be above 0");
    let left = Arc::new(AtomicU64::new(what.messages));
    let payload = vec![b'x'; what.payload];
    // Connections are made before: as many as are in use at the same time.
    try_join_all((0..what.producers).map(|_| client.storage().now())).await?;
    let start = Instant::now();
    let producers = (0..what.producers).map(|_| {
        let (client, left, payload, batch) = (client.clone(), Arc::clone(&left), payload.clone(), what.batch);
        tokio::spawn(async move {
            loop {
                let take = left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left > 0).then(|| left.saturating_sub(batch)));
                let Ok(before) = take else { return Ok::<(), tickr::Error>(()) };
                let messages = (0..before.min(batch)).map(|n| {
                    let message = Message::new(EVENT_TYPE, payload.clone());
                    if keys { message.idempotency_key(format!("order-{}", before - n)) } else { message }
                });
                client.enqueue_all(messages).await?;
            }
        })
    });
    let producers: Vec<_> = producers.collect();
    for producer in producers {
        producer.await??;
    }
    Ok(start.elapsed())
}

impl Work {
    async fn run(self) -> Result<()> {
        let storage = queue::open(&self.url).await?;
        let done = Arc::new(Done { more: Notify::new(), count: AtomicU64::new(0), metrics: self.observed.metrics()? });
        let mut builder = self.settings.of(Worker::builder(storage).stats_interval(None)).metrics(Arc::clone(&done) as Arc<dyn Metrics>);
        if let Some(tracer) = self.observed.tracer() {
            builder = builder.tracer(tracer);
        }
        let builder = match self.handler {
            Kind::Noop => builder.on(EVENT_TYPE, || async {}),
            Kind::Fails => builder.on(EVENT_TYPE, |context: Context| std::future::ready(fails(&context))),
            Kind::Long => builder.pool(500).on(EVENT_TYPE, || tokio::time::sleep(Duration::from_secs(2))),
        };
        let worker = builder.build()?;
        println!("ready");
        let mut input = BufReader::new(tokio::io::stdin()).lines();
        if input.next_line().await?.is_none() {
            return Ok(());
        }
        let worker = worker.spawn();
        let mut ended = std::pin::pin!(input.next_line());
        loop {
            // Told of it, not polled for: an idle worker is measured too.
            tokio::select! {
                _ = &mut ended => break,
                () = done.more.notified() => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    println!("done {}", done.count.load(Ordering::Relaxed));
                }
            }
        }
        worker.shutdown();
        worker.join().await?;
        Ok(())
    }
}

/// Counts what ended for good, when that is recorded, and tells the metrics that are measured.
#[derive(Debug)]
struct Done {
    count: AtomicU64,
    more: Notify,
    metrics: Option<Arc<dyn Metrics>>,
}

impl Done {
    fn tell(&self, tell: impl FnOnce(&dyn Metrics)) {
        if let Some(metrics) = &self.metrics {
            tell(&**metrics);
        }
    }
}

/// What a drain tells.
impl Metrics for Done {
    fn handler_started(&self, event_type: &str, attempt: u16) {
        self.tell(|metrics| metrics.handler_started(event_type, attempt));
    }

    fn handler_completed(&self, event_type: &str, attempt: u16, ran: Option<Duration>, outcome: HandlerOutcome) {
        self.tell(|metrics| metrics.handler_completed(event_type, attempt, ran, outcome));
        if matches!(outcome, HandlerOutcome::Success | HandlerOutcome::Dead) {
            self.count.fetch_add(1, Ordering::Relaxed);
            self.more.notify_one();
        }
    }

    fn message_dead(&self, event_type: &str) {
        self.tell(|metrics| metrics.message_dead(event_type));
    }

    fn claim_batch(&self, claimed: u32, requested: u32, duration: Duration) {
        self.tell(|metrics| metrics.claim_batch(claimed, requested, duration));
    }

    fn settle_batch(&self, outcomes: u32, duration: Duration) {
        self.tell(|metrics| metrics.settle_batch(outcomes, duration));
    }

    fn in_flight(&self, n: u32) {
        self.tell(|metrics| metrics.in_flight(n));
    }
}

/// Which messages fail is said by the last byte of their random part.
fn fails(context: &Context) -> Result<(), Failure> {
    let of_256 = context.message().id.as_uuid().as_bytes()[15];
    match of_256 {
        // 5 %.
        0..13 => Err(Failure::dead("this order cannot be shipped")),
        // 30 %.
        13..90 if context.attempt() == 1 => Err(Failure::retry_after(Duration::ZERO, "the warehouse did not answer")),
        _ => Ok(()),
    }
}
