//! A steady load: messages at a rate, and what becomes of each.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;
use tickr::{AnyAdmin, Client, Message, Raw, Worker, WorkerBuilder, WorkerHandle};

use crate::queue::{self, EVENT_TYPE, Watched};

/// Who enqueues at the same time, at most.
const TASKS: u64 = 16;
/// How long what was offered may take to be done.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is offered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Messages a second.
    pub(crate) rate: u64,
    /// Messages a transaction.
    pub(crate) batch: u64,
    pub(crate) seconds: u64,
    /// The bytes of a body, at least 8.
    pub(crate) payload: usize,
}

impl Offer {
    /// Small messages, one a transaction as long as that is possible.
    pub(crate) fn steady(rate: u64, seconds: u64) -> Self {
        Self { rate, batch: rate.div_ceil(4_000), seconds, payload: 64 }
    }

    pub(crate) fn messages(self) -> u64 {
        self.rate * self.seconds / self.batch * self.batch
    }
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "latencies are small")]
        let ms = |nanos: u64| (nanos as f64 / 1e6 * 1_000.0).round() / 1_000.0;
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: ms(histogram.max()) }
    }
}

/// From 1 µs to 10 minutes, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("the bounds are in order")
}

/// One second of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Second {
    /// Since the beginning.
    pub(crate) at: f64,
    pub(crate) started: u64,
    pub(crate) waiting: u64,
    /// From before the enqueue to the start of the handler.
    pub(crate) start: Latency,
}

/// What became of an offer.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) offered: u64,
    pub(crate) started: u64,
    /// From before the enqueue to the start of the handler.
    pub(crate) start: Latency,
    /// From before the enqueue until the success is recorded.
    pub(crate) success: Latency,
    /// How many a second were done while they were offered.
    pub(crate) per_second: f64,
    pub(crate) deepest: u64,
    pub(crate) seconds: Vec<Second>,
}

/// Shared by producers, handlers and the storage.
struct Book {
    began: Instant,
    enqueued: AtomicU64,
    started: AtomicU64,
    succeeded: AtomicU64,
    latencies: Mutex<Latencies>,
}

struct Latencies {
    start: Histogram<u64>,
    success: Histogram<u64>,
    /// Of the current second.
    second: Histogram<u64>,
}

impl Book {
    fn new() -> Self {
        let latencies = Latencies { start: histogram(), success: histogram(), second: histogram() };
        let zero = || AtomicU64::new(0);
        Self { began: Instant::now(), enqueued: zero(), started: zero(), succeeded: zero(), latencies: Mutex::new(latencies) }
    }

    /// A message carries the moment before it was enqueued.
    fn stamp(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn started(&self, stamp: u64) {
        let took = self.stamp().saturating_sub(stamp);
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.start.saturating_record(took);
        latencies.second.saturating_record(took);
        drop(latencies);
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    fn succeeded(&self, stamp: u64) {
        let took = self.stamp().saturating_sub(stamp);
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).success.saturating_record(took);
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }
}

/// A worker that is under load.
#[derive(Debug)]
pub(crate) struct Site {
    client: Client<AnyAdmin>,
    book: Arc<Book>,
    worker: WorkerHandle,
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Book").finish_non_exhaustive()
    }
}

