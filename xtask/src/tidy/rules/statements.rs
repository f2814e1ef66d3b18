//! Where SQL may stand, and what it may not do.

use std::collections::BTreeSet;

use super::{ADAPTERS, is_test_file};
use crate::tidy::Finding;
use crate::tidy::sql;
use crate::tidy::tree::Tree;

/// Tables whose rows are inserted and deleted, never updated (PROTOCOL.md, I5).
const THIN: &[&str] = &["tickr_ready", "tickr_scheduled"];

/// The core runs on any storage: it knows no SQL, in its tests neither.
pub(super) fn core_holds_no_sql(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, source) in tree.rust("crates/tickr-core") {
        for literal in source.literals() {
            if sql::is_statement(&literal.text) || sql::is_session(&literal.text) {
                findings.push(Finding::new(path, literal.line, "SQL in tickr-core: it belongs into an adapter or tickr-sql"));
            }
        }
    }
    for (path, _) in tree.sql("crates/tickr-core") {
        findings.push(Finding::new(path, 1, "a statement file in tickr-core"));
    }
    findings
}

/// SQL belongs to the database, not to the driver: an adapter binds, calls and maps.
pub(super) fn adapters_hold_no_sql(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let sources = ADAPTERS.iter().flat_map(|folder| tree.rust(folder));
    for (path, source) in sources.filter(|(path, _)| !is_test_file(path)) {
        for literal in source.product_literals() {
            if sql::is_statement(&literal.text) {
                findings.push(Finding::new(
                    path,
                    literal.line,
                    "a statement in an adapter: put it into a .sql file of tickr-sql \
                     (session and transaction control may stay)",
                ));
            }
        }
    }
    for (path, _) in ADAPTERS.iter().flat_map(|folder| tree.sql(folder)) {
        findings.push(Finding::new(path, 1, "a statement file in an adapter"));
    }
    findings
}

/// Rows of the thin tables are inserted and deleted, never updated: claims delete by position.
pub(super) fn no_update_of_ready(tree: &Tree) -> Vec<Finding> {
    const MESSAGE: &str = "an update of ready or scheduled: delete and insert (PROTOCOL.md, I5)";
    let mut findings = Vec::new();
    for (path, text) in tree.sql("") {
        for line in sql::updates_of(text, THIN) {
            findings.push(Finding::new(path, line, MESSAGE));
        }
    }
    for (path, source) in tree.rust("").filter(|(path, _)| !is_test_file(path)) {
        for literal in source.product_literals() {
            for line in sql::updates_of(&literal.text, THIN) {
                findings.push(Finding::new(path, literal.line + line - 1, MESSAGE));
            }
        }
    }
    findings
}

/// A statement says at its top what it does and on which index it relies.
pub(super) fn statement_files_begin_with_a_header(tree: &Tree) -> Vec<Finding> {
    tree.sql("crates/tickr-sql")
        .filter(|(_, text)| !text.starts_with("--"))
        .map(|(path, _)| Finding::new(path, 1, "begins without a `--` comment"))
        .collect()
}

/// The folder of PostgreSQL's schema, and what a role for services is granted there.
const SCHEMA: &str = "migrations/postgres";
const GRANTS: &str = "migrations/postgres/runtime_role.sql";

/// Where a publication covers all tables, PostgreSQL refuses updates and deletes of a table without a replica identity: a primary
/// key, or one that is given to it.
pub(super) fn tables_have_a_replica_identity(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut keyed, mut identified) = (BTreeSet::new(), BTreeSet::new());
    for (_, text) in tree.sql(SCHEMA) {
        identified.extend(sql::identified(text));
    }
    for (path, text) in tree.sql(SCHEMA) {
        for table in sql::created(text).into_iter().filter(|object| object.kind == "table") {
            let words: Vec<&str> = table.definition.iter().map(String::as_str).collect();
            let follows = |pair: &[&str]| words.windows(pair.len()).any(|window| window == pair);
            let has_key = follows(&["primary", "key"])
                || words.windows(2).any(|pair| pair[0] == "like" && keyed.contains(pair[1]) && !follows(&["excluding", "indexes"]))
                || words.windows(2).any(|pair| pair[0] == "of" && keyed.contains(pair[1]));
            // A table that takes another one's place gets its name, and is looked at under that.
            if has_key {
                keyed.insert(table.name.replace("tickr_new_", "tickr_"));
            } else if !identified.contains(&table.name.replace("tickr_new_", "tickr_")) {
                let message =
                    format!("{} has neither a primary key nor a replica identity: nobody can update it where it is published", table.name);
                findings.push(Finding::new(path, table.line, message));
            }
        }
    }
    findings
}

