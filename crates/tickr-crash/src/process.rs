//! Processes and signals.

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, waitid};

/// Ends this process as a crash would: nothing is flushed, nobody is told.
pub(crate) fn kill_self() -> Result<()> {
    kill_process(getpid(), Signal::KILL).context("cannot kill this process")
}

/// Stops this process until somebody lets it go on.
pub(crate) fn stop_self() -> Result<()> {
    kill_process(getpid(), Signal::STOP).context("cannot stop this process")
}

/// Sends a signal to a child.
pub(crate) fn signal(pid: Pid, signal: Signal) -> Result<()> {
    kill_process(pid, signal).with_context(|| format!("cannot signal process {pid:?}"))
}

/// Whether a child stopped since this was asked last.
pub(crate) fn has_stopped(pid: Pid) -> bool {
    let stopped = waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG);
    matches!(stopped, Ok(Some(status)) if status.stopped())
}

/// Makes this process die with its parent, so that a killed supervisor leaves nothing behind.
pub(crate) fn die_with_parent() -> Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("cannot tie this process to its parent")?;
    Ok(())
}
