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

/// What a package brings along is read where the rest of the workspace is not: on the page of the package and in its documentation.
/// There a relative link leads nowhere, and a link to a heading only to one of the same page.
pub(super) fn published_pages_have_no_dead_links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, manifest) in tree.packages().filter(|(_, m)| m.is_publishable()) {
        let page = readme(folder, manifest);
        let (readmes, sources) = (page.as_deref(), format!("{folder}/src/"));
        for (path, text) in tree.files() {
            let is_page = Some(path) == readmes;
            let is_source = path.starts_with(&sources) && path.ends_with(".rs");
            if !is_page && !is_source {
                continue;
            }
            let anchors: Vec<String> = text.lines().filter_map(heading).collect();
            for (line, target) in links(text, is_page) {
                let dead = match target.strip_prefix('#') {
                    Some(anchor) => is_page && !anchors.iter().any(|known| known == anchor),
                    None => is_relative(target, is_page),
                };
                if dead {
                    findings.push(Finding::new(path, line, format!("a link that leads nowhere once this is published: {target}")));
                }
            }
        }
    }
    findings
}

/// The targets of links with their lines: in a page everywhere but in code, in a source in comments of documentation.
fn links(text: &str, is_page: bool) -> Vec<(usize, &str)> {
    let mut code = false;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = if is_page {
            Some(line)
        } else {
            let line = line.trim_start();
            line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))
        };
        let Some(line) = line else {
            code = false;
            continue;
        };
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            let inline = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let defined = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target.trim());
            found.extend(inline.chain(defined).map(|target| (index + 1, target)));
        }
    }
    found
}

/// Whether a link depends on where its page is. In a source a path of items (`Self::open`) is none.
fn is_relative(target: &str, is_page: bool) -> bool {
    let absolute = ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme));
    !absolute && (is_page || target.contains('/') || target.ends_with(".md") || target.ends_with(".rs"))
}

/// The anchor of a heading.
fn heading(line: &str) -> Option<String> {
    let title = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = title.trim().to_lowercase();
    Some(kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect())
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
    fn a_published_page_has_no_link_that_leads_nowhere_there() {
        let rule = published_pages_have_no_dead_links;
        let package = |page: &str, source: &str| {
            let manifest = "[package]\nname = \"a\"\n";
            rule(&tree(&[("x/a/Cargo.toml", manifest), ("x/a/README.md", page), ("x/a/src/lib.rs", source)])).len()
        };
        for good in ["[a](https://example.org/b)", "# The end\n[a](#the-end)", "```\n[a](b)\n```", "`Worker`, or [b]"] {
            assert_eq!(package(good, ""), 0, "{good}");
        }
        for bad in ["[a](../b.md)", "[a](LICENSE-MIT)", "[a](#the-end)", "[a]: docs/b.md"] {
            assert_eq!(package(bad, ""), 1, "{bad}");
        }
        assert_eq!(package("", "/// [a](Self::b), [c](crate#d), [e](https://example.org)\nlet a = \"[b](c/d)\";\n"), 0);
        assert_eq!(package("", "//! [a](docs/b.md)\n    /// [c](d.rs)\n"), 2);
        assert!(!objects(rule, "a/README.md", "[a](b.md)"), "a page of no package");
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
