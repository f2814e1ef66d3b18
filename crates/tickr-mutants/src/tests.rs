//! The tests, what each takes, and which mutations it reaches.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Args;
use crate::build::Binary;

/// A test is ended after this time plus a multiple of what it takes without a mutation.
const PATIENCE: Duration = Duration::from_secs(10);
const TIMES: u32 = 5;

/// The longest that a test may take without a mutation.
const LONGEST: Duration = Duration::from_secs(400);

/// How long to wait until a process is checked again.
const PAUSE: Duration = Duration::from_millis(3);

/// One test.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    binary: Binary,
    name: String,
    /// Without a mutation.
    pub(crate) takes: Duration,
    /// The mutations that it comes by.
    pub(crate) reaches: BTreeSet<u32>,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Passed,
    Failed,
    TimedOut,
}

impl Test {
    /// Runs it with a mutation, or without one (0).
    pub(crate) fn run(&self, mutant: u32) -> Result<End> {
        let mut command = self.command();
        command.env("TICKR_MUTANT", mutant.to_string());
        wait(&mut command, PATIENCE + self.takes * TIMES)
    }

    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.binary.name, self.name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary.path);
        command.current_dir(&self.binary.folder).args(["--exact", &self.name, "--quiet"]);
        // As under nextest, each test has a process of its own.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command
    }

    /// Runs it without a mutation and records what it reaches. It is ready to judge if it passes.
    fn record(&mut self, file: &Path) -> Result<End> {
        let start = now();
        let end = wait(self.command().env("TICKR_MUTANT_REACHED", file), LONGEST)?;
        self.takes = start.elapsed();
        let reached = fs::read_to_string(file).unwrap_or_default();
        self.reaches = reached.lines().filter_map(|line| line.parse().ok()).collect();
        let _ = fs::remove_file(file);
        Ok(end)
    }
}

/// The tests that pass without a mutation.
#[derive(Debug)]
pub(crate) struct Tests(Vec<Test>);

impl Tests {
    /// Lists the tests of the binaries and runs each once.
    pub(crate) fn record(binaries: &[Binary], work: &Path, args: &Args) -> Result<Self> {
        let mut tests = Vec::new();
        for binary in binaries {
            tests.extend(list(binary)?);
        }
        println!("recording what each of {} tests reaches", tests.len());
        let passed = Mutex::new(Vec::new());
        let broken = Mutex::new(Vec::new());
        in_parallel(args.jobs, &tests, |index, test| {
            let mut test = test.clone();
            match test.record(&work.join(format!("reached.{index}")))? {
                End::Passed => lock(&passed).push(test),
                End::Failed | End::TimedOut => lock(&broken).push(test.title()),
            }
            Ok(())
        })?;
        for title in lock(&broken).iter() {
            println!("does not pass without a mutation, and is left out: {title}");
        }
        let tests = passed.into_inner().unwrap_or_default();
        if tests.is_empty() {
            bail!("no test passes without a mutation");
        }
        Ok(Self(tests))
    }

    /// Those that do not take longer.
    pub(crate) fn within(self, longest: Duration) -> Vec<Test> {
        let (mut short, long): (Vec<_>, Vec<_>) = self.0.into_iter().partition(|test| test.takes <= longest);
        for test in long {
            println!("takes {:.0} s and is left out: {}", test.takes.as_secs_f64(), test.title());
        }
        short.sort_by_key(|test| test.takes);
        short
    }
}

fn list(binary: &Binary) -> Result<Vec<Test>> {
    let mut command = Command::new(&binary.path);
    let output = command.args(["--list", "--format", "terse"]).current_dir(&binary.folder).output();
    let output = output.with_context(|| format!("could not list the tests of {}", binary.name))?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = names.lines().filter_map(|line| line.strip_suffix(": test"));
    let test = |name: &str| Test { binary: binary.clone(), name: name.to_owned(), takes: Duration::ZERO, reaches: BTreeSet::new() };
    Ok(names.map(test).collect())
}

/// Waits for a process, which is ended with all that it started when the time is over.
fn wait(command: &mut Command, limit: Duration) -> Result<End> {
    let mut child = command.spawn().context("could not start a test")?;
    let start = now();
    loop {
        if let Some(status) = child.try_wait().context("could not wait for a test")? {
            return Ok(if status.success() { End::Passed } else { End::Failed });
        }
        if start.elapsed() > limit {
            kill(&mut child);
            return Ok(End::TimedOut);
        }
        pause();
    }
}

fn kill(child: &mut Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    let _ = child.wait();
}

/// Calls a function for each item, in several threads. The first error ends it.
pub(crate) fn in_parallel<T: Sync>(jobs: usize, items: &[T], each: impl Fn(usize, &T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                match items.get(index) {
                    Some(item) => each(index, item)?,
                    None => return Ok(()),
                }
            }
        };
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "the tool measures processes; the engine's clock is not under it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a process has no event that the standard library could wait for with a limit")]
fn pause() {
    thread::sleep(PAUSE);
}
