//! The package step: what would be published builds on its own and carries what it must.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell::{self, Workspace};

/// Files that every published package carries, beside its sources.
const REQUIRED: &[&str] = &["README.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// Packages every publishable crate, builds each from its package alone and checks its file list.
pub(crate) fn run(workspace: &Workspace, allow_dirty: bool) -> Result<()> {
    let metadata = shell::capture(&mut workspace.cargo(["metadata", "--no-deps", "--format-version", "1"]))?;
    let crates = publishable(&metadata)?;
    let mut problems = Vec::new();
    for (name, folder) in &crates {
        let mut list = workspace.cargo(["package", "--list", "--allow-dirty", "--package"]);
        let packaged = shell::capture(list.arg(name))?;
        let packaged: BTreeSet<&str> = packaged.lines().collect();
        let wanted = wanted(Path::new(folder))?;
        for file in wanted.iter().filter(|f| !packaged.contains(f.as_str())) {
            problems.push(format!("package {name} lacks {file}"));
        }
        println!("{name}: {} files", packaged.len());
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n  "));
    }

    // One command for all: cargo then resolves the crates, which are in no registry yet, among each other.
    let mut command = workspace.cargo(["package"]);
    for (name, _) in &crates {
        command.args(["--package", name]);
    }
    if allow_dirty {
        command.arg("--allow-dirty");
    }
    shell::run(&mut command)
}

/// Names and folders of the packages that may be published.
fn publishable(metadata: &str) -> Result<Vec<(String, String)>> {
    let metadata: Value = serde_json::from_str(metadata).context("cargo metadata printed what is not JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut crates = Vec::new();
    for package in packages {
        // `publish = false` is an empty list of registries.
        if package["publish"].as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        let (Some(name), Some(manifest)) = (package["name"].as_str(), package["manifest_path"].as_str()) else {
            bail!("cargo metadata shows a package without name or manifest");
        };
        let folder = manifest.strip_suffix("Cargo.toml").unwrap_or(manifest);
        crates.push((name.to_owned(), folder.to_owned()));
    }
    Ok(crates)
}

/// What must be in the package of a crate folder: readme, licences and every statement file.
fn wanted(folder: &Path) -> Result<Vec<String>> {
    let mut files: Vec<String> = REQUIRED.iter().map(|&file| file.to_owned()).collect();
    statements(folder, "", &mut files)?;
    Ok(files)
}

fn statements(folder: &Path, prefix: &str, files: &mut Vec<String>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("could not read {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A folder with a manifest is another package.
        if entry.path().is_dir() {
            if name != "target" && !entry.path().join("Cargo.toml").exists() {
                statements(&entry.path(), &format!("{prefix}{name}/"), files)?;
            }
        } else if name.ends_with(".sql") {
            files.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpublished_packages_are_left_out() {
        let metadata = r#"{"packages": [
            {"name": "a", "publish": null, "manifest_path": "x/a/Cargo.toml"},
            {"name": "b", "publish": [], "manifest_path": "x/b/Cargo.toml"}]}"#;
        let crates = publishable(metadata).unwrap();
        assert_eq!(crates, [("a".to_owned(), "x/a/".to_owned())]);
    }
}
