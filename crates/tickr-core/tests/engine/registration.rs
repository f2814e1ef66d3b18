//! How handlers are registered: options that hang on them, and event types that their arguments name.

use std::sync::Arc;

use tickr_core::{
    Batch, BatchContext, BatchHandler, Context, DispatchReport, Event, EventBody, Failure, FromMessage, Handler, HandlerOptions, Message,
    Outcome, Registry, State, WorkerBuilder,
};

use super::support::{Probe, enqueue, enqueue_many, memory, secs, worker};

/// A codec as small as can be.
struct Wrapped<E>(E);

impl<E: From<String> + Send> FromMessage for Wrapped<E> {
    fn from_message(context: &Context) -> Result<Self, Failure> {
        Ok(Self(String::from_utf8_lossy(&context.message().payload).into_owned().into()))
    }
}

impl<E: From<String> + Send + Event> EventBody for Wrapped<E> {
    type Event = E;
}

struct Placed(String);

impl Event for Placed {
    const TYPE: &'static str = "order.placed";
}

impl From<String> for Placed {
    fn from(text: String) -> Self {
        Self(text)
    }
}

fn types(registry: &Registry) -> Vec<&str> {
    registry.event_types().map(|event_type| event_type.as_str()).collect()
}

/// What became of one message of `event_type`.
async fn handle_one(event_type: &str, register: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> DispatchReport {
    let storage = memory();
    enqueue(&storage, Message::new(event_type, "7")).await;
    register(worker(&storage)).build().unwrap().run_until_idle().await.unwrap()
}

async fn fail() -> Result<(), Failure> {
    Err("never".into())
}

#[tokio::test(start_paused = true)]
async fn the_event_type_comes_from_the_argument_that_names_one_wherever_it_stands() {
    async fn alone(Wrapped(Placed(_)): Wrapped<Placed>) {}
    async fn last(_: Context, State(probe): State<Probe>, Wrapped(placed): Wrapped<Placed>) {
        probe.note(placed.0);
    }
    async fn middle(_: Context, _: Wrapped<Placed>, _: State<Probe>) -> Result<(), Failure> {
        Ok(())
    }
    for registry in [Registry::new().on_event(alone), Registry::new().on_event(last), Registry::new().on_event(middle.timeout(secs(1)))] {
        assert_eq!(types(&registry), [Placed::TYPE]);
    }
    let probe = Probe::new();
    let report = handle_one(Placed::TYPE, |builder| builder.state(probe.clone()).on_event(last.max_attempts(1))).await;
    assert_eq!((report.succeeded, probe.notes()), (1, vec!["7".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn the_event_type_of_a_batch_comes_from_its_members() {
    async fn store(batch: Batch<Wrapped<Placed>>, _: BatchContext, State(probe): State<Probe>) {
        probe.note(batch.iter().map(|item| item.body.0.0.as_str()).collect::<Vec<_>>().join(" "));
    }
    let (storage, probe) = (memory(), Probe::new());
    enqueue_many(&storage, Placed::TYPE, 3).await;
    let builder = worker(&storage).state(probe.clone()).on_batch_event(store.max_batch(2));
    let report = builder.build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.succeeded, probe.notes()), (3, vec!["0 1".to_owned(), "2".to_owned()]));
    assert_eq!(types(&Registry::new().on_batch_event(store)), [Placed::TYPE]);
}

#[tokio::test(start_paused = true)]
async fn options_add_up_and_the_last_of_a_kind_stays() {
    let strict = HandlerOptions::default().max_attempts(9).dead_letter_if(|_| true);
    let dead = [
        handle_one("a", |builder| builder.on("a", fail.max_attempts(9).timeout(secs(1)).max_attempts(1))).await,
        handle_one("a", |builder| builder.on("a", fail.with_options(strict.clone()).timeout(secs(1)))).await,
        handle_one("a", |builder| builder.max_attempts(1).on("a", fail.max_attempts(9).with_options(HandlerOptions::default()))).await,
        handle_one("a", |builder| builder.registry(Registry::new().on("a", fail.max_attempts(1)))).await,
    ];
    assert_eq!(dead.map(|report| (report.dead, report.retried)), [(1, 0); 4]);
}

#[tokio::test(start_paused = true)]
async fn options_of_a_batch_handler_add_up() {
    async fn refuse(batch: Batch<Context>, State(probe): State<Probe>) -> Result<(), Failure> {
        probe.note(batch.len().to_string());
        Err("never".into())
    }
    let (storage, probe) = (memory(), Probe::new());
    enqueue_many(&storage, "a", 3).await;
    let builder = worker(&storage).state(probe.clone()).on_batch("a", refuse.max_batch(2).no_timeout().max_attempts(1).max_batch(3));
    let report = builder.build().unwrap().run_until_idle().await.unwrap();
    assert_eq!((report.dead, probe.notes()), (3, vec!["3".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn closures_function_pointers_and_generic_functions_take_options() {
    async fn generic<T: Clone + Send + Sync + 'static>(_: State<T>) {}
    let captured = Arc::new(7);
    let pointer: fn(Context) -> std::future::Ready<()> = |_| std::future::ready(());
    let builder = worker(&memory())
        .state(7_u8)
        .on("a", async || ())
        .on("b", (async |_: Context| ()).max_attempts(2))
        .on("c", (move |_: Context| std::future::ready(Outcome::skip(captured.to_string()))).timeout(secs(1)))
        .on("d", (|_: Context| async { Err::<(), _>("no") }).retry(secs(1)))
        .on("e", pointer.max_in_flight(1))
        .on("f", generic::<u8>.no_timeout())
        .on_batch("g", (async |_: Batch<Context>| {}).max_batch(3))
        .on_batch("h", async |_: Batch<Context>, _: State<u8>| {});
    builder.build().unwrap();
}
