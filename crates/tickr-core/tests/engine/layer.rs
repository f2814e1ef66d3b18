//! Layers of tower around handlers.

use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tickr_core::{
    Admin, Batch, BatchHandler, Call, Context, Failure, Handler, HandlerService, Message, Outcome, Raw, Registry, State, Status, Verdict,
};
use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
use tower::timeout::TimeoutLayer;
use tower::{Layer, Service};

use super::support::{Crowd, Probe, enqueue, enqueue_many, memory, ms, record, secs, sound, worker};

/// Notes each call and what it came to.
#[derive(Clone)]
struct Log(Probe, &'static str);

impl<S> Layer<S> for Log {
    type Service = Logged<S>;

    fn layer(&self, inner: S) -> Logged<S> {
        Logged(self.clone(), inner)
    }
}

#[derive(Clone)]
struct Logged<S>(Log, S);

impl<S> Service<Call> for Logged<S>
where
    S: Service<Call, Response = Vec<Verdict>, Future: Send + 'static>,
{
    type Response = Vec<Verdict>;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Vec<Verdict>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.1.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Log(probe, name) = self.0.clone();
        let bodies: Vec<_> = call.contexts().map(|context| String::from_utf8_lossy(context.payload()).into_owned()).collect();
        probe.note(format!("{name} {} {} attempt {}", call.event_type(), bodies.join("+"), call.context().attempt()));
        let answer = self.1.call(call);
        Box::pin(async move {
            let verdicts = answer.await?;
            let told: Vec<_> = verdicts.iter().map(|verdict| if verdict.is_ok() { "ok" } else { "failed" }).collect();
            probe.note(format!("{name} {}", told.join("+")));
            Ok(verdicts)
        })
    }
}

async fn odd_fails(Raw(body): Raw) -> Result<(), Failure> {
    if body == "1" { Err(Failure::dead("odd")) } else { Ok(()) }
}

#[tokio::test(start_paused = true)]
async fn a_logging_layer_sees_every_message_and_its_verdict() {
    let (storage, probe) = (memory(), Probe::new());
    enqueue_many(&storage, "a", 2).await;
    let builder = worker(&storage).pool(1).on("a", odd_fails).layer(Log(probe.clone(), "log"));
    let report = builder.build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.succeeded, report.dead), (1, 1));
    assert_eq!(probe.notes(), ["log a 0 attempt 1", "log ok", "log a 1 attempt 1", "log failed"]);
    sound(&storage).await;
}

