//! `cargo xtask ci`: every check that a change must pass.

use std::env;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::services::{Provision, Service};
use crate::shell::{self, Seconds, Stopwatch, Workspace};
use crate::{bench, deny, package, plans, readme, services, test_run, tidy};

/// Arguments of `cargo xtask ci`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Steps to run; all of them when none is named.
    steps: Vec<Step>,
    /// Packages a checkout with uncommitted changes. Refused in CI.
    #[arg(long)]
    allow_dirty: bool,
}

/// A step, in the order in which they run: what is quick to fail comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// The tools that the other steps need.
    Tools,
    /// Formatting.
    Fmt,
    /// The rules that no compiler knows.
    Tidy,
    /// Licences and sources of dependencies, and which are not wanted.
    Deny,
    /// Lints, as errors.
    Clippy,
    /// Documentation, warnings as errors.
    Docs,
    /// The first commands of the README: on SQLite, and on PostgreSQL.
    Quickstart,
    /// The programs of the README build as they are printed, and handle a message.
    Readme,
    /// What would be published.
    Package,
    /// The adapter outside the workspace builds against the public API.
    ThirdParty,
    /// What PostgreSQL makes of the statements.
    Plans,
    /// A drain is no slower than it should be, as a ratio to bare statements.
    Bench,
    /// Every test.
    Test,
}

/// Runs the steps in order and stops at the first that fails.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let in_ci = env::var("CI").is_ok_and(|ci| ci == "true");
    if in_ci && args.allow_dirty {
        bail!("--allow-dirty is for work at home: CI packages what is committed");
    }
    let steps: Vec<Step> =
        Step::value_variants().iter().copied().filter(|step| args.steps.is_empty() || args.steps.contains(step)).collect();
    let total = Stopwatch::start();
    let mut durations = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        println!("\n=== {}/{} {}", index + 1, steps.len(), step.name());
        let watch = Stopwatch::start();
        step.run(workspace, args.allow_dirty).with_context(|| {
            format!("ci: step `{name}` failed after {} (again: cargo xtask ci {name})", Seconds(watch.elapsed()), name = step.name(),)
        })?;
        println!("--- {}: ok, {}", step.name(), Seconds(watch.elapsed()));
        durations.push(format!("{} {}", step.name(), Seconds(watch.elapsed())));
    }
    println!("\nci: all steps passed in {} ({})", Seconds(total.elapsed()), durations.join(", "));
    Ok(())
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn run(self, workspace: &Workspace, allow_dirty: bool) -> Result<()> {
        match self {
            Self::Tools => tools(workspace),
            Self::Fmt => fmt(workspace),
            Self::Tidy => tidy::run(workspace),
            Self::Deny => deny::run(workspace),
            Self::Clippy => clippy(workspace),
            Self::Docs => docs(workspace),
            Self::Quickstart => quickstart(workspace),
            Self::Readme => readme::run(workspace),
            Self::Package => package::run(workspace, allow_dirty),
            Self::ThirdParty => third_party(workspace),
            Self::Plans => plans::check(workspace),
            Self::Bench => bench::guard(workspace),
            Self::Test => test(workspace),
        }
    }
}

/// Names what is missing before a later step fails on it in its own words; installs servers, in CI.
fn tools(workspace: &Workspace) -> Result<()> {
    if !shell::works(&mut workspace.cargo(["fmt", "--version"])) {
        bail!("rustfmt is missing: rustup component add rustfmt");
    }
    if !shell::works(&mut workspace.cargo(["clippy", "--version"])) {
        bail!("clippy is missing: rustup component add clippy");
    }
    if !shell::works(Command::new("cc").arg("--version")) {
        bail!("no C compiler (cc), which the bundled SQLite needs: apt-get install build-essential");
    }
    shell::run(&mut workspace.cargo(["--version"]))?;
    let nextest = shell::works(&mut workspace.cargo(["nextest", "--version"]));
    println!("test runner: {}", if nextest { "cargo nextest" } else { "cargo test" });
    services::tools(workspace)
}

fn fmt(workspace: &Workspace) -> Result<()> {
    shell::run(&mut workspace.cargo(["fmt", "--all", "--check"]))?;
    let manifest = workspace.third_party();
    if manifest.exists() {
        let mut command = workspace.cargo(["fmt", "--check", "--manifest-path"]);
        shell::run(command.arg(manifest))?;
    }
    Ok(())
}

/// Lints are made errors behind `--`: in RUSTFLAGS they would have every dependency compiled anew.
fn clippy(workspace: &Workspace) -> Result<()> {
    shell::run(&mut workspace.cargo(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]))
}

/// The features are those of the clippy step, which has checked the dependencies with them already.
fn docs(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo(["doc", "--workspace", "--no-deps", "--all-features"]);
    shell::run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// On SQLite without the feature first: it must need no other driver.
fn quickstart(workspace: &Workspace) -> Result<()> {
    shell::run(&mut workspace.cargo(["run", "-p", "quickstart"]))?;
    shell::run(&mut workspace.cargo(["build", "-p", "quickstart", "--features", "postgres"]))?;
    let servers = Provision::of(&[Service::Postgres], tickr_servers::may_install())?;
    let url = servers.url(Service::Postgres).context("the quickstart has no PostgreSQL to run on")?;
    // Not by `cargo run`, which would print the URL, and there may be a password in it.
    let program = workspace.target().join("debug").join(format!("quickstart{}", env::consts::EXE_SUFFIX));
    shell::run(Command::new(program).args(["--url", &url]))
}

/// Builds the tests of the adapter with its own lock file; the test step runs them.
fn third_party(workspace: &Workspace) -> Result<()> {
    let manifest = workspace.third_party();
    if !manifest.exists() {
        bail!("{} does not exist: the suite is not proven from outside the workspace", manifest.display());
    }
    let mut command = workspace.cargo(["test", "--no-run", "--locked", "--manifest-path"]);
    command.arg(manifest).env("CARGO_TARGET_DIR", workspace.target().join("third-party"));
    shell::run(&mut command)
}

fn test(workspace: &Workspace) -> Result<()> {
    if !test_run::run(workspace, &test_run::Args::default())? {
        bail!("not all tests passed, see above");
    }
    Ok(())
}
