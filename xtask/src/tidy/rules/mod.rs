//! The rules, by what they look at.

mod files;
mod growth;
mod layers;
mod packages;
mod statements;

use super::Finding;
use super::tree::Tree;

/// A rule and its name, which findings show.
pub(super) struct Rule {
    /// The name of the function.
    pub(super) name: &'static str,
    /// Lists what breaks the rule.
    pub(super) check: fn(&Tree) -> Vec<Finding>,
}

/// Names each rule after its function.
macro_rules! rules {
    ($($module:ident::$function:ident),* $(,)?) => {
        &[$(Rule { name: stringify!($function), check: $module::$function }),*]
    };
}

/// Every rule whose findings fail the check.
pub(super) const ALL: &[Rule] = rules![
    statements::core_holds_no_sql,
    statements::adapters_hold_no_sql,
    statements::no_update_of_ready,
    statements::statement_files_begin_with_a_header,
    statements::tables_have_a_replica_identity,
    statements::grants_name_every_object,
    layers::core_has_no_driver,
    layers::statements_and_migrations_do_no_io,
    layers::adapters_are_listed,
    layers::adapters_depend_on_core,
    layers::dependencies_point_down,
    layers::upward_dev_dependencies_have_no_version,
    packages::packages_take_the_workspace_lints,
    packages::published_packages_describe_themselves,
    packages::published_packages_carry_their_licences,
    packages::published_pages_have_no_dead_links,
    packages::one_integration_test_binary_per_package,
    growth::structs_can_grow,
    files::adapters_have_the_same_files,
    files::files_are_short,
    files::nothing_is_left_to_do,
    files::no_path_of_a_machine,
];

/// Rules whose findings are shown only.
pub(super) const ADVICE: &[Rule] = rules![files::files_become_long];

/// The folders of adapters: a new one is added here when it is begun.
const ADAPTERS: &[&str] =
    &["crates/tickr-sqlite", "crates/tickr-postgres", "crates/tickr-mysql", "crates/tickr-sqlx", "crates/tickr-cockroach"];

/// Packages that talk to a database.
const DRIVERS: &[&str] = &[
    "deadpool-postgres",
    "diesel",
    "libsqlite3-sys",
    "mysql",
    "mysql_async",
    "postgres",
    "rusqlite",
    "sea-orm",
    "sqlx",
    "sqlx-core",
    "tokio-postgres",
    "tokio-rusqlite",
];

/// True for a source that only tests compile.
fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs")
}

/// Makes a tree for a test.
#[cfg(test)]
fn tree(files: &[(&str, &str)]) -> Tree {
    let files = files.iter();
    Tree::new(files.map(|&(path, text)| (path.to_owned(), text.to_owned()))).unwrap()
}

/// Tells whether a rule finds something in a tree of one file.
#[cfg(test)]
fn objects(check: fn(&Tree) -> Vec<Finding>, path: &str, text: &str) -> bool {
    !check(&tree(&[(path, text)])).is_empty()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rules_have_names_of_their_own() {
        let names: BTreeSet<_> = ALL.iter().chain(ADVICE).map(|rule| rule.name).collect();
        assert_eq!(names.len(), ALL.len() + ADVICE.len());
    }

    #[test]
    fn an_empty_tree_breaks_no_rule() {
        for rule in ALL {
            assert_eq!((rule.check)(&tree(&[])), [], "{}", rule.name);
        }
    }
}
