//! The worker: handlers that write the ledger, and do to their process what their message says.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tickr_core::{
    Batch, BatchHandler, Context, Failure, Handler, HandlerOptions, Outcome, Prefetch, Raw, State, Storage, Verdict, Worker,
    shutdown_signal,
};

use crate::ledger::{Event, Writer};
use crate::options::Name;
use crate::plan::{self, ATTEMPTS, EVENT_TYPES, Kind};
use crate::{door, process};

/// When the next attempt follows a failure.
const BACKOFF: Duration = Duration::from_millis(40);

/// Runs one incarnation until it is told to end.
pub(crate) async fn run(storage: impl Storage, folder: &Path, name: &Name, lease: Duration) -> Result<()> {
    // Every other worker always holds messages that it cannot start yet.
    let prefetch = match name.index % 2 {
        0 => Prefetch::Adaptive { window: Duration::from_millis(100), max: 32 },
        _ => Prefetch::Fixed(8),
    };
    let name = &name.of("worker");
    let ledger = Arc::new(Writer::create(folder, name)?);
    let options = HandlerOptions::default().max_attempts(ATTEMPTS).retry(BACKOFF);
    let [plain, other, capped, batch] = EVENT_TYPES;
    let worker = Worker::builder(storage)
        .name(name)
        .lease(lease)
        .pool(8)
        .batch(32)
        .prefetch(prefetch)
        .poll_interval(Duration::from_millis(20))
        .idle_interval(Duration::from_millis(200))
        .reclaim_interval(lease / 4)
        .shutdown_grace(Duration::from_secs(5))
        .state(ledger)
        .on(plain, handle.with_options(options.clone()))
        .on(other, handle.with_options(options.clone()))
        .on(capped, handle.with_options(options).max_in_flight(4))
        .on_batch(batch, handle_batch.max_batch(16).max_attempts(ATTEMPTS).retry(BACKOFF))
        .build()?;
    worker.run_until(shutdown_signal()).await?;
    Ok(())
}

async fn handle(State(ledger): State<Arc<Writer>>, context: Context) -> Verdict {
    let (kind, work) = begin(&ledger, &context)?;
    door::pause(work).await;
    if kind == Kind::Panics1 && context.attempt() == 1 {
        end(&ledger, &context, Event::Failed { id: context.id(), attempt: 1 })?;
        panic!("the plan says so");
    }
    finish(&ledger, &context, kind)
}

async fn handle_batch(batch: Batch<Raw>, State(ledger): State<Arc<Writer>>) -> Vec<Verdict> {
    let mut begun = Vec::with_capacity(batch.len());
    for item in &batch.0 {
        begun.push(begin(&ledger, &item.context));
    }
    let longest = begun.iter().filter_map(|begun| begun.as_ref().ok()).map(|(_, work)| *work).max();
    door::pause(longest.unwrap_or_default()).await;
    let finish_one =
        |(item, begun): (tickr_core::BatchItem<Raw>, Result<(Kind, Duration), Failure>)| finish(&ledger, &item.context, begun?.0);
    batch.into_iter().zip(begun).map(finish_one).collect()
}

fn begin(ledger: &Writer, context: &Context) -> Result<(Kind, Duration), Failure> {
    end(ledger, context, Event::Started { id: context.id(), attempt: context.attempt() })?;
    let order = plan::order(context.payload()).ok_or_else(|| Failure::dead("the body is not what was enqueued"))?;
    if order.0 == Kind::Kills {
        process::kill_self().map_err(Failure::dead)?;
    }
    Ok(order)
}

fn finish(ledger: &Writer, context: &Context, kind: Kind) -> Verdict {
    let (id, attempt) = (context.id(), context.attempt());
    match kind {
        Kind::Works => {}
        Kind::Skips => {
            end(ledger, context, Event::Succeeded { id, attempt })?;
            return Ok(Outcome::skip("the plan says so"));
        }
        Kind::Fails1 | Kind::Panics1 if attempt > 1 => {}
        Kind::Fails1 | Kind::Panics1 | Kind::Fails | Kind::Kills => {
            end(ledger, context, Event::Failed { id, attempt })?;
            return Err(Failure::new("the plan says so"));
        }
    }
    end(ledger, context, Event::Succeeded { id, attempt })?;
    Ok(Outcome::Done)
}

/// A ledger that cannot be written makes the proof worthless: the message must not end well.
fn end(ledger: &Writer, context: &Context, event: Event) -> Result<(), Failure> {
    ledger.write(event).map_err(|error| {
        tracing::error!(%error, id = %context.id(), "the ledger cannot be written");
        Failure::dead(error)
    })
}
