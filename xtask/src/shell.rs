//! The workspace on disk, child processes and the time they take.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The checkout that the commands work on.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the checkout from what cargo tells a package that it runs.
    pub(crate) fn locate() -> Result<Self> {
        let package =
            env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).context("CARGO_MANIFEST_DIR is not set; start this as `cargo xtask`")?;
        let root = package.parent().context("the xtask package has no parent folder")?.to_path_buf();
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
            || root.join("target"),
            // Cargo reads a relative one from the folder in which it was started.
            |dir| env::current_dir().unwrap_or_default().join(dir),
        );
        Ok(Self { root, target })
    }

    /// The folder of the root manifest.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that cargo builds into.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The manifest of the adapter that is built from outside the workspace.
    pub(crate) fn third_party(&self) -> PathBuf {
        self.root.join("conformance/third-party/Cargo.toml")
    }

    /// Starts a cargo command in the root folder. The first argument is the subcommand.
    pub(crate) fn cargo<const N: usize>(&self, args: [&str; N]) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command.args(args).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // `cargo run` describes xtask in the environment; the tests of others are not part of xtask.
        for (name, _) in env::vars_os() {
            let described = name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_"));
            if described {
                command.env_remove(name);
            }
        }
        command
    }
}

/// Prints the command, runs it with inherited output and fails unless it exits with zero.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", Line(command));
    let status = command.status().with_context(|| format!("could not start `{}`", Line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", Line(command));
    }
    Ok(())
}

/// Runs a command and returns its standard output; its errors go to the terminal.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("could not start `{}`", Line(command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", Line(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed what is not UTF-8", Line(command)))
}

/// Tells whether a command exists and exits with zero; what it prints is dropped.
pub(crate) fn works(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs a command whose output and errors, in the order in which they were written, are both shown
/// and handed to `read` line by line. Returns whether it exited with zero.
pub(crate) fn stream(command: &mut Command, mut read: impl FnMut(&str)) -> Result<bool> {
    println!("$ {}", Line(command));
    let (reader, writer) = std::io::pipe().context("could not open a pipe")?;
    let both = writer.try_clone().context("could not share a pipe")?;
    let mut child = command.stdout(both).stderr(writer).spawn().with_context(|| format!("could not start `{}`", Line(command)))?;
    // The command holds the writing ends too; as long as it does, the reader never ends.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    each_line(reader, |line| {
        println!("{line}");
        read(line);
    })?;
    let status = child.wait().context("could not wait for a child process")?;
    Ok(status.success())
}

fn each_line(reader: impl Read, mut each: impl FnMut(&str)) -> Result<()> {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).context("could not read the output of a child process")? > 0 {
        // Tests may print anything; what is not UTF-8 is no line of the runner.
        each(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
    Ok(())
}

/// Shows a command as one would type it.
struct Line<'a>(&'a Command);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = Path::new(self.0.get_program());
        let name = program.file_name().unwrap_or(program.as_os_str());
        write!(f, "{}", name.to_string_lossy())?;
        for arg in self.0.get_args() {
            write!(f, " {}", without_password(&arg.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// A URL as it may be shown; anything else as it is.
fn without_password(arg: &str) -> String {
    let parts = arg.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?)));
    match parts.and_then(|(scheme, (who, place))| Some((scheme, who.split_once(':')?.0, place))) {
        Some((scheme, user, place)) => format!("{scheme}://{user}:***@{place}"),
        None => arg.to_owned(),
    }
}

/// Measures what a step takes.
#[derive(Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "xtask measures its own steps; the engine's clock is not under it")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Shows a duration in seconds, with minutes where there are any.
#[derive(Debug)]
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if seconds >= 60 { write!(f, "{} min {:02} s", seconds / 60, seconds % 60) } else { write!(f, "{:.1} s", self.0.as_secs_f64()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_shown_with_minutes_only_from_one_on() {
        assert_eq!(Seconds(Duration::from_millis(1_250)).to_string(), "1.2 s");
        assert_eq!(Seconds(Duration::from_secs(125)).to_string(), "2 min 05 s");
    }

    #[test]
    fn commands_are_shown_without_passwords() {
        let mut command = Command::new("/usr/bin/psql");
        command.args(["postgres://app:s3c@et@db/shop", "postgres://app@db/shop", "a:b@c"]);
        assert_eq!(Line(&command).to_string(), "psql postgres://app:***@db/shop postgres://app@db/shop a:b@c");
    }

    #[test]
    fn stream_hands_over_both_outputs_and_the_result() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let ok = stream(&mut command, |line| lines.push(line.to_owned())).unwrap();
        assert!(!ok);
        assert_eq!(lines, ["out", "err"]);
    }
}
