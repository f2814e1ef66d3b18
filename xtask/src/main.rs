//! Project automation of tickr: everything that CI does is a command here, so that it can be run at home.
//!
//! `cargo xtask ci` runs the whole of it, `cargo xtask test` all tests with a table of storages, and
//! `cargo xtask tidy` the rules of the code base that no compiler knows. `cargo xtask plans` looks at what PostgreSQL makes of the
//! statements, and `cargo xtask bench` how fast they are. `cargo xtask services` has database servers run for as long as one works with them.
#![allow(clippy::print_stdout, reason = "a command-line tool reports on standard output")]

mod bench;
mod binaries;
mod ci;
mod deny;
mod libtest;
mod mutate;
mod nextest;
mod package;
mod plans;
mod readme;
mod report;
mod services;
mod shell;
mod test_run;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Project automation of tickr.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What can be run.
#[derive(Debug, Subcommand)]
enum Command {
    /// Runs every check that a change must pass, in order, and stops at the first failure.
    Ci(ci::Args),
    /// Runs every test of the workspace and prints which suite ran on which storage.
    Test(test_run::Args),
    /// Has PostgreSQL explain every statement on tables that hold much, and writes the plans beside them.
    Plans(plans::Args),
    /// Measures how fast it is, against bare statements and against peers.
    Bench(bench::Args),
    /// Changes the code in small ways, one at a time, and reports which changes no test notices.
    Mutate(mutate::Args),
    /// Starts and stops database servers for work at home.
    Services(services::Args),
    /// Checks the rules of the code base that the compiler does not know.
    Tidy,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns false where the command has told itself what is wrong.
fn run(command: &Command) -> anyhow::Result<bool> {
    let workspace = shell::Workspace::locate()?;
    match command {
        Command::Ci(args) => ci::run(&workspace, args).map(|()| true),
        Command::Test(args) => test_run::run(&workspace, args),
        Command::Plans(args) => plans::run(&workspace, args).map(|()| true),
        Command::Bench(args) => bench::run(&workspace, args).map(|()| true),
        Command::Mutate(args) => mutate::run(&workspace, args).map(|()| true),
        Command::Services(args) => services::run(&workspace, args).map(|()| true),
        Command::Tidy => tidy::run(&workspace).map(|()| true),
    }
}
