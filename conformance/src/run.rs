//! Runs one case against one harness.

use std::any::Any;
use std::future::Future;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tickr_core::{AnyAdmin, BoxError, BoxFuture, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::harness::{Harness, Sabotage, TxReport, TxStep};
use crate::list::cases;
use crate::traced::Trace;
use crate::world::World;

/// A test as [`suite!`](crate::suite) emits it.
#[derive(Debug)]
pub struct Case {
    /// The group, such as `claim`.
    pub group: &'static str,
    /// The name within the group.
    pub name: &'static str,
    /// What the suite was told to leave out, with reasons.
    pub without: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: fn(World) -> BoxFuture<'static, ()>,
}

impl Case {
    /// The random run does 10,000 operations; everything else is short.
    const fn patience(&self) -> Duration {
        Duration::from_secs(if matches!(self.group.as_bytes(), b"random") { 300 } else { 60 })
    }
}

/// Runs a case on a fresh database of `H`, and looks for contradictions in what it left.
///
/// # Panics
/// When the case fails, takes too long, or the database cannot be made.
#[allow(clippy::print_stderr, reason = "a failing test says where it left its database")]
pub fn run<H: Harness>(case: &Case) {
    let runtime = runtime();
    let (group, name) = (case.group, case.name);
    let harness: Arc<dyn DynHarness> = match runtime.block_on(runtime.spawn(within(case.patience(), H::create()))) {
        Ok(Ok(Ok(harness))) => Arc::new(harness),
        Ok(Ok(Err(error))) => panic!("{group}::{name}: no database: {error}"),
        Ok(Err(_)) => panic!("{group}::{name}: making a database took more than {:?}", case.patience()),
        Err(failure) => resume_unwind(failure.into_panic()),
    };
    let world = World::new(Arc::clone(&harness), case.without);
    let trace = world.trace().clone();
    let body = (case.body)(world.clone());
    // On a worker thread: a storage that blocks its thread cannot stop the clock that ends the case.
    let ended = runtime.block_on(within(
        case.patience(),
        runtime.spawn(async move {
            body.await;
            world.assert_left_clean().await;
        }),
    ));
    let failure: Box<dyn Any + Send> = match ended {
        Ok(Ok(())) => {
            drop(harness);
            return;
        }
        Ok(Err(failure)) => failure.into_panic(),
        Err(_) => Box::new(format!("{group}::{name} took more than {:?}", case.patience())),
    };
    eprint!("{}", account(group, name, &trace));
    if let Some(place) = harness.dyn_keep() {
        eprintln!("{group}::{name} failed; its database was kept: {place}");
    }
    drop(harness);
    runtime.shutdown_background();
    resume(failure);
}

/// What a case that failed holds a storage to, where that is written, and what was done last.
fn account(group: &str, name: &str, trace: &Trace) -> String {
    let info = cases().iter().find(|info| info.group == group && info.name == name);
    let (rule, contract) = info.map_or(("", ""), |info| (info.rule, info.contract));
    format!("\n{group}::{name} failed. The rule: {rule}\nIt is part of the contract of {contract}.\nThe last operations:\n{trace}")
}

/// The timer is made where the runtime runs.
async fn within<F: Future>(patience: Duration, work: F) -> Result<F::Output, Elapsed> {
    timeout(patience, work).await
}

/// Panics on; a panic whose message was printed already is not printed again.
fn resume(failure: Box<dyn Any + Send>) -> ! {
    match failure.downcast::<String>() {
        Ok(message) if message.contains(" took more than ") => panic!("{message}"),
        Ok(message) => resume_unwind(message),
        Err(failure) => resume_unwind(failure),
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a tokio runtime with two threads")
}

/// The object-safe mirror of [`Harness`]: cases are compiled once, not once per harness.
pub(crate) trait DynHarness: Send + Sync + 'static {
    fn dyn_storage(&self) -> AnyAdmin;
    fn dyn_connect(&self) -> BoxFuture<'_, Result<AnyAdmin, BoxError>>;
    fn dyn_advance(&self, by: Duration);
    fn dyn_set_back(&self, by: Duration);
    fn dyn_version(&self) -> BoxFuture<'_, String>;
    fn dyn_keep(&self) -> Option<String>;
    fn dyn_unmigrated(&self) -> BoxFuture<'_, Result<Arc<dyn DynHarness>, BoxError>>;
    fn dyn_run_tx(&self, steps: Vec<TxStep>) -> BoxFuture<'_, Result<Vec<TxReport>>>;
    fn dyn_business_rows(&self) -> BoxFuture<'_, Result<Vec<String>>>;
    fn dyn_sabotage(&self, damage: Sabotage) -> BoxFuture<'_, Result<()>>;
}

impl<H: Harness> DynHarness for H {
    fn dyn_storage(&self) -> AnyAdmin {
        self.storage()
    }

    fn dyn_connect(&self) -> BoxFuture<'_, Result<AnyAdmin, BoxError>> {
        Box::pin(self.connect())
    }

    fn dyn_advance(&self, by: Duration) {
        self.advance(by);
    }

    fn dyn_set_back(&self, by: Duration) {
        self.set_back(by);
    }

    fn dyn_version(&self) -> BoxFuture<'_, String> {
        Box::pin(self.version())
    }

    fn dyn_keep(&self) -> Option<String> {
        self.keep()
    }

    fn dyn_unmigrated(&self) -> BoxFuture<'_, Result<Arc<dyn DynHarness>, BoxError>> {
        Box::pin(async { Ok(Arc::new(H::create_unmigrated().await?) as Arc<dyn DynHarness>) })
    }

    fn dyn_run_tx(&self, steps: Vec<TxStep>) -> BoxFuture<'_, Result<Vec<TxReport>>> {
        Box::pin(self.run_tx(steps))
    }

    fn dyn_business_rows(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(self.business_rows())
    }

    fn dyn_sabotage(&self, damage: Sabotage) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.sabotage(damage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_names_rule_contract_and_operations() {
        let shown = account("claim", "attempt_is_counted", &Trace::default());
        for part in ["claim::attempt_is_counted failed", "contract of Storage::claim", "The last operations:"] {
            assert!(shown.contains(part), "{shown}");
        }
        let rule = cases().iter().find(|info| info.name == "attempt_is_counted").unwrap().rule;
        assert!(shown.contains(rule), "{shown}");
    }
}
