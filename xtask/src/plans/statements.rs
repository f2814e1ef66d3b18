//! The statements on disk, and the plans beside them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cases::{CASES, Case, Prelude};
use super::plan::Plan;
use crate::shell::Workspace;

/// The folder with the preludes, which are no statements of their own.
const PRELUDES: &str = "prelude";

/// Behind the title of a plan that was made with few rows.
const LITTLE: &str = ", on little data";

/// Texts by their names, such as `claim/take`.
#[derive(Debug)]
pub(super) struct Statements {
    folder: PathBuf,
    texts: BTreeMap<String, String>,
}

impl Statements {
    /// Reads all, each of which must have a case, and each case its statement.
    pub(super) fn read(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.root().join("crates/tickr-sql/sql/postgres");
        let mut texts = BTreeMap::new();
        for noun in names(&folder)? {
            for file in names(&folder.join(&noun)).unwrap_or_default() {
                if let Some(name) = file.strip_suffix(".sql") {
                    let path = folder.join(&noun).join(&file);
                    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
                    texts.insert(format!("{noun}/{name}"), text);
                }
            }
        }
        let statements = Self { folder, texts };
        // Partitions are of the other layout, and looked for in the catalogue only.
        let has_no_plan = |name: &&String| name.starts_with(PRELUDES) || name.starts_with("partition/");
        for name in statements.texts.keys().filter(|name| !has_no_plan(name)) {
            if !CASES.iter().any(|case| case.statement == name) {
                bail!("{name}.sql has no place in CASES of xtask's plans, which says how the library sends it");
            }
        }
        Ok(statements)
    }

    pub(super) fn text(&self, case: &Case) -> Result<&str> {
        self.get(case.statement)
    }

    pub(super) fn prelude(&self, prelude: Prelude) -> Result<&str> {
        self.get(&format!("{PRELUDES}/{}", prelude.name()))
    }

    fn get(&self, name: &str) -> Result<&str> {
        self.texts.get(name).map(String::as_str).with_context(|| format!("there is no {name}.sql in {}", self.folder.display()))
    }

    /// The file with the plans of a statement.
    pub(super) fn plan_file(&self, case: &Case) -> PathBuf {
        self.folder.join(format!("{}.plan.txt", case.statement))
    }

    /// The file with the figures of all.
    pub(super) fn summary_file(&self) -> PathBuf {
        self.folder.join("PLANS.md")
    }
}

/// The file with the plans of a statement.
#[derive(Debug)]
pub(super) struct StoredPlans {
    /// The major version of the server that made them.
    pub(super) major: String,
    text: String,
}

impl StoredPlans {
    /// Begins the file.
    pub(super) fn header(major: u32) -> String {
        format!("-- PostgreSQL {major}; written by cargo xtask plans.\n")
    }

    /// A plan for the file, and that on little data if it is another.
    pub(super) fn section(prelude: Prelude, large: &str, small: &str) -> String {
        let title = |data: &str, plan: &str| format!("\n-- prelude/{}.sql{data}\n{plan}", prelude.name());
        let same = Plan::parse(large).shape() == Plan::parse(small).shape();
        title("", large) + &if same { String::new() } else { title(LITTLE, small) }
    }

    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("could not read {}; cargo xtask plans writes it", path.display()))?;
        let major = text.strip_prefix("-- PostgreSQL ").and_then(|rest| rest.split(';').next()).unwrap_or_default().to_owned();
        Ok(Self { major, text })
    }

    /// The plan on little data.
    pub(super) fn small(&self, prelude: Prelude) -> &str {
        let section = |data: &str| self.text.split_once(&format!("\n-- prelude/{}.sql{data}\n", prelude.name()));
        let (_, rest) = section(LITTLE).or(section("")).unwrap_or_default();
        rest.split("\n-- ").next().unwrap_or(rest)
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    let mut names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_on_little_data_is_stored_where_it_is_another() {
        let (free, indexed) = (Prelude::Free, Prelude::Indexed);
        let text = StoredPlans::header(15)
            + &StoredPlans::section(free, "Limit\n", "Limit\n")
            + &StoredPlans::section(indexed, "Result\n", "Sort\n  ->  Result\n");
        let stored = StoredPlans { major: "15".to_owned(), text };
        assert_eq!(stored.small(free).trim_end(), "Limit");
        assert_eq!(stored.small(indexed).trim_end(), "Sort\n  ->  Result");
    }
}
