//! As much of SQL as the rules need: is it SQL, and what does it write?

use std::collections::BTreeSet;

/// Statements that read or write tables, or change them.
const TABLES: &[&str] = &[
    "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "WITH", "REPLACE", "MERGE", "TRUNCATE", "VALUES", "EXPLAIN",
    "VACUUM", "ATTACH", "ANALYZE", "LOCK", "CALL", "GRANT",
];

/// Statements that concern the session or the transaction only.
const SESSION: &[&str] = &["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "PRAGMA", "SET"];

/// What a lower-case statement goes on with. Prose that begins with the first word does not.
const LOWER: &[(&str, &[&str])] = &[
    ("select", &["from"]),
    ("insert", &["into"]),
    ("update", &["set"]),
    ("delete", &["from"]),
    ("create", &["table", "index", "view", "trigger", "unique"]),
    ("alter", &["table"]),
    ("drop", &["table", "index", "view", "trigger"]),
];

/// True for text that begins like a statement on tables.
pub(super) fn is_statement(text: &str) -> bool {
    let plain = without_comments(text);
    let words: Vec<&str> = plain.split_whitespace().collect();
    let Some((&first, rest)) = words.split_first() else {
        return false;
    };
    if TABLES.contains(&first) {
        // A lone keyword is a name, not a statement.
        return !rest.is_empty() || text.ends_with(' ');
    }
    LOWER.iter().any(|(word, next)| first == *word && rest.iter().take(64).any(|w| next.contains(w))) && rest.len() > 1
}

/// True for text that begins like session or transaction control.
pub(super) fn is_session(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or("");
    // A comma or another sign may follow in prose; `SET` alone is a word.
    SESSION.contains(&first) && (words.next().is_some() || first == "BEGIN" || first == "COMMIT")
}

/// The lines, from 1, of updates of one of the tables, and of inserts into it that update.
pub(super) fn updates_of(text: &str, tables: &[&str]) -> Vec<usize> {
    let words = words(text);
    let is_table = |at: usize| words.get(at).is_some_and(|w| tables.contains(&w.text.as_str()));
    let mut lines = Vec::new();
    let mut insert_into_table = false;
    for (at, word) in words.iter().enumerate() {
        match word.text.as_str() {
            ";" => insert_into_table = false,
            "into" => insert_into_table = is_table(after_schema(&words, at + 1)),
            "update" => {
                let at_table = after_schema(&words, after_modifiers(&words, at + 1));
                let by_conflict = insert_into_table && at > 0 && matches!(words[at - 1].text.as_str(), "do" | "key");
                if is_table(at_table) || by_conflict {
                    lines.push(word.line);
                }
            }
            _ => {}
        }
    }
    lines
}

/// What a script creates.
pub(super) struct Object {
    /// `table`, `view`, `function`, ...
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) line: usize,
    /// The words up to the end of the statement.
    pub(super) definition: Vec<String>,
}

/// Everything that a script creates, in order.
pub(super) fn created(text: &str) -> Vec<Object> {
    let mut objects = Vec::new();
    for statement in statements(text) {
        let at = |at: usize| statement.get(at).map_or("", |word| word.text.as_str());
        let kind = if at(1) == "unique" { 2 } else { 1 };
        if at(0) == "create" && !at(kind + 1).is_empty() {
            let definition = statement.iter().skip(kind + 2).map(|word| word.text.clone()).collect();
            objects.push(Object { kind: at(kind).to_owned(), name: at(kind + 1).to_owned(), line: statement[0].line, definition });
        }
    }
    objects
}

/// The tables that a script gives a replica identity.
pub(super) fn identified(text: &str) -> Vec<String> {
    let mut tables = Vec::new();
    for statement in statements(text) {
        let words: Vec<&str> = statement.iter().map(|word| word.text.as_str()).collect();
        if let ["alter", "table", table, "replica", "identity", ..] = words[..] {
            tables.push(table.to_owned());
        }
    }
    tables
}

/// The words of a script, each once.
pub(super) fn names(text: &str) -> BTreeSet<String> {
    words(text).into_iter().map(|word| word.text).collect()
}

