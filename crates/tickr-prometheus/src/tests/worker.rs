//! A worker's run is what the metrics say it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tickr_core::{
    Batch, BatchHandler, Client, Context, Failure, FromMessage, Handler, MemoryStorage, Message, Metrics, Outcome, Verdict, Worker,
    WorkerBuilder,
};

use super::{Scrape, registered, scrape};
use crate::PrometheusMetrics;

/// How many messages of each kind.
const EACH: u64 = 20;
const FOREVER: Duration = Duration::from_secs(3_600);

/// A body that is anything.
struct Body;

impl FromMessage for Body {
    fn from_message(_: &Context) -> Result<Self, Failure> {
        Ok(Self)
    }
}

async fn retried_once(context: Context) -> Result<(), Failure> {
    if context.attempt() == 1 { Err(Failure::retry_after(Duration::ZERO, "not yet")) } else { Ok(()) }
}

async fn batch(items: Batch<Body>) -> Vec<Verdict> {
    (0..items.len()).map(|n| if n == 0 { Err(Failure::dead("the first")) } else { Ok(Outcome::Done) }).collect()
}

fn worker(storage: MemoryStorage, metrics: Arc<dyn Metrics>) -> WorkerBuilder {
    Worker::builder(storage)
        .metrics(metrics)
        .on("success", async || ())
        .on("skip", async || Outcome::skip("nothing to do"))
        .on("retry", retried_once)
        .on("snooze", async || Outcome::snooze(FOREVER))
        .on("dead", async || Err::<(), _>(Failure::dead("never")))
        .on("exhausted", (async || Err::<(), _>(Failure::retry_after(Duration::ZERO, "never"))).max_attempts(3))
        .on_batch("batch", batch.max_batch(10))
}

fn attempts(now: &Scrape, event_type: &str) -> Vec<(String, f64)> {
    let prefix = format!("tickr_handler_attempts_total{{event_type=\"{event_type}\",outcome=\"");
    let label = |series: &str| Some(series.strip_prefix(&prefix)?.strip_suffix("\"}")?.to_owned());
    now.iter().filter(|(_, n)| **n > 0.0).filter_map(|(series, n)| Some((label(series)?, *n))).collect()
}

fn of(now: &Scrape, name: &str, event_type: &str) -> f64 {
    now[&format!("{name}{{event_type=\"{event_type}\"}}")]
}

#[tokio::test]
async fn counts_equal_what_was_done() {
    let (registry, metrics) = registered();
    let metrics = Arc::new(metrics);
    let storage = MemoryStorage::new();
    let client = Client::builder(storage.clone()).metrics(metrics.clone()).build();
    let types = ["success", "skip", "retry", "snooze", "dead", "exhausted", "batch"];
    for event_type in types {
        for _ in 0..EACH {
            client.enqueue(Message::new(event_type, "x")).await.unwrap();
        }
    }
    let report = worker(storage, metrics).build().unwrap().run_until_idle().await.unwrap();

    let now = scrape(&registry);
    let n = EACH as f64;
    assert_eq!(attempts(&now, "success"), [("success".to_owned(), n)]);
    assert_eq!(attempts(&now, "skip"), [("skip".to_owned(), n)]);
    assert_eq!(attempts(&now, "retry"), [("retry".to_owned(), n), ("success".to_owned(), n)]);
    assert_eq!(attempts(&now, "snooze"), [("snooze".to_owned(), n)]);
    assert_eq!(attempts(&now, "dead"), [("dead".to_owned(), n)]);
    assert_eq!(attempts(&now, "exhausted"), [("dead".to_owned(), n), ("retry".to_owned(), 2.0 * n)]);
    let in_batches = attempts(&now, "batch");
    assert_eq!(in_batches.iter().map(|(_, n)| n).sum::<f64>(), n);
    assert!(in_batches.iter().any(|(outcome, n)| outcome == "dead" && *n >= 2.0), "{in_batches:?}: at most ten a call");

    let mut completed = 0.0;
    for event_type in types {
        assert_eq!(of(&now, "tickr_messages_enqueued_total", event_type), n);
        let ended: f64 = attempts(&now, event_type).iter().map(|(_, n)| n).sum();
        assert_eq!(of(&now, "tickr_handlers_started_total", event_type), ended);
        assert_eq!(of(&now, "tickr_handler_duration_seconds_count", event_type), ended);
        let dead = attempts(&now, event_type).iter().find(|(outcome, _)| outcome == "dead").map_or(0.0, |(_, n)| *n);
        assert_eq!(of(&now, "tickr_messages_dead_total", event_type), dead);
        completed += ended;
    }
    assert_eq!(now["tickr_claimed_messages_total"], completed);
    assert_eq!(now["tickr_claimed_messages_total"], report.claimed as f64);
    assert_eq!(now["tickr_claim_batch_size_sum"], completed);
    assert_eq!(now["tickr_settle_batch_size_sum"], completed);
    assert_eq!(now["tickr_claim_batch_size_count"], now["tickr_claim_duration_seconds_count"]);
    assert!(now["tickr_claim_requested_messages_total"] >= completed);
    assert_eq!(now["tickr_settle_refused_outcomes_total"], 0.0);
    assert_eq!(now["tickr_inflight_handlers"], 0.0);
}