#[tokio::test(start_paused = true)]
async fn the_layers_of_a_handler_are_inside_those_of_the_worker_and_the_last_is_the_outermost() {
    let (storage, probe) = (memory(), Probe::new());
    enqueue(&storage, Message::new("a", "7")).await;
    enqueue(&storage, Message::new("b", "8")).await;
    let log = |name| Log(probe.clone(), name);
    let handlers = Registry::new().on("a", odd_fails.layer(log("1")).layer(log("2")).max_attempts(1)).on("b", odd_fails);
    let builder = worker(&storage).pool(1).layer(log("3")).registry(handlers).layer(log("4"));
    builder.build().unwrap().run_until_idle().await.unwrap();
    let order: Vec<_> = probe.notes().into_iter().filter(|note| note.contains("attempt")).collect();
    assert_eq!(order, ["4 a 7 attempt 1", "3 a 7 attempt 1", "2 a 7 attempt 1", "1 a 7 attempt 1", "4 b 8 attempt 1", "3 b 8 attempt 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_layer_of_a_batch_handler_sees_the_batch_and_one_verdict_per_member() {
    async fn each(batch: Batch<Raw>) -> Vec<Verdict> {
        batch.into_iter().map(|item| if item.body.0 == "1" { Err(Failure::dead("odd")) } else { Ok(Outcome::Done) }).collect()
    }
    let (storage, probe) = (memory(), Probe::new());
    enqueue_many(&storage, "a", 3).await;
    let builder = worker(&storage).on_batch("a", each.layer(Log(probe.clone(), "log")).max_batch(3));
    let report = builder.build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.succeeded, report.dead), (2, 1));
    assert_eq!(probe.notes(), ["log a 0+1+2 attempt 1", "log ok+failed+ok"]);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_layer_is_a_failure_that_is_tried_again() {
    async fn slow_at_first(context: Context) {
        let pause = if context.attempt() == 1 { secs(20) } else { Duration::ZERO };
        tokio::time::sleep(pause).await;
    }
    let storage = memory();
    let id = enqueue(&storage, Message::new("a", "")).await;
    let builder = worker(&storage).on("a", slow_at_first.retry(ms(10))).layer(TimeoutLayer::new(secs(1)));
    let running = builder.build().unwrap().spawn();
    super::support::until_status(&storage, id, Status::Success).await;
    super::support::stop(running).await;
    let errors: Vec<_> = storage.history(id).await.unwrap().into_iter().filter_map(|step| step.error).collect();
    assert_eq!(errors, ["request timed out"]);
    assert_eq!(record(&storage, id).await.attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_layer_fails_every_member_of_a_batch() {
    async fn never(_: Batch<Raw>) {
        std::future::pending::<()>().await;
    }
    let storage = memory();
    enqueue_many(&storage, "a", 3).await;
    let builder = worker(&storage).on_batch("a", never.layer(TimeoutLayer::new(secs(1))).max_attempts(1));
    assert_eq!(builder.build().unwrap().run_until_idle().await.unwrap().dead, 3);
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_layer_limits_a_handler_and_a_global_one_the_worker() {
    async fn busy(State(crowd): State<Crowd>) {
        let _inside = crowd.enter();
        tokio::time::sleep(ms(10)).await;
    }
    for (global, most) in [(None, 4), (Some(3), 3)] {
        let (storage, crowd) = (memory(), Crowd::default());
        enqueue_many(&storage, "a", 20).await;
        enqueue_many(&storage, "b", 20).await;
        let limited = busy.layer(ConcurrencyLimitLayer::new(2));
        let mut builder = worker(&storage).state(crowd.clone()).on("a", limited.clone()).on("b", limited);
        if let Some(global) = global {
            builder = builder.layer(GlobalConcurrencyLimitLayer::new(global));
        }
        let report = builder.build().unwrap().run_until_idle().await.unwrap();
        assert_eq!((report.succeeded, crowd.most()), (40, most));
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_answers_nothing_or_panics_fails_the_message_alone() {
    #[derive(Clone)]
    struct Mute(&'static str);
    impl Service<Call> for Mute {
        type Response = Vec<Verdict>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Vec<Verdict>, Self::Error>>;

        fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Call) -> Self::Future {
            assert!(self.0 != "panics", "a layer panics");
            std::future::ready(Ok(Vec::new()))
        }
    }
    for (how, said) in [("mute", "a layer of the handler gave no result for this message"), ("panics", "a layer panics")] {
        let storage = memory();
        let id = enqueue(&storage, Message::new("a", "")).await;
        let layer = tower::layer::layer_fn(move |_: HandlerService| Mute(how));
        let builder = worker(&storage).on("a", odd_fails.max_attempts(1)).layer(layer);
        assert_eq!(builder.build().unwrap().run_until_idle().await.unwrap().dead, 1);
        let error = record(&storage, id).await.last_error.unwrap();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn perform_goes_through_the_layers() {
    let probe = Probe::new();
    let worker = worker(&memory()).on("a", odd_fails).layer(Log(probe.clone(), "log")).build().unwrap();
    assert_eq!(worker.perform(Message::new("a", "2")).await.unwrap(), Outcome::Done);
    assert_eq!(probe.notes(), ["log a 2 attempt 1", "log ok"]);
}
