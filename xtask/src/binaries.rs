//! Test binaries: built once, then known by package, kind and target whatever runner is used.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::libtest;
use crate::services::Environment;

/// The package whose integration tests are one binary per storage.
const CONFORMANCE: &str = "tickr-conformance";

/// A compiled test binary.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    /// The package that it belongs to.
    pub(crate) package: String,
    /// What cargo calls its kind: `lib`, `bin`, `test`, `example`.
    pub(crate) kind: String,
    /// The name of the target: of an integration test its file name.
    pub(crate) target: String,
    /// The executable.
    pub(crate) path: PathBuf,
    /// The folder of its package, where tests expect to run.
    pub(crate) folder: PathBuf,
    /// What it finds its servers by.
    pub(crate) environment: Environment,
}

impl Binary {
    /// The name that nextest gives to the binary.
    pub(crate) fn id(&self) -> String {
        let Self { package, kind, target, .. } = self;
        match kind.as_str() {
            "test" => format!("{package}::{target}"),
            "bin" | "example" | "bench" => format!("{package}::{kind}/{target}"),
            _ => package.clone(),
        }
    }

    /// True for a binary that runs the conformance suite on one storage, which it is named after.
    pub(crate) fn is_conformance(&self) -> bool {
        self.kind == "test" && self.package == CONFORMANCE
    }

    /// The line `storage-version: ...` of the test `version::report`.
    pub(crate) fn storage_version(&self) -> Option<String> {
        let output = self.output(["--exact", "version::report", "--nocapture"])?;
        storage_version(&output)
    }

    /// Names of the tests that match the filters, without running anything.
    pub(crate) fn list(&self, filters: &[String]) -> Vec<String> {
        let mut list = self.command();
        let list = output(list.args(["--list", "--format", "terse"]).args(filters)).unwrap_or_default();
        list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
    }

    /// Names and reasons of the ignored tests that match the filters, without running anything.
    pub(crate) fn ignored(&self, filters: &[String]) -> Vec<(String, Option<String>)> {
        let mut list = self.command();
        list.args(["--list", "--ignored", "--format", "terse"]).args(filters);
        let Some(list) = output(&mut list) else {
            return Vec::new();
        };
        let names: Vec<&str> = list.lines().filter_map(|l| l.strip_suffix(": test")).collect();
        if names.is_empty() {
            return Vec::new();
        }
        // Asked for by name, but not with `--ignored`: each is shown as ignored, with its reason.
        let mut show = self.command();
        let shown = output(show.arg("--exact").args(&names)).unwrap_or_default();
        names.into_iter().map(|name| (name.to_owned(), libtest::ignore_reason(&shown, name))).collect()
    }

    /// A command that runs its tests, as cargo would.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.env("CARGO_MANIFEST_DIR", &self.folder);
        command.current_dir(&self.folder).envs(self.environment.iter().map(|(name, url)| (name, url)));
        command
    }

    fn output<const N: usize>(&self, args: [&str; N]) -> Option<String> {
        output(self.command().args(args))
    }
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Builds the tests by the given `cargo test` command and returns the binaries, sorted by id.
pub(crate) fn build(cargo_test: &mut Command) -> Result<Vec<Binary>> {
    let messages = crate::shell::capture(cargo_test.args(["--no-run", "--message-format", "json-render-diagnostics"]))?;
    let mut binaries = Vec::new();
    for line in messages.lines() {
        binaries.extend(binary(line)?);
    }
    if binaries.is_empty() {
        bail!("cargo built no test binary");
    }
    binaries.sort_by_key(Binary::id);
    Ok(binaries)
}

/// Reads one message of cargo; only those about test binaries give one.
fn binary(message: &str) -> Result<Option<Binary>> {
    let message: Value = serde_json::from_str(message).context("cargo printed what is not a JSON message")?;
    let test = message["profile"]["test"].as_bool() == Some(true);
    let Some(path) = message["executable"].as_str().filter(|_| test) else {
        return Ok(None);
    };
    let target = &message["target"];
    let kind = target["kind"][0].as_str();
    let (Some(id), Some(kind), Some(name), Some(manifest)) =
        (message["package_id"].as_str(), kind, target["name"].as_str(), message["manifest_path"].as_str())
    else {
        bail!("cargo describes the test binary {path} incompletely");
    };
    let folder = Path::new(manifest).parent().unwrap_or(Path::new("."));
    Ok(Some(Binary {
        package: package_name(id).to_owned(),
        kind: kind.to_owned(),
        target: name.to_owned(),
        path: PathBuf::from(path),
        folder: folder.to_path_buf(),
        environment: Environment::new(),
    }))
}

/// The name in a package id, which is left out where the folder has the same name.
/// <https://doc.rust-lang.org/cargo/reference/pkgid-spec.html>
fn package_name(id: &str) -> &str {
    let (url, fragment) = id.split_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name,
        None => url.rsplit('/').next().unwrap_or(url),
    }
}

fn storage_version(output: &str) -> Option<String> {
    // Without a line break after `test version::report ...`, which libtest may leave open.
    let (_, rest) = output.split_once("storage-version: ")?;
    Some(rest.lines().next().unwrap_or("").trim().to_owned()).filter(|v| !v.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = r#"{"reason":"compiler-artifact","package_id":"path+file:///src/conformance#tickr-conformance@0.1.0","manifest_path":"/src/conformance/Cargo.toml","target":{"kind":["test"],"name":"memory"},"profile":{"test":true},"executable":"/src/target/debug/deps/memory-56b4b655f31e21f9"}"#;

    #[test]
    fn a_conformance_target_is_recognised() {
        let binary = binary(MESSAGE).unwrap().unwrap();
        assert_eq!(binary.id(), "tickr-conformance::memory");
        assert!(binary.is_conformance());
    }

    #[test]
    fn an_ordinary_binary_is_not_a_test() {
        let message = MESSAGE.replace(r#"{"test":true}"#, r#"{"test":false}"#);
        assert!(binary(&message).unwrap().is_none());
    }

    #[test]
    fn package_ids_with_and_without_a_name() {
        assert_eq!(package_name("path+file:///src/conformance#tickr-conformance@0.1.0"), "tickr-conformance");
        assert_eq!(package_name("path+file:///src/xtask#0.1.0"), "xtask");
    }

    #[test]
    fn the_version_is_found_behind_an_open_line() {
        let output = "running 1 test\ntest version::report ... storage-version: sqlite 3.50.4\nok\n";
        assert_eq!(storage_version(output).as_deref(), Some("sqlite 3.50.4"));
        assert_eq!(storage_version("running 0 tests\n"), None);
    }
}
