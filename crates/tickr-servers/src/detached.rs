//! Servers that outlive the process which started them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::door;

/// What a server is, and so how it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// PgBouncer.
    Bouncer,
}

/// How a server is asked to end, and how long it may take.
pub(crate) type Signal = (&'static str, Duration);

/// Ends what does not listen.
const KILL: Signal = ("KILL", Duration::from_secs(10));

impl Kind {
    /// Signals that end a server, each for when the one before had no effect.
    ///
    /// PostgreSQL: fast, immediate shutdown, <https://www.postgresql.org/docs/current/server-shutdown.html>. PgBouncer has nothing to
    /// lose, and its signals have changed their meanings with 1.23.
    pub(crate) fn signals(self) -> &'static [Signal] {
        const POSTGRES: &[Signal] = &[("INT", Duration::from_secs(30)), IMMEDIATE, KILL];
        match self {
            Self::Postgres => POSTGRES,
            Self::Bouncer => &[KILL],
        }
    }
}

/// Ends PostgreSQL without a checkpoint, as a crash does.
pub(crate) const IMMEDIATE: Signal = ("QUIT", Duration::from_secs(10));

/// Sends a signal to a process; no longer being there is no error.
pub(crate) fn send(signal: &str, pid: u32) {
    // The shell has `kill` everywhere; the program of that name is missing on small systems.
    let mut command = Command::new("sh");
    let _ = command.args(["-c", "kill -s \"$1\" \"$2\" 2>/dev/null", "sh", signal, &pid.to_string()]).status();
}

/// A server that stays when this process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    /// What it is.
    pub kind: Kind,
    /// Its process.
    pub pid: u32,
    /// All of its files.
    pub folder: PathBuf,
}

impl Detached {
    /// Tells whether it runs: another process that got the same number is not taken for it.
    #[must_use]
    pub fn is_running(&self) -> bool {
        command_line(self.pid).is_some_and(|line| line.contains(&*self.folder.to_string_lossy()))
    }

    /// Stops it, if it runs, and removes its files.
    ///
    /// # Errors
    ///
    /// If it cannot be stopped, or its folder cannot be removed.
    pub fn stop(&self) -> Result<()> {
        for &(signal, patience) in self.kind.signals() {
            if !self.is_running() {
                break;
            }
            send(signal, self.pid);
            door::wait_for(patience, || (!self.is_running()).then_some(()));
        }
        if self.is_running() {
            bail!("could not stop process {}, which serves {}: not yours?", self.pid, self.folder.display());
        }
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).with_context(|| format!("could not remove {}", self.folder.display()))?;
        }
        Ok(())
    }
}

/// The command line of a process; empty if it has ended and nobody asked for its result.
fn command_line(pid: u32) -> Option<String> {
    if Path::new("/proc/self/cmdline").exists() {
        return fs::read(format!("/proc/{pid}/cmdline")).ok().map(|line| String::from_utf8_lossy(&line).into_owned());
    }
    let output = Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_serves_no_such_folder_is_not_touched() {
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        let detached = Detached { kind: Kind::Bouncer, pid: other.id(), folder: PathBuf::from("/nowhere/tickr-1-0") };
        assert!(!detached.is_running());
        detached.stop().unwrap();
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
