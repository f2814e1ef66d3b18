//! Cleaning up after a process that could not do so itself.

use std::fmt;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result};

/// The word that ends a guard without its script.
const DISARM: &str = "disarm";

/// Runs a shell script when it is dropped, and also when this process ends without dropping anything: by Ctrl-C, a kill, an abort.
///
/// It is a shell that reads from a pipe whose other end only this process holds, in a process group of its own, which Ctrl-C in a
/// terminal does not reach. When the pipe ends, it runs the script.
pub struct Guard {
    shell: Child,
    /// Closed to have the script run.
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts a guard. The script finds `arguments` as `$1`, `$2` and so on, and the last line that it was [told](Self::tell) as
    /// `$told`; what it prints is dropped.
    ///
    /// # Errors
    ///
    /// If no shell could be started.
    pub fn arm(script: &str, arguments: &[&str]) -> Result<Self> {
        let script = format!("told=\nwhile read -r line; do\n  [ \"$line\" = {DISARM} ] && exit 0\n  told=$line\ndone\n{script}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "tickr-guard"]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut shell = command.spawn().context("could not start a shell (sh) that cleans up")?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    /// Tells the script something, instead of what it was told before.
    pub fn tell(&mut self, line: &str) {
        if let Some(pipe) = &mut self.pipe {
            // A guard that is gone cannot be told, and what it guards is removed by its owner all the same.
            let _ = writeln!(pipe, "{line}");
        }
    }

    /// Ends the guard without its script.
    pub fn disarm(&mut self) {
        self.tell(DISARM);
        self.end();
    }

    fn end(&mut self) {
        if self.pipe.take().is_some() {
            let _ = self.shell.wait();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("pid", &self.shell.id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::folder::Folder;

    #[test]
    fn the_script_runs_with_what_it_was_told_last() {
        let folder = Folder::create().unwrap();
        let file = folder.join("file");
        let mut guard = Guard::arm("echo \"$1 $told\" >\"$2\"", &["a b", file.to_str().unwrap()]).unwrap();
        guard.tell("1");
        guard.tell("2");
        assert!(!file.exists());
        drop(guard);
        assert_eq!(fs::read_to_string(file).unwrap(), "a b 2\n");
    }

    #[test]
    fn a_disarmed_guard_runs_nothing() {
        let folder = Folder::create().unwrap();
        let file = folder.join("file");
        Guard::arm("touch \"$1\"", &[file.to_str().unwrap()]).unwrap().disarm();
        assert!(!file.exists());
    }
}
