//! `cargo xtask test`: builds all tests once, runs them, and reports per suite and storage.

use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::binaries::{self, Binary};
use crate::report::{Case, Outcome, Report, Row};
use crate::services::{self, Environment, Lack, Provision};
use crate::shell::{self, Workspace};
use crate::{libtest, nextest};

/// Arguments of `cargo xtask test`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Installs Debian packages of servers that are missing, instead of fetching programs into the cache folder. CI does so unasked.
    #[arg(long)]
    install: bool,
    /// Fails if anything that tests need is missing and cannot be fetched. Without this those tests are reported as not run. CI always
    /// insists.
    #[arg(long)]
    all: bool,
    /// Runs only tests whose path contains one of these.
    #[arg(last = true)]
    filters: Vec<String>,
}

/// Runs the workspace's tests, then those of the adapter outside it, and prints the report.
/// Returns whether all is well; what is not stands in the report, whose last line is the count.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<bool> {
    if let Some(option) = args.filters.iter().find(|f| f.starts_with('-')) {
        bail!("`{option}` is not a part of a test's path: options go to `cargo nextest run` itself");
    }
    let nextest = shell::works(&mut workspace.cargo(["nextest", "--version"]));
    let (install, all) = (args.install || tickr_servers::may_install(), args.all || tickr_servers::may_install());
    // Before anything is compiled: what cannot be had is known at once.
    let lacks = services::supply(install);
    for lack in &lacks {
        println!("not all tests can run: {}", lack.reason);
    }
    if all && !lacks.is_empty() {
        bail!("what tests need is missing, see above (without --all the others are run)");
    }
    let mut report = Report::default();
    for set in Set::all(workspace) {
        let run = Run { workspace, set: &set, filters: &args.filters, install, lacks: &lacks };
        run.report(nextest, &mut report)?;
    }
    if report.total(Outcome::Passed) + report.total(Outcome::Failed) == 0 {
        report.problems.push("no test ran".to_owned());
    }
    if all && report.total(Outcome::NotRun) > 0 {
        report.problems.push("not all tests were run, see above".to_owned());
    }
    println!("\n{report}");
    Ok(report.is_good())
}

/// What one cargo workspace has in tests.
#[derive(Debug)]
struct Set {
    /// Its manifest, where it is not the root's.
    manifest: Option<PathBuf>,
    /// Where it is built.
    target: PathBuf,
    /// How its conformance rows are called.
    conformance: &'static str,
}

impl Set {
    fn all(workspace: &Workspace) -> [Self; 2] {
        let third_party = workspace.target().join("third-party");
        [
            Self { manifest: None, target: workspace.target().to_path_buf(), conformance: "conformance" },
            Self { manifest: Some(workspace.third_party()), target: third_party, conformance: "conformance, third party" },
        ]
    }

    /// An integration test of a third party is a run of the suite, as ours are.
    fn is_conformance(&self, binary: &Binary) -> bool {
        binary.is_conformance() || (self.manifest.is_some() && binary.kind == "test")
    }
}

/// A run of one set with the same filters.
struct Run<'a> {
    workspace: &'a Workspace,
    set: &'a Set,
    filters: &'a [String],
    /// Whether missing servers may be installed.
    install: bool,
    /// What this machine has not.
    lacks: &'a [Lack],
}

/// Results, the runner's own summaries, and whether the runner was content.
struct Results {
    cases: Vec<Case>,
    summaries: Vec<String>,
    ok: bool,
}

