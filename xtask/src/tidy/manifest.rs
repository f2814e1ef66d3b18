//! Cargo manifests, as far as the rules ask.

use anyhow::Result;
use toml::{Table, Value};

/// A manifest and its text, for line numbers.
#[derive(Debug)]
pub(super) struct Manifest {
    table: Table,
    text: String,
}

impl Manifest {
    /// Reads a manifest.
    pub(super) fn read(text: &str) -> Result<Self> {
        Ok(Self { table: text.parse()?, text: text.to_owned() })
    }

    /// The name of the package, if it is one.
    pub(super) fn name(&self) -> Option<&str> {
        self.field("name")?.as_str()
    }

    /// A field of `[package]`.
    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        self.table.get("package")?.get(name)
    }

    /// True unless the package says `publish = false`.
    pub(super) fn is_publishable(&self) -> bool {
        match self.field("publish") {
            Some(Value::Boolean(publish)) => *publish,
            Some(Value::Array(registries)) => !registries.is_empty(),
            _ => true,
        }
    }

    /// True if it takes the lints of the workspace.
    pub(super) fn takes_lints(&self) -> bool {
        let lints = self.table.get("lints").and_then(|l| l.get("workspace"));
        lints.and_then(Value::as_bool) == Some(true)
    }

    /// True for a folder that the workspace leaves out.
    pub(super) fn excludes(&self, folder: &str) -> bool {
        let excluded = self.table.get("workspace").and_then(|w| w.get("exclude"));
        excluded
            .and_then(Value::as_array)
            .is_some_and(|list| list.iter().filter_map(Value::as_str).any(|e| e == folder || folder.starts_with(&format!("{e}/"))))
    }

    /// The package names of all dependencies but those for development, with their lines.
    /// Names that `shared`, the root's manifest, changes are resolved.
    pub(super) fn dependencies(&self, shared: Option<&Self>) -> Vec<(String, usize)> {
        let mut names = self.entries("dependencies", shared);
        names.extend(self.entries("build-dependencies", shared));
        names
    }

    /// Dependencies for development that name a version, directly or by the workspace.
    pub(super) fn versioned_dev_dependencies(&self, shared: Option<&Self>) -> Vec<(String, usize)> {
        self.sections("dev-dependencies")
            .flat_map(|section| section.iter())
            .filter(|(key, value)| is_versioned(value) || is_shared_version(shared, key, value))
            .map(|(key, value)| (package(key, value, shared), self.line(key)))
            .collect()
    }

    /// The line on which a key stands, 1 if it is nowhere at the start of a line.
    pub(super) fn line(&self, key: &str) -> usize {
        let at =
            self.text.lines().position(|line| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', '.', '='])));
        at.map_or(1, |index| index + 1)
    }

    fn entries(&self, section: &str, shared: Option<&Self>) -> Vec<(String, usize)> {
        self.sections(section)
            .flat_map(|section| section.iter())
            .map(|(key, value)| (package(key, value, shared), self.line(key)))
            .collect()
    }

    /// The section itself and those of the same name for single targets.
    fn sections<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Table> {
        let targets = self.table.get("target").and_then(Value::as_table);
        let of_targets = targets.into_iter().flat_map(|targets| targets.values()).filter_map(move |target| target.get(name));
        self.table.get(name).into_iter().chain(of_targets).filter_map(Value::as_table)
    }

    fn shared(&self, key: &str) -> Option<&Value> {
        let workspace = self.table.get("workspace")?;
        workspace.get("dependencies")?.get(key)
    }
}

fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

fn is_versioned(value: &Value) -> bool {
    value.is_str() || value.get("version").is_some()
}

fn is_shared_version(shared: Option<&Manifest>, key: &str, value: &Value) -> bool {
    inherits(value) && shared.and_then(|shared| shared.shared(key)).is_some_and(is_versioned)
}

/// The name of the package behind a key.
fn package(key: &str, value: &Value, shared: Option<&Manifest>) -> String {
    let own = value.get("package").and_then(Value::as_str);
    let inherited = shared.filter(|_| inherits(value)).and_then(|shared| shared.shared(key)?.get("package")?.as_str());
    own.or(inherited).unwrap_or(key).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_found_behind_renames_and_targets() {
        let root = "[workspace.dependencies]\ntickr = { package = \"tickr-outbox\", path = \"x\" }\n";
        let text = "[package]\nname = \"a\"\n[dependencies]\ntickr.workspace = true\n\
            [target.'cfg(unix)'.dependencies]\ndb = { package = \"rusqlite\", version = \"1\" }\n\
            [dev-dependencies]\ntempfile = \"3\"\n";
        let root = Manifest::read(root).unwrap();
        let names = Manifest::read(text).unwrap().dependencies(Some(&root));
        assert_eq!(names, [("tickr-outbox".to_owned(), 4), ("rusqlite".to_owned(), 6)]);
    }

    #[test]
    fn publish_false_is_not_publishable() {
        let manifest = Manifest::read("[package]\nname = \"a\"\npublish = false\n").unwrap();
        assert!(!manifest.is_publishable());
    }

    #[test]
    fn a_development_dependency_has_a_version_by_the_workspace_too() {
        let root = "[workspace.dependencies]\na = { path = \"a\", version = \"1\" }\n";
        let text = "[dev-dependencies]\na.workspace = true\nb = { path = \"b\" }\n";
        let root = Manifest::read(root).unwrap();
        let manifest = Manifest::read(text).unwrap();
        let names = manifest.versioned_dev_dependencies(Some(&root));
        assert_eq!(names, [("a".to_owned(), 2)]);
    }
}
