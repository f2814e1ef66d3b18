//! Wrong configurations: each is refused with a sentence that names the thing.

use std::time::Duration;

use tickr_core::{
    Batch, BatchHandler, ErrorKind, Handler, Limits, MemoryStorage, Message, Prefetch, Raw, Registry, Retention, State, Worker,
    WorkerBuilder,
};

use super::support::{enqueue, memory, ms, secs, worker};

async fn nothing() {}

async fn batch(_batch: Batch<Raw>) {}

fn refused(change: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> String {
    let builder = Worker::builder(MemoryStorage::new()).on("a", nothing);
    let error = change(builder).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string().strip_prefix("invalid argument: ").unwrap().to_owned()
}

#[test]
fn every_limit_of_the_configuration_is_checked_and_named() {
    const DAY: Duration = secs(24 * 3_600);
    assert_eq!(refused(|b| b.lease(ms(99))), "lease is 99ms; it must be 100 ms to one day");
    assert_eq!(refused(|b| b.lease(DAY + ms(1))), "lease is 86400.001s; it must be 100 ms to one day");
    assert_eq!(refused(|b| b.pool(0)), "pool is 0; it must be 1 to 100000");
    assert_eq!(refused(|b| b.pool(100_001)), "pool is 100001; it must be 1 to 100000");
    assert_eq!(refused(|b| b.batch(0)), "batch is 0; it must be 1 to 10000");
    assert_eq!(refused(|b| b.prefetch(Prefetch::Fixed(100_001))), "prefetch is 100001; it must be at most 100000");
    assert_eq!(refused(|b| b.max_attempts(0)), "max_attempts is 0; a message needs at least one");
    assert_eq!(refused(|b| b.purge_batch(0)), "purge_batch is 0; it must be 1 to 100000");
    assert_eq!(refused(|b| b.poll_interval(Duration::ZERO)), "poll_interval is 0ns; it must be 1 ms to one day");
    assert_eq!(refused(|b| b.idle_interval(Duration::MAX)), format!("idle_interval is {:?}; it must be 1 ms to one day", Duration::MAX));
    assert_eq!(refused(|b| b.reclaim_interval(Duration::ZERO)), "reclaim_interval is 0ns; it must be 1 ms to one day");
    assert_eq!(refused(|b| b.purge_interval(Duration::ZERO)), "purge_interval is 0ns; it must be 1 ms to one day");
    assert_eq!(refused(|b| b.stats_interval(Some(Duration::ZERO))), "stats_interval is 0ns; it must be 1 ms to one day");
    assert_eq!(refused(|b| b.shutdown_grace(2 * DAY)), "shutdown_grace is 172800s; it must be at most one day");
    assert_eq!(refused(|b| b.abandon_after(2 * DAY)), "abandon_after is 172800s; it must be at most one day");
    assert_eq!(refused(|b| b.name("")), "the worker's name must have 1 to 255 printable bytes");
    assert_eq!(refused(|b| b.name("a\nb")), "the worker's name must have 1 to 255 printable bytes");
    let short = Retention::default().history(Some(secs(1)));
    assert!(refused(|b| b.retention(short)).starts_with("history retention (1s) is shorter than the success retention"));
}

#[test]
fn every_option_of_a_handler_is_checked_and_names_its_type() {
    assert_eq!(refused(|b| b.on("b", nothing.timeout(Duration::ZERO))), "timeout of b is 0ns; it must be above zero and at most 30 days");
    let ages = secs(31 * 24 * 3_600);
    assert_eq!(refused(|b| b.on("b", nothing.timeout(ages))), "timeout of b is 2678400s; it must be above zero and at most 30 days");
    assert_eq!(refused(|b| b.on("b", nothing.max_attempts(0))), "max_attempts of b is 0; leave it out to inherit the worker's");
    assert_eq!(refused(|b| b.on("b", nothing.max_in_flight(0))), "max_in_flight of b is 0; pause the type instead");
    assert_eq!(refused(|b| b.on_batch("b", batch.max_batch(100_001))), "max_batch of b is 100001; it must be at most 100000");
    assert_eq!(refused(|b| b.on_batch("b", batch.max_attempts(0))), "max_attempts of b is 0; leave it out to inherit the worker's");
}

#[test]
fn a_wrong_event_type_is_refused() {
    assert_eq!(refused(|b| b.on("", nothing)), "event type is empty");
    assert_eq!(refused(|b| b.on(&"x".repeat(256), nothing)), "event type has 256 bytes, the limit is 255");
    assert_eq!(refused(|b| b.on("a\0", nothing)), "event type \"a\\0\" has the character U+0000, which is not printable");
}

#[test]
fn a_type_that_is_registered_twice_is_refused() {
    assert_eq!(refused(|b| b.on("a", nothing)), "event type a has two handlers");
    assert_eq!(refused(|b| b.on_batch("a", batch)), "event type a has two handlers");
    assert_eq!(refused(|b| b.registry(Registry::new().on("a", nothing))), "event type a has two handlers");
}

#[test]
fn registries_of_modules_are_merged() {
    let orders = Registry::new().on("order", nothing);
    let mails = Registry::new().on("mail", nothing).on_batch("audit", batch);
    let all = orders.merge(mails);
    assert_eq!(all.event_types().map(|event_type| event_type.as_str()).collect::<Vec<_>>(), ["order", "mail", "audit"]);
    Worker::builder(MemoryStorage::new()).registry(all).build().unwrap();
    let wrong = Registry::new().merge(Registry::new().on("", nothing));
    let error = Worker::builder(MemoryStorage::new()).registry(wrong).build().unwrap_err();
    assert_eq!(error.to_string(), "invalid argument: event type is empty", "errors are merged too");
}

#[test]
fn a_state_that_nobody_gave_is_found_when_the_worker_is_built() {
    #[derive(Clone)]
    struct Bank;
    async fn needs(State(_): State<Bank>) {}
    async fn batch_needs(_batch: Batch<Raw>, State(_): State<Bank>) {}
    let text = refused(|b| b.on("b", needs));
    assert!(
        text.starts_with("a handler wants State<") && text.contains("::Bank>, which was not given to the worker with .state(..)"),
        "{text}"
    );
    assert!(refused(|b| b.on_batch("b", batch_needs)).contains("::Bank>"));
    assert!(refused(|b| b.registry(Registry::new().on("b", needs))).contains("::Bank>"), "also of a module");
    Worker::builder(MemoryStorage::new()).state(Bank).on("b", needs).build().unwrap();
}

#[test]
fn a_worker_without_handlers_is_refused() {
    let error = Worker::builder(MemoryStorage::new()).build().unwrap_err();
    assert_eq!(error.to_string(), "invalid argument: the worker has no handlers");
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_is_missing_is_said_before_anything_happens() {
    use tickr_core::{SchemaStatus, Storage};
    assert_eq!(
        SchemaStatus::of(0, 0, 3).usable().unwrap_err().to_string(),
        "schema: there is no tickr schema; call migrate() to make version 3"
    );
    assert!(memory().schema().await.unwrap().usable().is_ok());
}

#[tokio::test(start_paused = true)]
async fn debug_output_never_shows_a_payload() {
    async fn look(context: tickr_core::Context, raw: Raw, State(probe): State<super::support::Probe>) {
        probe.note(format!("{context:?} {:?} {raw:?}", context.message()));
    }
    let (storage, probe) = (memory(), super::support::Probe::new());
    let message = Message::new("a", "top secret").header("authorization", "also secret");
    let checked = tickr_core::NewMessage::check(message.clone(), tickr_core::MessageId::new(), &Limits::default()).unwrap();
    let mut shown = format!("{message:?} {checked:?}");
    enqueue(&storage, message).await;
    let worker = worker(&storage).state(probe.clone()).on("a", look).build().unwrap();
    worker.run_until_idle().await.unwrap();
    shown += &format!("{worker:?} {storage:?} {}", probe.notes()[0]);
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn the_history_is_kept_as_long_as_what_it_explains() {
    const DAY: Duration = secs(24 * 3_600);
    let kept = |retention: Retention| (retention.success, retention.dead, retention.history);
    assert_eq!(kept(Retention::default()), (DAY, Some(30 * DAY), Some(30 * DAY)));
    assert_eq!(kept(Retention::default().dead(Some(90 * DAY))), (DAY, Some(90 * DAY), Some(90 * DAY)));
    assert_eq!(kept(Retention::default().success(60 * DAY).dead(Some(DAY))), (60 * DAY, Some(DAY), Some(60 * DAY)));
    assert_eq!(kept(Retention::default().dead(None)), (DAY, None, None));
    let equal = Retention::default().success(DAY).history(Some(DAY));
    Worker::builder(MemoryStorage::new()).on("a", nothing).retention(equal).build().unwrap();
}
