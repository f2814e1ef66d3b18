//! Compiles the copy, without the mutations that do not compile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::copy::Tree;
use crate::rewrite::Rewritten;
use crate::site::Site;

/// Packages whose tests judge.
const PACKAGES: &[&str] = &["tickr-core", "tickr-sql", "tickr-sqlite", "tickr-postgres", "tickr-conformance"];

/// Integration tests that need servers of their own kind, and prove nothing that others do not.
const WITHOUT: &[&str] = &["postgres_newest", "pgbouncer", "pgbouncer_prepared", "postgres_partitioned"];

/// How often mutations are removed and the rest compiled again, at most.
const TURNS_MAX: usize = 40;

/// A test binary.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    /// As `cargo nextest` calls it.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Where its tests expect to run.
    pub(crate) folder: PathBuf,
}

/// Compiles the libraries until no mutation stands in the way. Returns how many were removed.
pub(crate) fn drop_what_does_not_compile(tree: &Tree, target: &Path, sites: &mut Vec<Site>) -> Result<usize> {
    let before = sites.len();
    for _ in 0..TURNS_MAX {
        let written = tree.write(sites)?;
        let mut check = cargo(tree, target, "check");
        let (messages, ok) = messages(check.arg("--keep-going"))?;
        if ok {
            return Ok(before - sites.len());
        }
        let refused = refused(&messages, &written);
        if refused.is_empty() {
            let text: String = messages.iter().filter_map(|message| message["message"]["rendered"].as_str()).collect();
            bail!("the copy in {} does not compile, and no mutation is the reason:\n{text}", tree.root.display());
        }
        sites.retain(|site| !refused.contains(&site.id));
    }
    bail!("the copy in {} does not compile after {TURNS_MAX} attempts without the mutations that the errors name", tree.root.display())
}

/// Builds the tests and lists their binaries.
pub(crate) fn tests(tree: &Tree, target: &Path) -> Result<Vec<Binary>> {
    let mut build = cargo(tree, target, "test");
    let (messages, ok) = messages(build.args(["--no-run", "--all-features"]))?;
    if !ok {
        bail!("the tests of the copy in {} do not compile", tree.root.display());
    }
    let mut binaries: Vec<Binary> = messages.iter().filter_map(binary).collect();
    binaries.retain(|binary| !WITHOUT.iter().any(|without| binary.name.ends_with(&format!("::{without}"))));
    binaries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(binaries)
}

fn cargo(tree: &Tree, target: &Path, command: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(command).current_dir(&tree.root).env("CARGO_TARGET_DIR", target);
    for package in PACKAGES {
        cargo.args(["-p", package]);
    }
    // `cargo run` describes this package in the environment.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn messages(cargo: &mut Command) -> Result<(Vec<Value>, bool)> {
    let output = cargo.args(["--message-format", "json"]).stderr(Stdio::inherit()).output().context("could not start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ok((messages, output.status.success()))
}

/// The mutations that errors point at. Of those around one place it is the innermost.
fn refused(messages: &[Value], written: &[(String, Rewritten)]) -> BTreeSet<u32> {
    let mut refused = BTreeSet::new();
    for error in messages.iter().map(|message| &message["message"]).filter(|message| message["level"] == "error") {
        let spans = spans(error);
        let found: BTreeSet<u32> = spans.iter().flat_map(|(file, at)| innermost(written, file, *at)).collect();
        if found.is_empty() {
            // For example a variable that is only set where a mutation may leave it out: all mutations of the lines around go.
            refused.extend(spans.iter().flat_map(|(file, at)| near(written, file, *at)));
        }
        refused.extend(found);
    }
    refused
}

/// Files and bytes that an error is about, those in its notes too.
fn spans(error: &Value) -> Vec<(String, usize)> {
    let mut spans = Vec::new();
    let notes = error["children"].as_array().into_iter().flatten();
    for message in std::iter::once(error).chain(notes) {
        for span in message["spans"].as_array().into_iter().flatten() {
            if let (Some(file), Some(at)) = (span["file_name"].as_str(), span["byte_start"].as_u64()) {
                spans.push((file.to_owned(), usize::try_from(at).unwrap_or(usize::MAX)));
            }
        }
    }
    spans
}

fn innermost(written: &[(String, Rewritten)], file: &str, at: usize) -> Vec<u32> {
    let places = written.iter().filter(|(name, _)| name == file).flat_map(|(_, rewritten)| &rewritten.places);
    let around: Vec<_> = places.filter(|(_, range)| range.contains(&at)).collect();
    let Some(shortest) = around.iter().map(|(_, range)| range.len()).min() else {
        return Vec::new();
    };
    around.iter().filter(|(_, range)| range.len() == shortest).map(|(id, _)| *id).collect()
}

fn near(written: &[(String, Rewritten)], file: &str, at: usize) -> Vec<u32> {
    const BYTES: usize = 2_000;
    let places = written.iter().filter(|(name, _)| name == file).flat_map(|(_, rewritten)| &rewritten.places);
    places.filter(|(_, range)| range.start.abs_diff(at) < BYTES).map(|(id, _)| *id).collect()
}

fn binary(message: &Value) -> Option<Binary> {
    let path = message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf();
    let package = folder.file_name()?.to_str()?.to_owned();
    let target = &message["target"];
    let name = match target["kind"][0].as_str()? {
        "test" => format!("{package}::{}", target["name"].as_str()?),
        _ => package,
    };
    Some(Binary { name, path: path.into(), folder })
}
