//! Who may depend on whom.

use super::{ADAPTERS, DRIVERS};
use crate::tidy::Finding;
use crate::tidy::rust::Source;
use crate::tidy::tree::Tree;

/// Packages from the bottom up: a dependency points to a lower layer.
const LAYERS: &[&[&str]] = &[
    // Start servers, and change the code to test the tests: they know nothing of what is stored.
    &["tickr-servers", "tickr-mutants"],
    // The contract; macros, which see only tokens.
    &["tickr-core", "tickr-macros"],
    // Text without I/O; codecs and observers.
    &["tickr-migrations", "tickr-json", "tickr-prost", "tickr-prometheus", "tickr-opentelemetry"],
    // Statements stand on migrations.
    &["tickr-sql"],
    // Adapters.
    &["tickr-sqlite", "tickr-postgres", "tickr-mysql", "tickr-sqlx"],
    // An adapter that is another one with a different dialect.
    &["tickr-cockroach"],
    // The suite and the facade see adapters.
    &["tickr-conformance", "tickr-outbox"],
    // What is built of the facade.
    &["tickr-bench", "tickr-crash"],
];

/// What does I/O beside drivers.
const IO: &[&str] = &["tokio", "async-std", "smol", "reqwest", "hyper", "mio", "rustix"];

/// Modules of the standard library that do I/O.
const IO_MODULES: &[&str] = &["fs", "net", "process", "os"];

/// The core has no driver.
pub(super) fn core_has_no_driver(tree: &Tree) -> Vec<Finding> {
    forbidden(tree, "crates/tickr-core", DRIVERS, "a driver in tickr-core")
}

/// Statements and migrations are text: whoever runs them does the I/O.
pub(super) fn statements_and_migrations_do_no_io(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in ["crates/tickr-sql", "migrations"] {
        for names in [DRIVERS, IO] {
            findings.extend(forbidden(tree, folder, names, "I/O in a package of text"));
        }
        for (path, source) in tree.rust(&format!("{folder}/src")) {
            for (line, module) in io_modules(source) {
                let message = format!("std::{module} in a package of text");
                findings.push(Finding::new(path, line, message));
            }
        }
    }
    findings
}

/// A published package with a driver is an adapter, and the rules for adapters must know it.
pub(super) fn adapters_are_listed(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, manifest) in tree.packages() {
        if !folder.starts_with("crates/") || !manifest.is_publishable() {
            continue;
        }
        // The facade re-exports drivers through adapters.
        if ADAPTERS.contains(&folder) || folder == "crates/tickr-core" {
            continue;
        }
        for (name, line) in tree.dependencies(folder) {
            if DRIVERS.contains(&name.as_str()) {
                let message = format!("uses the driver {name}, but is not in ADAPTERS of xtask's tidy");
                findings.push(Finding::new(&file(folder), line, message));
            }
        }
    }
    findings
}

/// An adapter implements the core's traits.
pub(super) fn adapters_depend_on_core(tree: &Tree) -> Vec<Finding> {
    ADAPTERS
        .iter()
        .filter(|folder| tree.package(folder).is_some())
        .filter(|folder| !tree.dependencies(folder).iter().any(|(n, _)| n == "tickr-core"))
        .map(|folder| Finding::new(&file(folder), 1, "an adapter that does not depend on tickr-core"))
        .collect()
}

/// Adapters depend on the core, the suite on adapters, never back.
pub(super) fn dependencies_point_down(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, manifest) in tree.packages() {
        let Some(name) = manifest.name() else {
            continue;
        };
        let Some(own) = layer_of(folder, name) else {
            let message = format!("{name} has no place in LAYERS of xtask's tidy");
            findings.push(Finding::new(&file(folder), manifest.line("name"), message));
            continue;
        };
        for (dependency, line) in tree.dependencies(folder) {
            if layer(&dependency).is_some_and(|layer| layer >= own) {
                let message = format!("{name} must not depend on {dependency}, which is not below it");
                findings.push(Finding::new(&file(folder), line, message));
            }
        }
    }
    findings
}

/// A test may look up, to the suite, but not by a version: cargo leaves out of the package what has
/// none, and could not publish either of the two before the other.
pub(super) fn upward_dev_dependencies_have_no_version(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, manifest) in tree.packages().filter(|(_, m)| m.is_publishable()) {
        let own = manifest.name().and_then(|name| layer_of(folder, name));
        for (name, line) in manifest.versioned_dev_dependencies(tree.package("")) {
            if layer(&name).is_some_and(|layer| Some(layer) >= own) {
                let message = format!("say `{name} = {{ path = \"...\" }}` without a version for tests");
                findings.push(Finding::new(&file(folder), line, message));
            }
        }
    }
    findings
}