/// The role that services run as is granted every object of the schema; partitions are reached through their table.
pub(super) fn grants_name_every_object(tree: &Tree) -> Vec<Finding> {
    let Some((_, grants)) = tree.sql(SCHEMA).find(|(path, _)| *path == GRANTS) else { return Vec::new() };
    let granted = sql::names(grants);
    let mut findings = Vec::new();
    for (path, text) in tree.sql(SCHEMA) {
        for object in sql::created(text) {
            let is_partition = object.definition.first().is_some_and(|word| word == "partition") || object.name.starts_with("tickr_new_");
            if !is_partition && object.kind != "index" && !granted.contains(&object.name) {
                findings.push(Finding::new(path, object.line, format!("{GRANTS} grants nothing on the {} {}", object.kind, object.name)));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::objects;
    use super::*;

    #[test]
    fn tables_that_could_not_be_published_are_found() {
        let path = "migrations/postgres/0001_initial.sql";
        let rule = tables_have_a_replica_identity;
        assert!(objects(rule, path, "CREATE TABLE tickr_a (id uuid);"));
        assert!(!objects(rule, path, "CREATE TABLE tickr_a (id uuid PRIMARY KEY);"));
        assert!(!objects(rule, path, "CREATE TABLE tickr_a (id uuid);\nALTER TABLE tickr_a REPLICA IDENTITY FULL;"));
        let partitioned = "CREATE TABLE tickr_a (id uuid PRIMARY KEY);\nCREATE TABLE tickr_new_a (LIKE tickr_a INCLUDING ALL) PARTITION BY \
                           RANGE (id);\nCREATE TABLE tickr_a_default PARTITION OF tickr_a DEFAULT;";
        assert!(!objects(rule, path, partitioned));
        assert!(objects(rule, path, &partitioned.replace(" PRIMARY KEY", "")));
        let identity = "ALTER TABLE tickr_a REPLICA IDENTITY FULL;";
        assert!(objects(rule, path, &format!("{}{identity}", partitioned.replace(" PRIMARY KEY", ""))), "the default partition has none");
    }

    #[test]
    fn objects_that_the_runtime_role_may_not_use_are_found() {
        let (grants, schema) = ("GRANT SELECT ON tickr_a TO app;", "migrations/postgres/0001_initial.sql");
        let found = |text: &str| !grants_name_every_object(&super::super::tree(&[(GRANTS, grants), (schema, text)])).is_empty();
        assert!(!found("CREATE TABLE tickr_a (id uuid);\nCREATE INDEX tickr_a_id ON tickr_a (id);"));
        for object in ["TABLE tickr_b (id uuid)", "VIEW tickr_b AS SELECT 1", "FUNCTION tickr_b() RETURNS int", "SEQUENCE tickr_b"] {
            assert!(found(&format!("CREATE {object};")), "{object}");
        }
    }

    #[test]
    fn sql_in_core_is_found_in_literals_only() {
        let path = "crates/tickr-core/src/a.rs";
        assert!(objects(core_holds_no_sql, path, "const A: &str = \"SELECT 1\";"));
        assert!(objects(core_holds_no_sql, path, "f(\"PRAGMA user_version\")"));
        assert!(!objects(core_holds_no_sql, path, "// \"SELECT 1\"\nf(\"select a message\")"));
        assert!(!objects(core_holds_no_sql, "crates/tickr-corex/src/a.rs", "\"SELECT 1\""));
    }

    #[test]
    fn an_adapter_may_control_its_session() {
        let path = "crates/tickr-sqlite/src/tx.rs";
        assert!(!objects(adapters_hold_no_sql, path, "f(\"BEGIN IMMEDIATE\"); f(\"PRAGMA x\")"));
        assert!(objects(adapters_hold_no_sql, path, "f(\"DELETE FROM tickr_locks\")"));
    }

    #[test]
    fn an_adapters_tests_may_use_sql() {
        let test = "#[cfg(test)]\nmod tests { const A: &str = \"CREATE TABLE a (b)\"; }";
        assert!(!objects(adapters_hold_no_sql, "crates/tickr-sqlite/src/tx.rs", test));
        let path = "crates/tickr-sqlite/tests/it/main.rs";
        assert!(!objects(adapters_hold_no_sql, path, "f(\"SELECT 1\")"));
    }

    #[test]
    fn updates_of_thin_tables_are_found_with_their_lines() {
        let path = "crates/tickr-sql/sql/sqlite/claim.sql";
        assert!(objects(no_update_of_ready, path, "-- x\nUPDATE tickr_ready SET seq = 1"));
        assert!(!objects(no_update_of_ready, path, "DELETE FROM tickr_ready"));
        let tree = super::super::tree(&[("a/src/b.rs", "\n\nf(\"\n update tickr_scheduled set a = 1\")")]);
        assert_eq!(no_update_of_ready(&tree)[0].line, 4);
    }

    #[test]
    fn a_statement_file_has_a_header() {
        let path = "crates/tickr-sql/sql/sqlite/claim.sql";
        assert!(objects(statement_files_begin_with_a_header, path, "SELECT 1"));
        assert!(!objects(statement_files_begin_with_a_header, path, "-- Claims.\nSELECT 1"));
    }
}
