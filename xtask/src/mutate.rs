//! Builds the mutation tests and runs them beside a PostgreSQL server.

use std::process::Command;

use anyhow::Result;

use crate::services::{Provision, Service};
use crate::shell::{self, Workspace};

/// What `cargo xtask mutate` takes.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Options of the mutation tests; `--help` shows them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the mutation tests with these options.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    shell::run(&mut workspace.cargo(["build", "-p", "tickr-mutants"]))?;
    let mut program = Command::new(workspace.target().join("debug/tickr-mutants"));
    program.arg("--root").arg(workspace.root()).arg("--target").arg(workspace.target()).args(&args.arguments);
    // Both need no server.
    let needs: &[Service] =
        if args.arguments.iter().any(|argument| argument == "--help" || argument == "--list") { &[] } else { &[Service::Postgres] };
    let provision = Provision::of(needs, tickr_servers::may_install())?;
    shell::run(program.envs(provision.environment().iter().map(|(name, url)| (name, url))))
}
