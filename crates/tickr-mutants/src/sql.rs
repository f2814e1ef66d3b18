//! Finds what can be changed in a file of SQL: by lines and words, because each predicate of our statements has a line of its own.

use std::ops::Range;

use crate::site::{Edit, Site};

/// Words that are exchanged wherever they stand.
const WORDS: &[(&str, &str)] = &[
    ("IS NOT NULL", "IS NULL"),
    ("NOT EXISTS", "EXISTS"),
    ("UNION ALL", "UNION"),
    ("least(", "greatest("),
    ("min(", "max("),
    (" OR ", " AND "),
    ("true", "false"),
    (" + ", " - "),
];

/// Comparisons, longer signs first. They are exchanged where a row is selected, not where a value is assigned.
const COMPARISONS: &[(&str, &str)] =
    &[(" <= ", " < "), (" >= ", " > "), (" <> ", " = "), (" < ", " <= "), (" > ", " >= "), (" = ", " <> ")];

/// Lines that are left out as a whole.
const LINES: &[&str] =
    &["FOR UPDATE", "FOR NO KEY UPDATE", "FOR KEY SHARE", "SKIP LOCKED", "LIMIT ", "ORDER BY ", "ON CONFLICT", "GROUP BY "];

/// How a line that selects rows begins.
const PREDICATES: &[&str] = &["WHERE ", "AND ", "OR ", "ON ", "JOIN ", "WHEN ", "LEFT JOIN ", "HAVING "];

/// All changes of a statement. Comments stay.
pub(crate) fn sites(group: &'static str, file: &str, text: &str) -> Vec<Site> {
    let mut sites = Vec::new();
    let mut start = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let code = line.split("--").next().unwrap_or(line).trim_end();
        let mut add = |range: Range<usize>, mutated: &str| {
            let range = start + range.start..start + range.end;
            let original = text[range.clone()].to_owned();
            let (file, mutated) = (file.to_owned(), mutated.to_owned());
            let place = format!("`{}`", code.trim_start());
            sites.push(Site { id: 0, group, file, line: index + 1, place, range, original, mutated, ordinal: 1, edit: Edit::Sql });
        };
        changes(code, &mut add);
        start += line.len();
    }
    sites
}

fn changes(code: &str, add: &mut impl FnMut(Range<usize>, &str)) {
    let indent = code.len() - code.trim_start().len();
    let words = &code[indent..];
    if words.is_empty() {
        return;
    }
    if LINES.iter().any(|line| words.starts_with(line)) && is_balanced(words) {
        add(indent..code.len(), "");
    }
    if (words.starts_with("AND ") || words.starts_with("OR ")) && is_balanced(words) {
        add(indent..code.len(), "");
    }
    if let Some(predicate) = words.strip_prefix("WHERE ").filter(|predicate| is_balanced(predicate)) {
        add(code.len() - predicate.len()..code.len(), "true");
    }
    if let Some(rest) = words.strip_prefix("AND NOT ").filter(|rest| !rest.starts_with("EXISTS")) {
        add(code.len() - rest.len() - 4..code.len() - rest.len(), "");
    }
    if PREDICATES.iter().any(|begin| words.starts_with(begin)) {
        exchange(code, COMPARISONS, add);
    }
    exchange(code, WORDS, add);
    numbers(code, add);
}

/// True if every parenthesis of the line is closed on it.
fn is_balanced(words: &str) -> bool {
    let mut depth = 0;
    for c in words.chars() {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

/// Exchanges each of the words that is in the line, in both directions where both are listed.
fn exchange(code: &str, pairs: &[(&str, &str)], add: &mut impl FnMut(Range<usize>, &str)) {
    let mut taken: Vec<Range<usize>> = Vec::new();
    let both = pairs.iter().flat_map(|&(one, other)| [(one, other), (other, one)]);
    for (word, other) in both {
        for (at, _) in code.match_indices(word) {
            let range = at..at + word.len();
            let begins_inside =
                at > 0 && word.starts_with(char::is_alphabetic) && code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let ends_inside =
                word.ends_with(char::is_alphabetic) && code[range.end..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
            let overlaps = taken.iter().any(|other| other.start < range.end && range.start < other.end);
            if !begins_inside && !ends_inside && !overlaps {
                taken.push(range.clone());
                add(range, other);
            }
        }
    }
}

/// One more than each number that is a value: not a parameter, nor a part of a name, a type or a text.
fn numbers(code: &str, add: &mut impl FnMut(Range<usize>, &str)) {
    let mut inside = false;
    let bytes = code.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        inside ^= bytes[at] == b'\'';
        let end = at + code[at..].bytes().take_while(u8::is_ascii_digit).count();
        if end == at {
            at += 1;
            continue;
        }
        let before = code[..at].chars().next_back();
        let is_value = before.is_none_or(|c| c == ' ' || c == '(') && code[end..].chars().next().is_none_or(|c| " ),".contains(c));
        if let Ok(number) = code[at..end].parse::<u64>()
            && is_value
            && !inside
        {
            add(at..end, &number.saturating_add(1).to_string());
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutants(text: &str) -> Vec<String> {
        let with = |site: Site| format!("{}{}{}", &text[..site.range.start], site.mutated, &text[site.range.end..]);
        sites("sql", "a.sql", text).into_iter().map(with).collect()
    }

    #[test]
    fn a_predicate_is_dropped_and_its_signs_are_exchanged() {
        let mutants = mutants("WHERE a = $1\n  AND b <= $2");
        let of_where = ["WHERE true\n  AND b <= $2", "WHERE a <> $1\n  AND b <= $2"];
        let of_and = ["WHERE a = $1\n  ", "WHERE a = $1\n  AND b < $2", "WHERE a = $1\n  OR b <= $2"];
        assert_eq!(mutants, [&of_where[..], &of_and].concat());
    }

    #[test]
    fn assignments_and_parameters_stay() {
        assert_eq!(mutants("SET a = $1, b = x -- 1 = 1"), Vec::<String>::new());
    }

    #[test]
    fn a_predicate_over_several_lines_is_not_torn() {
        assert_eq!(mutants("AND a IN (\n"), Vec::<String>::new());
    }

    #[test]
    fn numbers_that_are_values_grow() {
        assert_eq!(mutants("SELECT 0, '7', a1"), ["SELECT 1, '7', a1"]);
    }
}
