//! Builds the benchmarks, and the peers if they are wanted, and runs them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::shell::{self, Workspace};

/// What `cargo xtask bench` takes.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Scenarios and options of the benchmarks; `--help` shows them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the benchmarks with these arguments.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let arguments: Vec<&str> = args.arguments.iter().map(String::as_str).collect();
    if arguments.contains(&"--peers") {
        peers(workspace)?;
    }
    measure(workspace, &arguments)
}

/// The guard of CI: a drain against the same statements in a bare loop, as a ratio. What became slow is slow each time; what a busy
/// machine did is not.
pub(crate) fn guard(workspace: &Workspace) -> Result<()> {
    const TRIES: u32 = 3;
    let mut result = Ok(());
    for _ in 0..TRIES {
        result = measure(workspace, &["drain", "--quick", "--check"]);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn measure(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    shell::run(&mut workspace.cargo(["build", "--release", "-p", "tickr-bench"]))?;
    let program = workspace.target().join("release/tickr-bench");
    shell::run(Command::new(program).current_dir(workspace.root()).arg("run").args(arguments))
}

/// Builds each peer with its own lock file.
fn peers(workspace: &Workspace) -> Result<()> {
    let folder = workspace.root().join("bench/peers");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut folders: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    folders.sort();
    for peer in folders {
        if peer.join("Cargo.toml").exists() {
            let mut command = workspace.cargo(["build", "--release", "--locked", "--manifest-path"]);
            command.arg(peer.join("Cargo.toml")).env("CARGO_TARGET_DIR", workspace.root().join("target/peers"));
            shell::run(&mut command)?;
        } else if peer.join("package.json").exists() {
            ensure!(shell::works(Command::new("npm").arg("--version")), "npm is missing: install Node.js 20 or newer");
            shell::run(Command::new("npm").args(["ci", "--silent"]).current_dir(&peer))?;
        }
    }
    Ok(())
}
