//! `cargo xtask tidy`: the invariants of DESIGN.md section 7, as code.
//!
//! Each rule is a function of a [`Tree`] in memory, so that each is tested on a good and a bad example.

mod manifest;
mod rules;
mod rust;
mod sql;
mod tree;

use std::fmt;

use anyhow::{Result, bail};

use crate::shell::Workspace;
use tree::Tree;

/// Something that a rule objects to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// The file, relative to the root.
    path: String,
    /// The line, from 1.
    line: usize,
    /// What is wrong, and what to do instead.
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Checks every rule on the checkout, prints all findings and fails if there are any.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let tree = Tree::read(workspace.root())?;
    let mut count = 0;
    for rule in rules::ALL {
        for finding in (rule.check)(&tree) {
            println!("{finding} [{}]", rule.name);
            count += 1;
        }
    }
    for rule in rules::ADVICE {
        for finding in (rule.check)(&tree) {
            println!("note: {finding} [{}]", rule.name);
        }
    }
    if count > 0 {
        bail!("tidy: {count} findings");
    }
    println!("tidy: {} rules hold in {} files", rules::ALL.len(), tree.len());
    Ok(())
}
