//! The door to tasks.
#![expect(clippy::disallowed_methods, reason = "this is the door")]

use std::future::Future;
use std::io;
use std::thread;

use tokio::task::JoinHandle;

/// Starts a thread, for what may block.
pub(crate) fn spawn_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

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
