//! The crate that the rewritten code calls to learn whether a mutation is selected.

use std::fmt::Write as _;

use crate::site::{Edit, Site};

/// Its manifest.
pub(crate) const MANIFEST: &str = "[package]\nname = \"tickr-mutant\"\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\n";

/// `TICKR_MUTANT` selects one mutation. `TICKR_MUTANT_REACHED` names a file to which the number of each mutation is appended when the
/// program first comes by, at once, because a test may be killed at any moment.
const SOURCE: &str = r#"
use std::env;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

struct State {
    selected: u32,
    reached: Option<File>,
}

static STATE: LazyLock<State> = LazyLock::new(|| State {
    selected: env::var("TICKR_MUTANT").ok().and_then(|id| id.parse().ok()).unwrap_or(0),
    reached: env::var_os("TICKR_MUTANT_REACHED").and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok()),
});

static SEEN: [AtomicBool; COUNT] = [const { AtomicBool::new(false) }; COUNT];

pub fn on(id: u32) -> bool {
    let state = &*STATE;
    if let Some(mut file) = state.reached.as_ref()
        && !SEEN[id as usize].swap(true, Ordering::Relaxed)
    {
        let _ = file.write_all(format!("{id}\n").as_bytes());
    }
    state.selected == id
}

/// A statement as the selected mutation has it, found by its text.
pub fn sql(text: &str) -> &str {
    STATEMENTS.iter().find(|(id, original, _)| *id == STATE.selected && *original == text).map_or(text, |(_, _, mutated)| mutated)
}

/// Notes that a statement is about to be sent.
pub fn reach(text: &str) {
    if STATE.reached.is_some() {
        STATEMENTS.iter().filter(|(_, original, _)| *original == text).for_each(|(id, ..)| drop(on(*id)));
    }
}
"#;

/// The source, with the statements that are changed. `texts` gives the text of a file.
pub(crate) fn source(sites: &[Site], text: impl Fn(&str) -> String) -> String {
    let count = sites.iter().map(|site| site.id + 1).max().unwrap_or(1);
    let mut source = format!("{SOURCE}\nconst COUNT: usize = {count};\n\nstatic STATEMENTS: &[(u32, &str, &str)] = &[\n");
    for site in sites.iter().filter(|site| site.edit == Edit::Sql) {
        let original = text(&site.file);
        let mutated = format!("{}{}{}", &original[..site.range.start], site.mutated, &original[site.range.end..]);
        let _ = writeln!(source, "    ({}, {original:?}, {mutated:?}),", site.id);
    }
    source + "];\n"
}