fn statements(text: &str) -> Vec<Vec<Word>> {
    let mut statements = vec![Vec::new()];
    for word in words(text) {
        if word.text == ";" {
            statements.push(Vec::new());
        } else if let Some(statement) = statements.last_mut() {
            statement.push(word);
        }
    }
    statements
}

/// A word of SQL in lower case and without quotes; a sign is a word of its own.
struct Word {
    line: usize,
    text: String,
}

/// Skips `ONLY` of PostgreSQL and `OR ROLLBACK` and the like of SQLite.
fn after_modifiers(words: &[Word], at: usize) -> usize {
    match words.get(at).map(|w| w.text.as_str()) {
        Some("only") => at + 1,
        Some("or") => at + 2,
        _ => at,
    }
}

fn after_schema(words: &[Word], at: usize) -> usize {
    let is_dot = words.get(at + 1).is_some_and(|w| w.text == ".");
    if is_dot { at + 2 } else { at }
}

fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    for (index, line) in without_comments(text).lines().enumerate() {
        let mut word = String::new();
        for c in line.chars().chain([' ']) {
            if c.is_alphanumeric() || c == '_' {
                word.extend(c.to_lowercase());
                continue;
            }
            if !word.is_empty() {
                words.push(Word { line: index + 1, text: std::mem::take(&mut word) });
            }
            // Quotes of names say nothing here.
            if !c.is_whitespace() && !"\"`[]".contains(c) {
                words.push(Word { line: index + 1, text: c.to_string() });
            }
        }
    }
    words
}

/// The text with comments blanked, line by line the same.
pub(super) fn without_comments(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    let mut quoted = false;
    while let Some(c) = rest.chars().next() {
        let comment = if quoted {
            None
        } else if rest.starts_with("--") {
            Some(rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            Some(rest.find("*/").map_or(rest.len(), |end| end + 2))
        } else {
            None
        };
        if let Some(end) = comment {
            let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
            plain.extend(rest[..end].chars().map(blank));
            rest = &rest[end..];
        } else {
            quoted ^= c == '\'';
            plain.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIN: &[&str] = &["tickr_ready", "tickr_scheduled"];

    #[test]
    fn statements_are_told_from_prose() {
        for sql in ["SELECT 1", "\n  -- why\n  DELETE FROM x", "insert into t values (1)", "select a from b"] {
            assert!(is_statement(sql), "{sql}");
        }
        for prose in ["update the schema with tickr_migrations", "select", "DELETE", "create a worker first", "BEGIN IMMEDIATE", ""] {
            assert!(!is_statement(prose), "{prose}");
        }
    }

    #[test]
    fn session_control_is_told_from_prose() {
        assert!(is_session("PRAGMA data_version"));
        assert!(is_session("COMMIT"));
        assert!(!is_session("SET"));
        assert!(!is_session("Begins a transaction"));
    }

    #[test]
    fn updates_are_found_whatever_their_spelling() {
        for sql in [
            "update tickr_ready set a = 1",
            "WITH x AS (\nUPDATE\n  ONLY public.\"tickr_scheduled\" SET a = 1)",
            "UPDATE OR IGNORE /* TEMPLATE: schema */tickr_ready SET a = 1",
            "INSERT INTO tickr_ready (a) VALUES (1) ON CONFLICT DO UPDATE SET a = 1",
            "INSERT INTO `tickr_ready` (a) VALUES (1) ON DUPLICATE KEY UPDATE a = 1",
        ] {
            assert_eq!(updates_of(sql, THIN).len(), 1, "{sql}");
        }
    }

    #[test]
    fn other_uses_of_the_tables_are_no_updates() {
        for sql in [
            "SELECT 1 FROM tickr_ready FOR UPDATE SKIP LOCKED",
            "INSERT INTO tickr_ready (a) SELECT 1; UPDATE tickr_workers SET a = 1",
            "UPDATE tickr_ready_floor SET a = 1",
            "-- never UPDATE tickr_ready\nSELECT 1",
            "INSERT INTO tickr_workers (a) VALUES (1) ON CONFLICT DO UPDATE SET a = 1",
        ] {
            assert!(updates_of(sql, THIN).is_empty(), "{sql}");
        }
    }

    #[test]
    fn a_comment_sign_in_a_string_is_none() {
        assert_eq!(without_comments("select '--' -- x"), "select '--'     ");
    }
}
