//! The copy of the workspace that is rewritten.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::rewrite::{Rewritten, rewrite};
use crate::runtime;
use crate::site::{Edit, Site};

/// Packages with mutations: they depend on the crate that selects.
const PACKAGES: &[&str] = &["tickr-core", "tickr-sql", "tickr-sqlite", "tickr-postgres"];

/// Where statements are exchanged: the file, what stands there, and what is put in front of it or in its place.
const HOOKS: &[(&str, &str, &str)] = &[
    (
        "crates/tickr-sql/src/postgres.rs",
        "let mut rendered = String::with_capacity(text.len());",
        "let text = ::tickr_mutant::sql(text); let mut rendered = String::with_capacity(text.len());",
    ),
    ("crates/tickr-sql/src/postgres.rs", "self.0.get(statement.name)", "::tickr_mutant::reach(statement.text); self.0.get(statement.name)"),
    (
        "crates/tickr-sqlite/src/scope.rs",
        "self.connection.prepare_cached(sql)",
        "{ ::tickr_mutant::reach(sql); self.connection.prepare_cached(::tickr_mutant::sql(sql)) }",
    ),
];

/// The copy, and the workspace that it is of.
#[derive(Debug)]
pub(crate) struct Tree {
    from: PathBuf,
    pub(crate) root: PathBuf,
}

impl Tree {
    /// Copies all files that git knows or would add. A file that is as it was keeps its time, so that cargo does not build it again.
    pub(crate) fn make(from: &Path, root: &Path) -> Result<Self> {
        let mut list = Command::new("git");
        list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(from);
        let output = list.output().context("could not start git")?;
        if !output.status.success() {
            bail!("`git ls-files` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let files = String::from_utf8_lossy(&output.stdout).into_owned();
        let rewritten: HashSet<String> = rust_files(from)?.into_iter().collect();
        let files: HashSet<&str> = files.split('\0').filter(|file| !file.is_empty() && from.join(file).is_file()).collect();
        for file in &files {
            let text = fs::read(from.join(file)).with_context(|| format!("could not read {file}"))?;
            // Rewritten files are written when their sites are known.
            if !(rewritten.contains(*file) && root.join(file).exists()) {
                write(&root.join(file), &text)?;
            }
        }
        remove_others(root, root, &files)?;
        Ok(Self { from: from.to_path_buf(), root: root.to_path_buf() })
    }

    /// Writes the sites into the copy. The answer has, for each file, where they are.
    pub(crate) fn write(&self, sites: &[Site]) -> Result<Vec<(String, Rewritten)>> {
        let mut written = Vec::new();
        for file in rust_files(&self.from)? {
            let text = self.text(&file)?;
            let here: Vec<&Site> = sites.iter().filter(|site| site.file == file && site.edit != Edit::Sql).collect();
            let mut rewritten = rewrite(&text, &here);
            for (_, before, after) in HOOKS.iter().filter(|(hooked, ..)| *hooked == file) {
                if rewritten.text.matches(before).count() != 1 {
                    bail!("{file} no longer has `{before}` once, where statements are exchanged: HOOKS of tickr-mutants must follow it");
                }
                rewritten.text = rewritten.text.replace(before, after);
            }
            write(&self.root.join(&file), rewritten.text.as_bytes())?;
            if !here.is_empty() {
                written.push((file, rewritten));
            }
        }
        for package in PACKAGES {
            self.depend(package)?;
        }
        let runtime = self.root.join("crates/tickr-mutant");
        write(&runtime.join("Cargo.toml"), runtime::MANIFEST.as_bytes())?;
        let source = runtime::source(sites, |file| self.text(file).unwrap_or_default());
        write(&runtime.join("src/lib.rs"), source.as_bytes())?;
        Ok(written)
    }

    fn depend(&self, package: &str) -> Result<()> {
        let manifest = format!("crates/{package}/Cargo.toml");
        let text = self.text(&manifest)?;
        let with = text.replacen("\n[dependencies]\n", "\n[dependencies]\ntickr-mutant = { path = \"../tickr-mutant\" }\n", 1);
        if with == text {
            bail!("{manifest} has no [dependencies]");
        }
        write(&self.root.join(manifest), with.as_bytes())
    }

    fn text(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.from.join(file)).with_context(|| format!("could not read {file}"))
    }
}

/// All sources of the packages that can have mutations.
fn rust_files(from: &Path) -> Result<Vec<String>> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() { walk(&path, files)? } else { files.push(path) }
        }
        Ok(())
    }
    let mut files = Vec::new();
    for package in PACKAGES {
        walk(&from.join("crates").join(package).join("src"), &mut files)?;
    }
    let name = |path: &PathBuf| path.strip_prefix(from).map(|path| path.to_string_lossy().into_owned()).ok();
    Ok(files.iter().filter_map(name).filter(|file| file.ends_with(".rs")).collect())
}

/// Writes a file unless it has this content already.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let folder = path.parent().context("a file in no folder")?;
    fs::create_dir_all(folder).and_then(|()| fs::write(path, content)).with_context(|| format!("could not write {}", path.display()))
}

/// Removes what an earlier copy had and this one has not.
fn remove_others(root: &Path, folder: &Path, files: &HashSet<&str>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            remove_others(root, &path, files)?;
        } else if !files.contains(name.as_str()) && name.ends_with(".rs") && !name.starts_with("crates/tickr-mutant/") {
            fs::remove_file(&path).with_context(|| format!("could not remove {}", path.display()))?;
        }
    }
    Ok(())
}
