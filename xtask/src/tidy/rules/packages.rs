//! What each package of the workspace must say and carry.

use toml::Value;

use crate::tidy::Finding;
use crate::tidy::manifest::Manifest;
use crate::tidy::tree::Tree;

/// The package whose integration tests are one binary per storage.
const SUITE: &str = "conformance";

/// The licence texts that each published package carries (links to those of the root will do).
const LICENCES: &[&str] = &["LICENSE-APACHE", "LICENSE-MIT"];

/// One set of lints for all.
pub(super) fn packages_take_the_workspace_lints(tree: &Tree) -> Vec<Finding> {
    tree.packages()
        .filter(|(_, manifest)| !manifest.takes_lints())
        .map(|(folder, _)| at(folder, 1, "lacks `[lints] workspace = true`".to_owned()))
        .collect()
}

/// A published package has a description, a licence and a readme.
pub(super) fn published_packages_describe_themselves(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, manifest) in tree.packages().filter(|(_, m)| m.is_publishable()) {
        let line = manifest.line("name");
        for field in ["description", "license"] {
            if manifest.field(field).is_none() {
                findings.push(at(folder, line, format!("lacks `{field}`")));
            }
        }
        if let Some(readme) = readme(folder, manifest).filter(|readme| !tree.has(readme)) {
            findings.push(at(folder, line, format!("its readme does not exist: {readme}")));
        }
    }
    findings
}

/// Both licences ask that their text goes with every copy.
pub(super) fn published_packages_carry_their_licences(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, manifest) in tree.packages().filter(|(_, m)| m.is_publishable()) {
        for licence in LICENCES {
            if !tree.has(&format!("{folder}/{licence}")) {
                let message = format!("lacks {licence}: link it to the root's");
                findings.push(at(folder, manifest.line("name"), message));
            }
        }
    }
    findings
}

/// Each binary links everything anew: a package has one, of modules. Only the suite has one per storage.
pub(super) fn one_integration_test_binary_per_package(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, _) in tree.packages().filter(|(folder, _)| *folder != SUITE) {
        let tests = format!("{folder}/tests");
        let is_root = |path: &&str| {
            let name = &path[tests.len() + 1..];
            !name.contains('/') || (name.ends_with("/main.rs") && name.matches('/').count() == 1)
        };
        let roots = tree.rust(&tests).map(|(path, _)| path).filter(is_root);
        for path in roots.skip(1) {
            findings.push(Finding::new(path, 1, "a second integration-test binary: make it a module of the first"));
        }
    }
    findings
}

fn at(folder: &str, line: usize, message: String) -> Finding {
    Finding::new(&format!("{folder}/Cargo.toml"), line, message)
}

/// The path of the readme; none if the root's manifest decides.
fn readme(folder: &str, manifest: &Manifest) -> Option<String> {
    let named = match manifest.field("readme") {
        Some(Value::String(named)) => named,
        Some(Value::Table(_)) => return None,
        _ => "README.md",
    };
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in named.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::{objects, tree};
    use super::*;

    #[test]
    fn lints_are_taken_from_the_workspace() {
        let rule = packages_take_the_workspace_lints;
        let bad = "[package]\nname = \"a\"\n";
        assert!(objects(rule, "a/Cargo.toml", bad));
        let good = format!("{bad}[lints]\nworkspace = true\n");
        assert!(!objects(rule, "a/Cargo.toml", &good));
        // The root is no package, and what is outside has lints of its own.
        let root = "[workspace]\nexclude = [\"a\"]\n";
        let outside = tree(&[("Cargo.toml", root), ("a/Cargo.toml", bad)]);
        assert!(rule(&outside).is_empty());
    }

    #[test]
    fn a_published_package_has_a_readme() {
        let rule = published_packages_describe_themselves;
        let text = "[package]\nname = \"a\"\ndescription = \"A\"\nlicense.workspace = true\n";
        assert_eq!(rule(&tree(&[("x/a/Cargo.toml", text)])).len(), 1);
        let own = tree(&[("x/a/Cargo.toml", text), ("x/a/README.md", "A")]);
        assert!(rule(&own).is_empty());
        let named = format!("{text}readme = \"../../README.md\"\n");
        let named = tree(&[("x/a/Cargo.toml", &named), ("README.md", "A")]);
        assert!(rule(&named).is_empty());
    }

    #[test]
    fn an_unpublished_package_needs_nothing() {
        let text = "[package]\nname = \"a\"\npublish = false\n";
        assert!(!objects(published_packages_describe_themselves, "a/Cargo.toml", text));
        assert!(!objects(published_packages_carry_their_licences, "a/Cargo.toml", text));
    }

    #[test]
    fn a_published_package_carries_both_licences() {
        let rule = published_packages_carry_their_licences;
        let text = "[package]\nname = \"a\"\n";
        let one = tree(&[("a/Cargo.toml", text), ("a/LICENSE-MIT", "")]);
        assert_eq!(rule(&one).len(), 1);
        let files = [("a/Cargo.toml", text), ("a/LICENSE-MIT", ""), ("a/LICENSE-APACHE", "")];
        assert!(rule(&tree(&files)).is_empty());
    }

    #[test]
    fn only_the_suite_has_several_test_binaries() {
        let rule = one_integration_test_binary_per_package;
        let package = "[package]\nname = \"a\"\n";
        let of = |folder: &str, second: &str| {
            let paths = ["Cargo.toml", "tests/it/main.rs", second].map(|f| format!("{folder}/{f}"));
            let texts = [package, "", ""];
            let files: Vec<_> = paths.iter().map(String::as_str).zip(texts).collect();
            rule(&tree(&files)).len()
        };
        assert_eq!(of("a", "tests/other.rs"), 1);
        assert_eq!(of("a", "tests/it/claim.rs"), 0);
        assert_eq!(of(SUITE, "tests/other.rs"), 0);
    }
}