impl Run<'_> {
    /// Adds all results to the report, and what went wrong beside tests.
    fn report(&self, nextest: bool, report: &mut Report) -> Result<()> {
        if let Some(missing) = self.set.manifest.as_ref().filter(|m| !m.exists()) {
            let missing = missing.display();
            let problem = format!("{missing} does not exist: the suite is not proven from outside the workspace");
            report.problems.push(problem);
            return Ok(());
        }
        let mut binaries = binaries::build(&mut self.cargo(["test"]))?;
        // Until the report is written: to tell its version, a storage is asked.
        let (provision, mut lacks) = self.provision(&mut binaries);
        lacks.extend_from_slice(self.lacks);
        let environment = provision.environment();
        let absent = self.absent(&binaries, &lacks);
        let mut results = if nextest { self.nextest(&binaries, environment, &absent)? } else { self.libtest_each(&binaries, &absent)? };
        results.cases.extend(absent);
        for case in &mut results.cases {
            case.suite = suite_id(&binaries, &case.suite);
        }
        let mut cases = results.cases;
        let mut ok = results.ok;
        report.summaries.append(&mut results.summaries);
        for binary in &binaries {
            let id = binary.id();
            let (own, rest) = cases.into_iter().partition(|case| case.suite == id);
            cases = rest;
            report.rows.extend(self.row(binary, own));
        }
        if !cases.is_empty() {
            bail!("results of an unknown test binary: {}", cases[0].suite);
        }
        if binaries.iter().any(|binary| binary.kind == "lib") {
            let docs = self.libtest(self.tests(["test", "--doc", "--no-fail-fast"], environment))?;
            ok &= docs.ok;
            report.summaries.extend(docs.summaries);
            report.rows.extend(doc_rows(&binaries, docs.cases));
        }
        let failed = report.total(Outcome::Failed) > 0;
        if !ok && !failed {
            report.problems.push("the test runner failed, see its output above".to_owned());
        }
        Ok(())
    }

    /// Has a server for each storage under test that needs one, and tells the binaries where.
    fn provision(&self, binaries: &mut [Binary]) -> (Provision, Vec<Lack>) {
        let storages = binaries.iter().filter(|binary| binary.is_conformance()).map(|binary| binary.target.as_str());
        let (provision, lacks) = Provision::as_far_as_possible(&services::needs(storages), self.install);
        for binary in binaries {
            binary.environment.clone_from(provision.environment());
        }
        (provision, lacks)
    }

    /// The tests that lack something, each with the reason.
    fn absent(&self, binaries: &[Binary], lacks: &[Lack]) -> Vec<Case> {
        let mut absent = Vec::new();
        for binary in binaries {
            let storage = binary.is_conformance().then_some(binary.target.as_str());
            let lacks = services::lacks(lacks, &binary.id(), storage);
            if lacks.is_empty() {
                continue;
            }
            for name in binary.list(self.filters) {
                if let Some((_, lack)) = lacks.iter().find(|(prefix, _)| name.starts_with(prefix)) {
                    absent.push(Case { suite: binary.id(), name, outcome: Outcome::NotRun, reason: Some(lack.reason.clone()) });
                }
            }
        }
        absent
    }

    /// A command that runs tests.
    fn tests<const N: usize>(&self, args: [&str; N], environment: &Environment) -> Command {
        let mut command = self.cargo(args);
        command.envs(environment.iter().map(|(name, url)| (name, url)));
        command
    }

    fn cargo<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = self.workspace.cargo(args);
        command.args(["--workspace", "--all-features"]).env("CARGO_TARGET_DIR", &self.set.target);
        if let Some(manifest) = &self.set.manifest {
            command.arg("--manifest-path").arg(manifest);
        }
        command
    }

    /// Runs each test in a process of its own, and asks the binaries for what nextest does not tell.
    fn nextest(&self, binaries: &[Binary], environment: &Environment, absent: &[Case]) -> Result<Results> {
        let config = self.workspace.root().join(".config/nextest.toml");
        let mut command = self.tests(["nextest", "run"], environment);
        command.args(["--no-fail-fast", "--no-tests=pass", "--status-level=pass"]);
        command.args(["--color", if stdout().is_terminal() { "always" } else { "never" }]);
        if self.set.manifest.is_some() && config.exists() {
            command.arg("--config-file").arg(config);
        }
        command.args(self.filters);
        if let Some(expression) = nextest::without(absent) {
            command.args(["--filterset", &expression]);
        }
        let mut reader = nextest::Reader::default();
        let ok = shell::stream(&mut command, |line| reader.line(line))?;
        let (mut cases, summaries) = reader.finish()?;
        for binary in binaries {
            let mut ignored = binary.ignored(self.filters);
            ignored.retain(|(name, _)| !is_absent(absent, binary, name));
            cases.extend(ignored.into_iter().map(|(name, reason)| Case { suite: binary.id(), name, outcome: Outcome::Ignored, reason }));
        }
        Ok(Results { cases, summaries, ok })
    }

    /// Runs each binary as cargo would, one after another: cargo itself hands the same options to all.
    fn libtest_each(&self, binaries: &[Binary], absent: &[Case]) -> Result<Results> {
        let mut reader = libtest::Reader::default();
        let mut ok = true;
        for binary in binaries {
            let names = binary.list(self.filters);
            let names: Vec<&String> = names.iter().filter(|name| !is_absent(absent, binary, name)).collect();
            if names.is_empty() {
                continue;
            }
            let header = format!("     Running {} ({})", binary.id(), binary.path.display());
            println!("\n{header}");
            reader.line(&header);
            ok &= shell::stream(binary.command().arg("--exact").args(names), |line| reader.line(line))?;
        }
        let (cases, summaries) = reader.finish();
        Ok(Results { cases, summaries, ok })
    }

    fn libtest(&self, mut command: Command) -> Result<Results> {
        command.arg("--").args(self.filters);
        let mut reader = libtest::Reader::default();
        let ok = shell::stream(&mut command, |line| reader.line(line))?;
        let (cases, summaries) = reader.finish();
        Ok(Results { cases, summaries, ok })
    }

    /// The row of a binary; none if it has no tests, or none that the filters ask for.
    fn row(&self, binary: &Binary, cases: Vec<Case>) -> Option<Row> {
        let conformance = self.set.is_conformance(binary);
        // A storage that is to be proven and has no tests is worth a line.
        if cases.is_empty() && !(conformance && self.filters.is_empty()) {
            return None;
        }
        if !conformance {
            let suite = match binary.kind.as_str() {
                "lib" => format!("{}, unit", binary.package),
                kind => format!("{}, {kind} {}", binary.package, binary.target),
            };
            return Some(Row { suite, cases, ..Row::default() });
        }
        let version =
            if cases.iter().all(|case| case.outcome == Outcome::NotRun) { Some("-".to_owned()) } else { binary.storage_version() };
        Some(Row {
            suite: self.set.conformance.to_owned(),
            storage: binary.target.clone(),
            version: version.unwrap_or_else(|| "unknown".to_owned()),
            cases,
        })
    }
}

/// True if a test lacks something.
fn is_absent(absent: &[Case], binary: &Binary, name: &str) -> bool {
    absent.iter().any(|case| case.name == name && case.suite == binary.id())
}

/// Turns the file name of an executable, which cargo prints, into the id of the binary.
fn suite_id(binaries: &[Binary], suite: &str) -> String {
    binaries.iter().find(|binary| binary.path.file_name() == Path::new(suite).file_name()).map_or_else(|| suite.to_owned(), Binary::id)
}

/// One row per library that has doctests.
fn doc_rows(binaries: &[Binary], mut cases: Vec<Case>) -> Vec<Row> {
    let mut rows = Vec::new();
    while let Some(library) = cases.first().map(|case| case.suite.clone()) {
        let (own, rest) = cases.into_iter().partition(|case| case.suite == library);
        cases = rest;
        let package =
            binaries.iter().find(|binary| binary.kind == "lib" && binary.target == library).map_or(&library, |binary| &binary.package);
        rows.push(Row { suite: format!("{package}, doc"), cases: own, ..Row::default() });
    }
    rows
}
