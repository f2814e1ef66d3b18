//! A process that serves out of a folder: what clusters and bouncers have in common.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::detached::{self, Detached, Kind, Signal};
use crate::door;
use crate::folder::Folder;
use crate::guard::Guard;
use crate::program;

/// How long a server may take until it serves: recovery of a few megabytes, on a machine with other work.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// What a guard does for a parent that is gone: it ends the server and removes its folder. `$1` is the folder, `$2` the signal.
const CLEAN_UP: &str = r#"
if [ -n "$told" ] && [ "$told" != - ]; then
  kill -s "$2" "$told"
  tries=0
  while kill -0 "$told" && [ "$tries" -lt 50 ]; do
    sleep 0.1
    tries=$((tries + 1))
  done
fi
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"#;

/// Whether a server is there yet.
#[derive(Debug)]
pub(crate) enum Look {
    Ready,
    /// Not yet, for this reason.
    Waiting(String),
}

/// A server, running or not. Dropped, it is stopped and its folder removed.
#[derive(Debug)]
pub(crate) struct Server {
    /// As errors call it.
    name: String,
    kind: Kind,
    child: Option<Child>,
    guard: Guard,
    // Last, because the others need it.
    folder: Folder,
}

impl Server {
    pub(crate) fn new(name: String, kind: Kind, folder: Folder) -> Result<Self> {
        let signal = match kind {
            Kind::Postgres => detached::IMMEDIATE.0,
            Kind::Bouncer => "KILL",
        };
        let path = folder.path().to_str().context("the folder for temporary files has a name that is not UTF-8")?;
        let guard = Guard::arm(CLEAN_UP, &[path, signal])?;
        Ok(Self { name, kind, child: None, guard, folder })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The process; none while it is stopped.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The file that has everything the server prints.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(crate) fn read_log(&self) -> String {
        fs::read(self.log()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Starts the process and waits until it serves. An error has the end of its log, and leaves nothing running.
    pub(crate) fn start(&mut self, mut command: Command, mut look: impl FnMut(&Self) -> Look) -> Result<()> {
        if self.child.is_some() {
            bail!("{} runs already", self.name);
        }
        let log = self.open_log()?;
        let errors = log.try_clone().context("could not share a log")?;
        // Not in the group of this process: Ctrl-C is for that, and the guard for what follows from it.
        command.stdout(log).stderr(errors).process_group(0);
        let child = command.spawn().with_context(|| format!("could not start {}: `{}`", self.name, program::shown(&command)))?;
        self.guard.tell(&child.id().to_string());
        self.child = Some(child);

        let mut reason = "it says nothing".to_owned();
        let outcome = door::wait_for(START_PATIENCE, || {
            if let Some(status) = self.ended() {
                return Some(Err(format!("it ended, {status}")));
            }
            match look(self) {
                Look::Ready => Some(Ok(())),
                Look::Waiting(why) => {
                    reason = why;
                    None
                }
            }
        });
        let problem = match outcome {
            Some(Ok(())) => return Ok(()),
            Some(Err(problem)) => problem,
            None => format!("it does not serve after {} s: {reason}", START_PATIENCE.as_secs()),
        };
        self.stop(self.kind.signals());
        bail!("could not start {}: {problem}; its log ends with\n{}", self.name, program::last_lines(&self.read_log()));
    }

    fn open_log(&self) -> Result<File> {
        let path = self.log();
        let file =
            OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("could not open {}", path.display()))?;
        self.folder.hand_over(&path)?;
        Ok(file)
    }

    /// How the process ended, if it has.
    fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        self.guard.tell("-");
        Some(status.to_string())
    }

    /// Sends the signals one after another until the process has ended. It always does: the last is a kill.
    pub(crate) fn stop(&mut self, signals: &[Signal]) {
        for &(signal, patience) in signals {
            let Some(pid) = self.pid() else {
                return;
            };
            // Not waited for yet, so the number is still its own.
            detached::send(signal, pid);
            door::wait_for(patience, || {
                self.ended();
                self.child.is_none().then_some(())
            });
        }
    }

    /// Lets the server run on when this process ends.
    pub(crate) fn detach(mut self) -> Result<Detached> {
        let Some(pid) = self.pid() else {
            bail!("{} is stopped: only what runs can be left behind", self.name);
        };
        self.guard.disarm();
        self.folder.keep();
        // What is dropped now does neither stop nor remove anything.
        self.child = None;
        Ok(Detached { kind: self.kind, pid, folder: self.folder.path().to_path_buf() })
    }

    pub(crate) fn signals(&self) -> &'static [Signal] {
        self.kind.signals()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(self.kind.signals());
        // From here the folder's own end is enough.
        self.guard.disarm();
    }
}
