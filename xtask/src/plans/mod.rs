//! `cargo xtask plans`: what PostgreSQL makes of the statements, on tables that hold much, and whether it stays good.
//!
//! A plan is made as a connection of the library gets it in the long run: under the settings of its prelude, for any parameters.

mod cases;
mod check;
mod measure;
mod plan;
mod rules;
mod server;
mod session;
mod statements;

use anyhow::Result;

use crate::shell::Workspace;

/// Functions that make the rows and the arguments.
const SAMPLE: &str = include_str!("sample.sql");

/// Fills the tables.
const FILL: &str = include_str!("fill.sql");

/// Arguments of `cargo xtask plans`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only looks, on little data, whether plans are what they should be, however the tables were when they were made.
    #[arg(long)]
    check: bool,
}

/// Checks the plans, or measures them and writes them down.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.check { check(workspace) } else { measure::run(workspace) }
}

/// Checks the plans.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    check::run(workspace)
}
