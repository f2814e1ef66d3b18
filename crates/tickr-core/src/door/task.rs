//! The door to tasks.
#![expect(clippy::disallowed_methods, reason = "this is the door")]

use std::future::Future;

use tokio::task::JoinHandle;

/// Starts a task on the current runtime, if there is one.
pub(crate) fn try_spawn(future: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(future);
    }
}

/// Starts a task on the current runtime.
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}
