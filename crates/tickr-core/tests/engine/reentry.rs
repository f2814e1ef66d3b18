//! The user's code may look at the worker that calls it: no lock of the engine is held meanwhile.
//!
//! In real time, and judged from outside the runtime: an engine that waits for itself takes the runtime's threads with it.

use std::error::Error;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use tickr_core::{Context, Failure, Handler, MemoryStorage, Message, Metrics, RetryPolicy, State, Status, Worker, WorkerHealth};

use super::support::{enqueue, ms, record, secs, until_status};

/// Runs a test on a runtime of its own, and gives up if it does not end.
fn ends<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
        runtime.block_on(test());
        done.send(()).unwrap();
    });
    ended.recv_timeout(secs(60)).expect("the worker never answered");
}

/// The worker, for code that is made before it.
#[derive(Clone, Debug, Default)]
struct Itself(Arc<OnceLock<Arc<Worker>>>);

impl Itself {
    fn health(&self) -> Option<WorkerHealth> {
        self.0.get().map(|worker| worker.health())
    }
}

/// Asks for the worker's health before it says how long to wait.
#[derive(Debug)]
struct Curious(Itself, Arc<Mutex<Vec<WorkerHealth>>>);

impl RetryPolicy for Curious {
    fn next_delay(&self, _attempt: u16, _error: &(dyn Error + 'static)) -> Duration {
        self.1.lock().unwrap().extend(self.0.health());
        ms(1)
    }
}

/// Closed until the test opens it.
type Door = Arc<(Mutex<bool>, Condvar)>;

#[test]
fn the_retry_policy_and_the_predicate_of_a_blocked_handler_may_ask_for_health() {
    async fn block(context: Context, State(door): State<Door>) {
        if context.attempt() == 1 {
            let closed = door.0.lock().unwrap();
            drop(door.1.wait_timeout_while(closed, secs(90), |open| !*open).unwrap());
        }
    }
    ends(|| async {
        let (storage, door, itself, seen) = (MemoryStorage::new(), Door::default(), Itself::default(), Arc::default());
        let id = enqueue(&storage, Message::new("a", "")).await;
        let (policy, asked) = (Curious(itself.clone(), Arc::clone(&seen)), itself.clone());
        let builder = Worker::builder(storage.clone()).pool(1).abandon_after(ms(20)).state(Arc::clone(&door));
        let block = block.timeout(ms(50)).retry(policy);
        let block = block.dead_letter_if(move |_| asked.health().is_some_and(|health| !health.alive));
        let worker = Arc::new(builder.on("a", block).build().unwrap());
        itself.0.set(Arc::clone(&worker)).unwrap();
        let running = tokio::spawn({
            let worker = Arc::clone(&worker);
            async move { worker.run().await }
        });
        until_status(&storage, id, Status::Success).await;
        *door.0.lock().unwrap() = true;
        door.1.notify_all();
        let error = record(&storage, id).await.last_error;
        assert_eq!(error.as_deref(), Some("handler timed out after 50ms"));
        let health = seen.lock().unwrap()[0];
        assert_eq!((health.running, health.unsettled), (0, 1), "what is not decided yet counts as not recorded");
        running.abort();
    });
}

/// Asks for the worker's health whenever it is told how many handlers run.
#[derive(Debug)]
struct Gauge(Itself);

impl Metrics for Gauge {
    fn in_flight(&self, _n: u32) {
        self.0.health();
    }
}

#[test]
fn metrics_may_ask_for_health() {
    async fn fail(context: Context) -> Result<(), Failure> {
        if context.attempt() == 1 { Err(Failure::retry_after(Duration::ZERO, "not yet")) } else { Ok(()) }
    }
    ends(|| async {
        let (storage, itself) = (MemoryStorage::new(), Itself::default());
        enqueue(&storage, Message::new("a", "")).await;
        let builder = Worker::builder(storage.clone()).pool(1).metrics(Arc::new(Gauge(itself.clone())));
        let worker = Arc::new(builder.on("a", fail).build().unwrap());
        itself.0.set(Arc::clone(&worker)).unwrap();
        assert_eq!(worker.run_until_idle().await.unwrap().succeeded, 1);
    });
}
