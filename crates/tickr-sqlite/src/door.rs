//! The door: the only place of this crate that reads a clock, sleeps, draws a number or starts a thread.
#![expect(clippy::disallowed_methods, reason = "this is the door; it serves threads, which tickr-core's door for tasks does not")]

use std::thread;
use std::time::{Duration, Instant};

use tickr_core::{Error, ErrorKind, Result};

/// A reading of the monotonic clock, for deadlines of waiting.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Blocks this thread, which is one of the adapter's own and never one of a runtime.
pub(crate) fn sleep(duration: Duration) {
    thread::sleep(duration);
}

/// `duration`, shortened by a random part of up to a half, so that waiting processes do not look in step.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Starts a thread that ends by itself.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(body);
    started.map(drop).map_err(|source| Error::new(ErrorKind::Unavailable, format!("cannot start thread {name}")).with_source(source))
}
