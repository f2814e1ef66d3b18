//! Mutations that no test can notice, with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use toml::{Table, Value};

/// The file, from the root of the workspace.
pub(crate) const FILE: &str = "crates/tickr-mutants/equivalent.toml";

/// The reason by the description of the mutation.
pub(crate) fn read(root: &Path) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(root.join(FILE)).with_context(|| format!("could not read {FILE}"))?;
    parse(&text)
}

fn parse(text: &str) -> Result<BTreeMap<String, String>> {
    let table: Table = text.parse().with_context(|| format!("{FILE} is not TOML"))?;
    let entries = table.get("equivalent").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let entry = |entry: &Value| {
        let text = |name| entry.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty()).map(str::to_owned);
        text("mutation").zip(text("reason")).with_context(|| format!("{FILE}: an entry lacks `mutation` or `reason`: {entry:?}"))
    };
    entries.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_complete() {
        read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))).unwrap();
    }

    #[test]
    fn an_entry_without_a_reason_is_refused() {
        assert!(parse("[[equivalent]]\nmutation = \"a\"\n").is_err());
        assert_eq!(parse("[[equivalent]]\nmutation = \"a\"\nreason = \"b\"\n").unwrap().len(), 1);
    }
}
