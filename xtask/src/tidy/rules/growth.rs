//! What may grow without breaking those who use it.

use super::is_test_file;
use crate::tidy::Finding;
use crate::tidy::rust::Source;
use crate::tidy::tree::Tree;

/// Public structs with public fields that are complete, each with the reason.
const COMPLETE: &[(&str, &str)] = &[
    ("Case", "written by the macro of the suite, in the packages of adapters"),
    ("Batch", "an extractor, taken apart by a pattern"),
    ("Json", "an extractor, taken apart by a pattern"),
    ("Prost", "an extractor, taken apart by a pattern"),
    ("Raw", "an extractor, taken apart by a pattern"),
    ("State", "an extractor, taken apart by a pattern"),
    ("Salvaged", "made by each reader of rows; a part that it forgets must not compile"),
];

/// A struct that everybody can write with all its fields cannot get another one.
pub(super) fn structs_can_grow(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, _) in tree.packages().filter(|(_, manifest)| manifest.is_publishable()) {
        for (path, source) in tree.rust(&format!("{folder}/src")).filter(|(path, _)| !is_test_file(path)) {
            for (line, name) in closed_structs(source) {
                if !COMPLETE.iter().any(|(complete, _)| *complete == name) {
                    let message = format!(
                        "{name} has public fields: mark it #[non_exhaustive] and give it a constructor, or name it in COMPLETE of xtask's tidy"
                    );
                    findings.push(Finding::new(path, line, message));
                }
            }
        }
    }
    findings
}

/// Public structs with a public field and without `#[non_exhaustive]`, as rustfmt sets them.
fn closed_structs(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut can_grow = false;
    // The struct whose fields are being read: its line, its name and its indentation.
    let mut open: Option<(usize, String, usize)> = None;
    for (line, code) in source.code() {
        let text = code.trim();
        let indent = code.len() - code.trim_start().len();
        if let Some((at, name, outer)) = &open {
            if text.starts_with("pub ") {
                found.push((*at, name.clone()));
                open = None;
            } else if !text.is_empty() && indent <= *outer {
                open = None;
            }
            continue;
        }
        if let Some(rest) = text.strip_prefix("pub struct ") {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !can_grow && rest.ends_with('{') {
                open = Some((line, name, indent));
            } else if !can_grow && rest.contains("(pub ") {
                found.push((line, name));
            }
        }
        // An attribute counts for the item that follows it; comments and other attributes may stand between.
        if text.starts_with("#[") {
            can_grow |= text == "#[non_exhaustive]";
        } else if !text.is_empty() {
            can_grow = false;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    fn found(text: &str) -> Vec<Finding> {
        let manifest = "[package]\nname = \"tickr-core\"\nversion = \"0.1.0\"\n";
        structs_can_grow(&tree(&[("crates/tickr-core/Cargo.toml", manifest), ("crates/tickr-core/src/a.rs", text)]))
    }

    #[test]
    fn a_struct_that_cannot_grow_is_found() {
        for text in [
            "pub struct A {\n    /// B.\n    pub b: u8,\n}\n",
            "#[derive(Debug)]\npub struct A<T>(pub T);\n",
            "pub struct A {\n    a: u8,\n    pub b: u8,\n}\n",
        ] {
            assert_eq!(found(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn an_attribute_counts_for_its_own_struct_only() {
        let twice = "#[non_exhaustive]\n#[derive(Debug)]\n/// A.\npub struct A {\n    pub b: u8,\n}\n\npub struct B {\n    pub b: u8,\n}\n";
        let found: Vec<_> = found(twice).into_iter().map(|finding| finding.line).collect();
        assert_eq!(found, [8]);
    }

    #[test]
    fn private_fields_private_structs_and_complete_ones_are_left_alone() {
        let text = "pub struct A {\n    b: u8,\n}\n\npub(crate) struct B {\n    pub c: u8,\n}\n\npub struct Raw(pub Bytes);\n";
        assert_eq!(found(text), []);
    }
}
