//! The checkout in memory: what the rules look at.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::manifest::Manifest;
use super::rust::Source;

/// Text files by path relative to the root, with Rust sources and manifests already read.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: BTreeMap<String, String>,
    sources: BTreeMap<String, Source>,
    manifests: BTreeMap<String, Manifest>,
}

impl Tree {
    /// Reads what git tracks or would track; without git, everything but build results.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let paths = match tracked(root) {
            Some(paths) => paths,
            None => {
                let mut paths = Vec::new();
                walk(root, "", &mut paths)?;
                paths
            }
        };
        let mut files = Vec::new();
        for path in paths {
            // A file that is not UTF-8 is not ours to read; one that is gone is about to be committed so.
            if let Ok(text) = fs::read_to_string(root.join(&path)) {
                files.push((path, text));
            }
        }
        Self::new(files)
    }

    /// Makes a tree of the given files.
    pub(super) fn new(files: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut tree = Self::default();
        for (path, text) in files {
            if path.ends_with(".rs") {
                tree.sources.insert(path.clone(), Source::read(&text));
            } else if path == "Cargo.toml" || path.ends_with("/Cargo.toml") {
                let manifest = Manifest::read(&text).with_context(|| path.clone())?;
                let folder = path.trim_end_matches("Cargo.toml").trim_end_matches('/');
                tree.manifests.insert(folder.to_owned(), manifest);
            }
            tree.files.insert(path, text);
        }
        Ok(tree)
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Every file with its text.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(p, t)| (p.as_str(), t.as_str()))
    }

    /// True if there is such a file.
    pub(super) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// The Rust sources of a folder and below it; of all folders for the empty one.
    pub(super) fn rust(&self, folder: &str) -> impl Iterator<Item = (&str, &Source)> {
        self.sources.iter().map(|(path, source)| (path.as_str(), source)).filter(move |(path, _)| is_below(path, folder))
    }

    /// The SQL files of a folder and below it; of all folders for the empty one.
    pub(super) fn sql(&self, folder: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(move |(path, _)| path.ends_with(".sql") && is_below(path, folder))
    }

    /// The packages of the workspace by folder: neither the root nor what is outside.
    pub(super) fn packages(&self) -> impl Iterator<Item = (&str, &Manifest)> {
        let root = self.manifests.get("");
        self.manifests
            .iter()
            .map(|(folder, manifest)| (folder.as_str(), manifest))
            .filter(move |(folder, manifest)| manifest.name().is_some() && !root.is_some_and(|root| root.excludes(folder)))
    }

    /// The manifest of a folder.
    pub(super) fn package(&self, folder: &str) -> Option<&Manifest> {
        self.manifests.get(folder)
    }

    /// The package names of the dependencies of a folder's manifest, renames undone.
    /// Development dependencies are not among them.
    pub(super) fn dependencies(&self, folder: &str) -> Vec<(String, usize)> {
        let shared = self.manifests.get("");
        self.package(folder).map(|manifest| manifest.dependencies(shared)).unwrap_or_default()
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Tracked files and new ones that are not ignored; none where git is missing or refuses.
fn tracked(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let list = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> = list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    (!paths.is_empty()).then_some(paths)
}

fn walk(root: &Path, prefix: &str, paths: &mut Vec<String>) -> Result<()> {
    let folder = root.join(prefix);
    let entries = fs::read_dir(&folder).with_context(|| format!("could not read {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("could not read {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            if name != "target" && name != ".git" {
                walk(root, &format!("{prefix}{name}/"), paths)?;
            }
        } else {
            paths.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}