impl Site {
    /// Starts a worker of the benchmark's event type, with handlers that take no time.
    pub(crate) fn start(storage: &AnyAdmin, settings: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> Result<Self> {
        let book = Arc::new(Book::new());
        let recorded = Arc::clone(&book);
        let watched = Watched::new(storage.clone(), Arc::new(move |stamp| recorded.succeeded(stamp)));
        let started = Arc::clone(&book);
        let handler = move |Raw(payload): Raw| {
            let book = Arc::clone(&started);
            async move {
                if let Some(stamp) = queue::number(&payload) {
                    book.started(stamp);
                }
            }
        };
        let worker = settings(Worker::builder(watched).stats_interval(None)).on(EVENT_TYPE, handler).build()?.spawn();
        Ok(Self { client: Client::new(storage.clone()), book, worker })
    }

    /// Enqueues evenly, and waits until all is done. `each_second` is called every second, with its number.
    pub(crate) async fn load(&self, offer: Offer, mut each_second: impl AsyncFnMut(u64) -> Result<()>) -> Result<Outcome> {
        let ticks = offer.messages() / offer.batch;
        let before = (self.book.started.load(Ordering::Relaxed), self.book.succeeded.load(Ordering::Relaxed));
        {
            let mut latencies = self.book.latencies.lock().unwrap_or_else(PoisonError::into_inner);
            *latencies = Latencies { start: histogram(), success: histogram(), second: histogram() };
        }
        let enqueued_before = self.book.enqueued.load(Ordering::Relaxed);
        let began = Instant::now();
        let producers: Vec<_> =
            (0..TASKS).map(|task| tokio::spawn(produce(self.client.clone(), Arc::clone(&self.book), offer, task, ticks, began))).collect();

        let mut seconds = Vec::new();
        let mut started_before = before.0;
        let mut done_in_time = 0;
        for second in 1..=offer.seconds {
            tokio::time::sleep_until((began + Duration::from_secs(second)).into()).await;
            let started = self.book.started.load(Ordering::Relaxed);
            let waiting = self.book.enqueued.load(Ordering::Relaxed).saturating_sub(enqueued_before).saturating_sub(started - before.0);
            let start = {
                let mut latencies = self.book.latencies.lock().unwrap_or_else(PoisonError::into_inner);
                let start = Latency::of(&latencies.second);
                latencies.second.reset();
                start
            };
            seconds.push(Second { at: began.elapsed().as_secs_f64(), started: started - started_before, waiting, start });
            started_before = started;
            done_in_time = self.book.succeeded.load(Ordering::Relaxed) - before.1;
            each_second(second).await?;
        }
        let took = began.elapsed().as_secs_f64();
        for producer in producers {
            producer.await??;
        }
        let deadline = Instant::now() + PATIENCE;
        while self.book.succeeded.load(Ordering::Relaxed) - before.1 < offer.messages() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let succeeded = self.book.succeeded.load(Ordering::Relaxed) - before.1;
        ensure!(succeeded >= offer.messages(), "{succeeded} of {} messages were done", offer.messages());
        let latencies = self.book.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let per_second = done_in_time as f64 / took;
        Ok(Outcome {
            offered: offer.messages(),
            started: self.book.started.load(Ordering::Relaxed) - before.0,
            start: Latency::of(&latencies.start),
            success: Latency::of(&latencies.success),
            per_second,
            deepest: seconds.iter().map(|second| second.waiting).max().unwrap_or(0),
            seconds,
        })
    }

    /// Ends the worker.
    pub(crate) async fn end(self) -> Result<()> {
        self.worker.shutdown();
        self.worker.join().await?;
        Ok(())
    }
}

/// One of the tasks: every 16th transaction is its own.
async fn produce(client: Client<AnyAdmin>, book: Arc<Book>, offer: Offer, task: u64, ticks: u64, began: Instant) -> Result<()> {
    for tick in (task..ticks).step_by(usize::try_from(TASKS)?) {
        let due = began + Duration::from_nanos(tick * offer.batch * 1_000_000_000 / offer.rate);
        tokio::time::sleep_until(due.into()).await;
        let mut payload = vec![b'x'; offer.payload.max(8)];
        let stamp = book.stamp();
        payload[..8].copy_from_slice(&stamp.to_le_bytes());
        let messages = (0..offer.batch).map(|_| Message::new(EVENT_TYPE, payload.clone()));
        client.enqueue_all(messages).await?;
        book.enqueued.fetch_add(offer.batch, Ordering::Relaxed);
    }
    Ok(())
}
