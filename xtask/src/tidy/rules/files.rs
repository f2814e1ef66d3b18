//! What holds for single files: their names, their length, what must not be left in them.

use super::{ADAPTERS, is_test_file};
use crate::tidy::Finding;
use crate::tidy::sql;
use crate::tidy::tree::Tree;

/// The modules that an adapter may have, each for one thing: who knows one adapter finds everything in
/// the next. A module may become a folder of the same name. A new name is added here, with its reason.
const ADAPTER_MODULES: &[(&str, &str)] = &[
    ("lib", "the table of contents"),
    ("config", "what a user may set"),
    ("connection", "opens connections and sets up their sessions"),
    ("tls", "encrypts connections, and says whom they trust"),
    ("file", "notices that the database file was replaced, where there is one"),
    ("executor", "threads that own a connection, where the driver blocks"),
    ("deadline", "ends the wait for a thread that does not answer, where the driver blocks"),
    ("door", "the only place that reads a clock or starts a thread"),
    ("storage", "the Storage trait, method by method"),
    ("admin", "the Admin trait"),
    ("pause", "pauses of types and of everything"),
    ("scope", "what every operation needs inside its transaction"),
    ("enqueue", "writes messages"),
    ("singles", "lets single messages share a statement"),
    ("claim", "leases messages to a worker"),
    ("sequence", "repairs sequences that are behind their rows"),
    ("settle", "records outcomes"),
    ("worker", "registers, keeps and retires workers"),
    ("upkeep", "promotes and reclaims"),
    ("purge", "deletes what its retention has passed"),
    ("lock", "named leases"),
    ("journal", "reads claims and settlements"),
    ("stats", "reads the thin tables for numbers"),
    ("lookup", "answers what operators ask"),
    ("act", "does what operators order"),
    ("audit", "compares the tables with the invariants"),
    ("tx", "EnqueueIn for the driver's transactions"),
    ("application", "runs transactions of the application, where the driver blocks"),
    ("row", "maps rows to the types of the core"),
    ("error", "maps native codes to kinds, in one table"),
    ("notifier", "wakes workers in other processes"),
    ("sight", "sees that somebody writes, where a file is the database"),
    ("catch_up", "decides how far back a scan begins"),
    ("promotion", "remembers what was promoted"),
    ("floor", "where claims begin to look"),
    ("partition", "makes and drops partitions"),
    ("migrate", "brings the schema up to date"),
    ("schema", "finds out in which schema the tables are"),
];

/// Folders in which files are kept short.
const SHORT: &[&str] = &["crates", "migrations/src", "conformance/src", "xtask/src"];

/// From here on a file is to be split soon.
const LINES_AIM: usize = 600;

/// From here on it must be.
const LINES_MAX: usize = 700;

/// Macros that stand for code which is missing or temporary.
const LEFT_MACROS: &[&str] = &["todo", "unimplemented", "dbg"];

/// Adapters have the same file names where they have the file.
pub(super) fn adapters_have_the_same_files(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in ADAPTERS {
        let src = format!("{folder}/src");
        for (path, _) in tree.rust(&src) {
            let name = &path[src.len() + 1..];
            let module = name.split('/').next().unwrap_or(name);
            let module = module.strip_suffix(".rs").unwrap_or(module);
            if !ADAPTER_MODULES.iter().any(|(allowed, _)| *allowed == module) {
                let message = format!("no other adapter has a module `{module}`: see ADAPTER_MODULES of xtask's tidy");
                findings.push(Finding::new(path, 1, message));
            }
        }
    }
    findings
}

/// A file that has grown too long holds a second noun.
pub(super) fn files_are_short(tree: &Tree) -> Vec<Finding> {
    longer_than(tree, LINES_MAX)
}

/// Tells of files that are about to be too long.
pub(super) fn files_become_long(tree: &Tree) -> Vec<Finding> {
    longer_than(tree, LINES_AIM)
}

fn longer_than(tree: &Tree, lines: usize) -> Vec<Finding> {
    SHORT
        .iter()
        .flat_map(|folder| tree.rust(folder))
        .filter(|(path, source)| path.contains("/src/") && source.lines() > lines)
        .map(|(path, source)| {
            let message = format!("{} lines, more than {lines} (at most {LINES_MAX}): split it", source.lines());
            Finding::new(path, lines + 1, message)
        })
        .collect()
}