#[tokio::test]
async fn a_running_worker_shows_the_queue() {
    let (registry, metrics) = registered();
    let storage = MemoryStorage::new();
    let client = Client::new(storage.clone());
    client.enqueue(Message::new("unknown", "x")).await.unwrap();
    client.enqueue(Message::new("snooze", "x")).await.unwrap();
    client.enqueue(Message::new("dead", "x")).await.unwrap();
    let handle = worker(storage, Arc::new(metrics)).stats_interval(Some(Duration::from_millis(10))).build().unwrap().spawn();
    let shown = |now: &Scrape| {
        let depth =
            |event_type: &str, status: &str| now.get(&format!("tickr_queue_depth{{event_type=\"{event_type}\",status=\"{status}\"}}"));
        depth("snooze", "created") == Some(&1.0)
            && depth("dead", "dead") == Some(&1.0)
            && depth("unknown", "created") == Some(&1.0)
            && now.get("tickr_unserved_messages{event_type=\"unknown\"}") == Some(&1.0)
            && now.get("tickr_unserved_messages{event_type=\"snooze\"}") == Some(&0.0)
            && now.get("tickr_queue_sampled_timestamp_seconds").is_some_and(|at| *at > 1e9)
    };
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..2_000 {
        ticks.tick().await;
        if shown(&scrape(&registry)) {
            handle.shutdown();
            return handle.join().await.unwrap();
        }
    }
    panic!("{:#?}", scrape(&registry));
}

#[tokio::test]
async fn workers_with_registries_of_their_own_do_not_mix() {
    let ((registry_a, a), (registry_b, b)) = (registered(), registered());
    let (storage_a, storage_b) = (MemoryStorage::new(), MemoryStorage::new());
    for (storage, messages) in [(&storage_a, 3), (&storage_b, 5)] {
        for _ in 0..messages {
            Client::new(storage.clone()).enqueue(Message::new("success", "x")).await.unwrap();
        }
    }
    let run =
        async |storage, metrics: PrometheusMetrics| worker(storage, Arc::new(metrics)).build().unwrap().run_until_idle().await.unwrap();
    tokio::join!(run(storage_a, a), run(storage_b, b));
    assert_eq!(attempts(&scrape(&registry_a), "success"), [("success".to_owned(), 3.0)]);
    assert_eq!(attempts(&scrape(&registry_b), "success"), [("success".to_owned(), 5.0)]);
}

#[tokio::test]
async fn what_a_shutdown_gives_back_is_released() {
    static STARTED: AtomicBool = AtomicBool::new(false);
    let (registry, metrics) = registered();
    let storage = MemoryStorage::new();
    Client::new(storage.clone()).enqueue(Message::new("hangs", "x")).await.unwrap();
    let hangs = async |context: Context| {
        STARTED.store(true, Ordering::SeqCst);
        context.cancelled().cancelled().await;
        Err::<(), _>(Failure::new("stopped"))
    };
    let handle = Worker::builder(storage).metrics(Arc::new(metrics)).on("hangs", hangs).build().unwrap().spawn();
    while !STARTED.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    // The worker's own thread for metrics is milliseconds behind.
    while scrape(&registry)["tickr_inflight_handlers"] != 1.0 {
        tokio::task::yield_now().await;
    }
    handle.shutdown_now();
    handle.join().await.unwrap();
    let now = scrape(&registry);
    assert_eq!(attempts(&now, "hangs"), [("released".to_owned(), 1.0)]);
    assert_eq!(of(&now, "tickr_messages_dead_total", "hangs"), 0.0);
    assert_eq!(now["tickr_inflight_handlers"], 0.0);
}
