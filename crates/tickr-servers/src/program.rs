//! Programs that run to their end.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// How many lines of a program's complaint an error repeats.
const LINES_MAX: usize = 15;

/// Finds a program in `PATH`, or in one of the folders that root alone has there.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// True if the program exists and exits with zero.
pub(crate) fn works(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs a program and returns its standard output. An error has the last lines that it wrote.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = shown(command);
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().with_context(|| format!("could not start `{name}`"))?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if !status.success() {
        let said = format!("{stdout}{}", String::from_utf8_lossy(&stderr));
        bail!("`{name}` failed, {status}:\n{}", last_lines(&said));
    }
    Ok(stdout)
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut shown = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        shown.push(' ');
        shown.push_str(&argument.to_string_lossy());
    }
    shown
}

/// The end of a long text, indented as a part of an error.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES_MAX)..];
    last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_command_and_what_it_said() {
        let mut command = Command::new("sh");
        let error = output(command.args(["-c", "echo no room >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("exit status: 3") && error.contains("no room"), "{error}");
    }

    #[test]
    fn of_a_long_text_the_end_is_shown() {
        let text: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let last = last_lines(&text);
        assert!(last.starts_with("  line 85") && last.ends_with("  line 99"), "{last}");
    }
}