/// No marker of unfinished work outside of tests.
pub(super) fn nothing_is_left_to_do(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, source) in tree.rust("").filter(|(path, _)| !is_test_file(path)) {
        for (line, code) in source.code() {
            for name in LEFT_MACROS.iter().filter(|name| calls_macro(code, name)) {
                findings.push(Finding::new(path, line, format!("{name}! is left here")));
            }
        }
        for comment in source.comments() {
            if let Some(mark) = left_mark(&comment.text) {
                findings.push(Finding::new(path, comment.line, format!("{mark} is left here")));
            }
        }
    }
    for (path, text) in tree.sql("") {
        for (index, line) in text.lines().enumerate() {
            let comment = sql::without_comments(line) != line;
            if let Some(mark) = left_mark(line).filter(|_| comment) {
                findings.push(Finding::new(path, index + 1, format!("{mark} is left here")));
            }
        }
    }
    findings
}

fn calls_macro(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        !code[..at].ends_with(is_word) && code[at + name.len()..].starts_with('!')
    })
}

/// The marker, as a word, that a comment holds. Spelled in parts, because this is one too.
fn left_mark(comment: &str) -> Option<&'static str> {
    const MARKS: &[&str] = &[concat!("FIX", "ME"), concat!("XX", "X")];
    let mut words = comment.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.find_map(|word| MARKS.iter().find(|&&mark| mark == word).copied())
}

/// Nothing depends on, or tells of, the machine on which it was written.
pub(super) fn no_path_of_a_machine(tree: &Tree) -> Vec<Finding> {
    const FOLDERS: &[&str] = &["home", "root", "work", "Users"];
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        for (index, line) in text.lines().enumerate() {
            for folder in FOLDERS.iter().filter(|folder| names_path(line, folder)) {
                let message = format!("a path of a machine: /{folder}/...");
                findings.push(Finding::new(path, index + 1, message));
            }
        }
    }
    findings
}

/// True if the line has an absolute path in the folder: not a part of an address, nor a relative one.
fn names_path(line: &str, folder: &str) -> bool {
    let path = format!("/{folder}/");
    line.match_indices(&path).any(|(at, _)| {
        let is_inside = |c: char| c.is_alphanumeric() || "._-~}*)/".contains(c);
        // `sqlite:///path` and `file://` name a machine's path too.
        !line[..at].ends_with(is_inside) || line[..at].ends_with("://")
    })
}

#[cfg(test)]
mod tests {
    use super::super::objects;
    use super::*;

    #[test]
    fn an_adapters_modules_have_known_names() {
        let rule = adapters_have_the_same_files;
        assert!(objects(rule, "crates/tickr-sqlite/src/helpers.rs", ""));
        assert!(!objects(rule, "crates/tickr-sqlite/src/claim.rs", ""));
        assert!(!objects(rule, "crates/tickr-sqlite/src/storage/anything.rs", ""));
        assert!(!objects(rule, "crates/tickr-sqlite/tests/it/main.rs", ""));
    }

    #[test]
    fn long_files_are_found_with_their_count() {
        let path = "crates/a/src/lib.rs";
        assert!(!objects(files_are_short, path, &"\n".repeat(LINES_MAX)));
        let tree = super::super::tree(&[(path, &"\n".repeat(LINES_MAX + 1))]);
        assert!(files_are_short(&tree)[0].message.starts_with("701 lines"));
        assert!(objects(files_become_long, path, &"\n".repeat(LINES_AIM + 1)));
        assert!(!objects(files_are_short, "crates/a/tests/it.rs", &"\n".repeat(900)));
    }

    #[test]
    fn unfinished_work_is_found_outside_of_tests() {
        let rule = nothing_is_left_to_do;
        let path = "crates/a/src/lib.rs";
        assert!(objects(rule, path, "fn f() { todo!() }"));
        assert!(objects(rule, path, &format!("// {}: later", concat!("FIX", "ME"))));
        assert!(!objects(rule, path, "// todo!() is refused\nf(\"dbg!\"); my_todo!()"));
        assert!(!objects(rule, path, "#[cfg(test)]\nmod tests { fn f() { todo!() } }"));
        assert!(!objects(rule, "crates/a/tests/it.rs", "fn f() { todo!() }"));
        assert!(objects(rule, "a.sql", &format!("-- {}", concat!("XX", "X"))));
    }

    #[test]
    fn paths_of_machines_are_found_everywhere() {
        let rule = no_path_of_a_machine;
        let path = |start: &str| format!("see {start}/{}/me/x", "home");
        assert!(objects(rule, "README.md", &path("")));
        assert!(objects(rule, "a.sh", &path("sqlite://")));
        assert!(!objects(rule, "README.md", &path("https://example.org")));
        assert!(!objects(rule, "README.md", &path("~")));
    }
}