fn file(folder: &str) -> String {
    format!("{folder}/Cargo.toml")
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// Examples and automation are above all layers.
fn layer_of(folder: &str, name: &str) -> Option<usize> {
    if folder.starts_with("examples/") || folder == "xtask" {
        return Some(LAYERS.len());
    }
    layer(name)
}

fn forbidden(tree: &Tree, folder: &str, names: &[&str], what: &str) -> Vec<Finding> {
    tree.dependencies(folder)
        .into_iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .map(|(name, line)| Finding::new(&file(folder), line, format!("{what}: {name}")))
        .collect()
}

/// The modules of [`IO_MODULES`] that the code names, as `std::fs` or `std::{fs, io}`.
fn io_modules(source: &Source) -> Vec<(usize, &'static str)> {
    let code: Vec<(usize, &str)> = source.code().collect();
    let text: String = code.iter().flat_map(|(_, line)| [*line, "\n"]).collect();
    let mut found = Vec::new();
    for (at, _) in text.match_indices("std::") {
        let rest = &text[at + "std::".len()..];
        // Of a group, only names right inside of its braces.
        let names = match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or(group),
            None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""),
        };
        let index = text[..at].matches('\n').count();
        for name in names.split(',') {
            let name = name.trim().split("::").next().unwrap_or("");
            if let Some(module) = IO_MODULES.iter().find(|&&module| module == name) {
                found.push((code[index].0, *module));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{objects, tree};
    use super::*;

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n{rest}")
    }

    fn check(rule: fn(&Tree) -> Vec<Finding>, folder: &str, name: &str, rest: &str) -> bool {
        objects(rule, &file(folder), &manifest(name, rest))
    }

    #[test]
    fn a_driver_in_core_is_found_behind_a_rename() {
        let (folder, name) = ("crates/tickr-core", "tickr-core");
        let bad = "[dependencies]\ndb = { package = \"rusqlite\", version = \"1\" }\n";
        assert!(check(core_has_no_driver, folder, name, bad));
        let good = "[dependencies]\nuuid = \"1\"\n[dev-dependencies]\nrusqlite = \"1\"\n";
        assert!(!check(core_has_no_driver, folder, name, good));
    }

    #[test]
    fn text_packages_do_no_io() {
        let rule = statements_and_migrations_do_no_io;
        let path = "migrations/src/lib.rs";
        assert!(objects(rule, path, "use std::fs;"));
        assert!(objects(rule, path, "use std::{fmt, net::TcpStream};"));
        assert!(!objects(rule, path, "use std::fmt; // std::fs\nconst A: &str = include_str!(\"a\");"));
        assert!(check(rule, "crates/tickr-sql", "tickr-sql", "[dependencies]\ntokio = \"1\"\n"));
    }

    #[test]
    fn a_new_adapter_must_be_listed() {
        let driver = "[dependencies]\nmysql_async = \"1\"\n";
        assert!(check(adapters_are_listed, "crates/tickr-new", "tickr-new", driver));
        assert!(!check(adapters_are_listed, "crates/tickr-mysql", "tickr-mysql", driver));
    }

    #[test]
    fn an_adapter_depends_on_core() {
        let (folder, name) = ("crates/tickr-sqlite", "tickr-sqlite");
        assert!(check(adapters_depend_on_core, folder, name, ""));
        let good = "[dependencies]\ntickr-core.workspace = true\n";
        assert!(!check(adapters_depend_on_core, folder, name, good));
    }

    #[test]
    fn an_adapter_does_not_depend_on_the_suite() {
        let (folder, name) = ("crates/tickr-sqlite", "tickr-sqlite");
        let bad = "[dependencies]\ntickr-conformance.workspace = true\n";
        assert!(check(dependencies_point_down, folder, name, bad));
        let good = "[dev-dependencies]\ntickr-conformance = { path = \"../../conformance\" }\n";
        assert!(!check(dependencies_point_down, folder, name, good));
    }

    #[test]
    fn a_package_without_a_place_is_found() {
        assert!(check(dependencies_point_down, "crates/tickr-new", "tickr-new", ""));
        assert!(!check(dependencies_point_down, "examples/orders", "orders", ""));
    }

    #[test]
    fn tests_look_up_by_path_only() {
        let rule = upward_dev_dependencies_have_no_version;
        let root = "[workspace.dependencies]\ntickr-conformance = { path = \"c\", version = \"1\" }\n";
        let of = |rest: &str| {
            let package = manifest("tickr-sqlite", rest);
            rule(&tree(&[("Cargo.toml", root), ("crates/tickr-sqlite/Cargo.toml", &package)])).len()
        };
        assert_eq!(of("[dev-dependencies]\ntickr-conformance.workspace = true\n"), 1);
        assert_eq!(of("[dev-dependencies]\ntickr-conformance = { path = \"../../c\" }\n"), 0);
    }
}
