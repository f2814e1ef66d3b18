//! Writes mutations into a Rust file, each behind a question whether it is selected.

use std::ops::Range;

use crate::site::{Edit, Site};

/// A file with mutations in it.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    pub(crate) text: String,
    /// Where each site is in the text, for errors of the compiler.
    pub(crate) places: Vec<(u32, Range<usize>)>,
}

/// Writes the sites of one file into its text.
pub(crate) fn rewrite(text: &str, sites: &[&Site]) -> Rewritten {
    let mut sites = sites.to_vec();
    // A site comes after those around it. An insertion has no extent, and comes first.
    sites.sort_by_key(|site| (site.range.start, site.range.end != site.range.start, usize::MAX - site.range.end));
    let mut rewritten = Rewritten::default();
    part(text, 0..text.len(), &sites, &mut rewritten);
    rewritten
}

/// Writes a part of the text with the sites that are inside it.
fn part(text: &str, range: Range<usize>, mut sites: &[&Site], to: &mut Rewritten) {
    let mut at = range.start;
    while let Some(first) = sites.first() {
        to.text.push_str(&text[at..first.range.start]);
        let same = sites.iter().take_while(|site| site.range == first.range && site.edit == first.edit).count();
        let (alternatives, rest) = sites.split_at(same);
        let inside = if first.edit == Edit::Entry { 0 } else { rest.iter().take_while(|site| site.range.start < first.range.end).count() };
        let (inside, rest) = rest.split_at(inside);
        let start = to.text.len();
        one(text, alternatives, inside, to);
        let end = to.text.len();
        to.places.extend(alternatives.iter().map(|site| (site.id, start..end)));
        at = first.range.end;
        sites = rest;
    }
    to.text.push_str(&text[at..range.end]);
}

fn one(text: &str, alternatives: &[&Site], inside: &[&Site], to: &mut Rewritten) {
    let (first, range) = (alternatives[0], alternatives[0].range.clone());
    match first.edit {
        Edit::Expression => {
            to.text.push('(');
            for site in alternatives {
                to.text.push_str(&format!("if ::tickr_mutant::on({}) {{ {} }} else ", site.id, site.mutated));
            }
            to.text.push_str("{ ");
            part(text, range, inside, to);
            to.text.push_str(" })");
        }
        Edit::Statement => {
            to.text.push_str(&format!("if !::tickr_mutant::on({}) {{ ", first.id));
            part(text, range, inside, to);
            to.text.push_str(" }");
        }
        Edit::Entry => {
            for site in alternatives {
                to.text.push_str(&format!(" if ::tickr_mutant::on({}) {{ {} }}", site.id, site.mutated));
            }
        }
        Edit::Sql => to.text.push_str(&text[range]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rust;

    fn rewritten(text: &str) -> String {
        let mut sites = rust::sites("core", "a.rs", text).unwrap();
        sites.retain(|site| site.edit != Edit::Entry);
        for (id, site) in (1..).zip(&mut sites) {
            site.id = id;
        }
        rewrite(text, &sites.iter().collect::<Vec<_>>()).text
    }

    #[test]
    fn sites_inside_others_are_in_the_original_branch_only() {
        let text = "fn f() { g(a < b && c); }";
        assert_eq!(
            rewritten(text),
            "fn f() { if !::tickr_mutant::on(1) { g((if ::tickr_mutant::on(2) { a < b || c } else { \
             (if ::tickr_mutant::on(3) { a <= b } else { a < b }) && c })); } }"
        );
    }

    #[test]
    fn alternatives_of_one_place_are_a_chain() {
        let text = "fn f() { if a { g() } }";
        assert_eq!(
            rewritten(text),
            "fn f() { if (if ::tickr_mutant::on(1) { true } else if ::tickr_mutant::on(2) { false } else { a }) { g() } }"
        );
    }
}
