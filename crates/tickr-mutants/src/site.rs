//! A mutation and where it is.

use std::fmt;
use std::ops::Range;

/// How the text of a site is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// An expression by another one.
    Expression,
    /// A statement by nothing.
    Statement,
    /// A `return` at the beginning of a function.
    Entry,
    /// A part of an SQL statement.
    Sql,
}

/// One small change of the code.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// What the variable `TICKR_MUTANT` selects it by.
    pub(crate) id: u32,
    /// The part of the workspace, as reports call it.
    pub(crate) group: &'static str,
    /// The file, from the root of the workspace.
    pub(crate) file: String,
    /// The line, from 1.
    pub(crate) line: usize,
    /// The function; in SQL the line of the statement.
    pub(crate) place: String,
    /// The bytes that it replaces.
    pub(crate) range: Range<usize>,
    /// What stands there.
    pub(crate) original: String,
    /// What stands there instead.
    pub(crate) mutated: String,
    /// Tells equal changes of one function apart, from 1.
    pub(crate) ordinal: usize,
    pub(crate) edit: Edit,
}

impl Site {
    /// Describes the change without a line number, so that it stays the same when code around it changes.
    pub(crate) fn key(&self) -> String {
        let Self { file, place, .. } = self;
        let ordinal = if self.ordinal > 1 { format!(" #{}", self.ordinal) } else { String::new() };
        format!("{file} {place}: {}{ordinal}", self.change())
    }

    fn change(&self) -> String {
        let original = short(&self.original);
        match self.edit {
            Edit::Statement => format!("without `{original}`"),
            Edit::Entry => format!("`{}` at once", self.mutated),
            Edit::Sql if self.mutated.trim().is_empty() => format!("without `{original}`"),
            Edit::Expression | Edit::Sql => format!("`{original}` -> `{}`", short(&self.mutated)),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}: {}", self.file, self.line, self.place, self.change())
    }
}

/// One line, with its middle left out if it is long.
fn short(text: &str) -> String {
    const HALF: usize = 45;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= 2 * HALF {
        return text;
    }
    let part = |part: &[char]| part.iter().collect::<String>();
    format!("{}...{}", part(&chars[..HALF]), part(&chars[chars.len() - HALF..]))
}
