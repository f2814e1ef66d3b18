//! Mutation tests: changes the code in small ways, one at a time, and reports which changes no test notices.
//!
//! All mutations are compiled in at once. The workspace is copied into a folder of its own, and each chosen place is rewritten to
//! `if tickr_mutant::on(17) { mutated } else { original }`; the variable `TICKR_MUTANT` then selects one at run time. Statements are
//! exchanged when the adapter renders or prepares them. So one build serves hundreds of mutations.
//!
//! Every test is run once to record which mutations it reaches. A mutation is then judged by the tests that reach it, the most
//! specific first, each in a process of its own, until one fails. That test is repeated without the mutation, so that a test that
//! fails anyway counts for nothing.
//!
//! `cargo xtask mutate` starts this with a PostgreSQL server; docs/mutations.md explains how to read the report.
#![allow(clippy::print_stdout, reason = "a command-line tool reports on standard output")]

mod build;
mod choose;
mod copy;
mod judge;
mod known;
mod report;
mod rewrite;
mod runtime;
mod rust;
mod site;
mod sql;
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;

/// Options of `cargo xtask mutate`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask mutate", bin_name = "cargo xtask mutate")]
pub(crate) struct Args {
    /// The number of mutations to try. The choice depends on the seed and on the text of each mutation, so it stays nearly the same
    /// when other code changes.
    #[arg(long, default_value_t = 400)]
    count: usize,
    /// The seed of the choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tries only mutations whose description contains this text, for example a file or a function.
    #[arg(long)]
    only: Option<String>,
    /// The number of tests that run at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// The time for the tests of one mutation, in seconds. One that survives so long is reported as not decided.
    #[arg(long, default_value_t = 120)]
    budget: u64,
    /// Ends the run after this time, in minutes: what is left is reported as not run, and tried by the next run.
    #[arg(long)]
    minutes: Option<u64>,
    /// Leaves out tests that take longer than this without a mutation, in seconds.
    #[arg(long, default_value_t = 15)]
    longest: u64,
    /// Tries one part of the mutations: `2/3` is the second of three.
    #[arg(long, value_parser = parse_shard, default_value = "1/1")]
    shard: Shard,
    /// Tries everything again, also what an earlier run has decided.
    #[arg(long)]
    again: bool,
    /// Tries again what no test noticed in an earlier run and nobody has explained: for after tests were written.
    #[arg(long, conflicts_with = "again")]
    missed: bool,
    /// Prints the chosen mutations and stops.
    #[arg(long)]
    list: bool,
    /// The root of the workspace.
    #[arg(long, hide = true)]
    root: PathBuf,
    /// The folder that cargo builds into.
    #[arg(long, hide = true)]
    target: PathBuf,
}

/// One part of several.
#[derive(Clone, Copy, Debug)]
struct Shard {
    number: usize,
    of: usize,
}

fn parse_shard(text: &str) -> Result<Shard> {
    let parts = text.split_once('/').and_then(|(number, of)| Some(Shard { number: number.parse().ok()?, of: of.parse().ok()? }));
    match parts.filter(|shard| (1..=shard.of).contains(&shard.number)) {
        Some(shard) => Ok(shard),
        None => bail!("{text:?} is not a part such as 2/3"),
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns false if a mutation survived that nobody has explained.
fn run(args: &Args) -> Result<bool> {
    let known = known::read(&args.root)?;
    let mut sites = choose::choose(&args.root, args)?;
    if args.list {
        for site in &sites {
            println!("{site}");
        }
        return Ok(true);
    }
    let work = args.target.join("mutants");
    let tree = copy::Tree::make(&args.root, &work.join("tree"))?;
    // Cargo distinguishes packages by their folder inside of the workspace: in a common target folder the copy would replace the original.
    let target = work.join("target");
    let refused = build::drop_what_does_not_compile(&tree, &target, &mut sites)?;
    println!("{} mutations compile, {refused} do not and are left out", sites.len());
    let binaries = build::tests(&tree, &target)?;
    let tests = tests::Tests::record(&binaries, &work, args)?;
    let longest = Duration::from_secs(args.longest);
    let verdicts = judge::judge(&sites, &tests.within(longest), &known, &work, args)?;
    let report = report::Report::new(&sites, &verdicts, &known, refused);
    report.write(&work.join("report.md"))?;
    println!("{}", report.summary());
    println!("report: {}", work.join("report.md").display());
    Ok(report.is_good())
}
