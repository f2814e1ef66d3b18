//! Real servers, from what is installed: without PostgreSQL or PgBouncer these fail, and say what to install.

mod bouncer;
mod cluster;
mod orphan;
mod session;

use std::path::Path;
use std::process::Command;

use tickr_servers::{Address, Detached, Kind};

/// Asks by `psql`; what it answers, or its error.
fn query(address: &Address, database: &str, sql: &str) -> Result<String, String> {
    let mut command = Command::new("psql");
    command.args(["--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--command", sql, &address.url(database)]);
    let output = command.output().expect("psql comes with PostgreSQL");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// True if a process with this number works in that folder.
fn runs(kind: Kind, pid: u32, folder: &Path) -> bool {
    Detached { kind, pid, folder: folder.to_path_buf() }.is_running()
}
