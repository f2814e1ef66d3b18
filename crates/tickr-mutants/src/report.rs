//! The report: numbers by part of the workspace, what survived, and what killed the rest.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::judge::Verdict;
use crate::known;
use crate::site::Site;

/// How the mutations of one part ended.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    killed: usize,
    timed_out: usize,
    survived: usize,
    explained: usize,
    undecided: usize,
    not_reached: usize,
    not_run: usize,
}

/// The results of a run.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    sites: &'a [Site],
    verdicts: &'a HashMap<u32, Verdict>,
    known: &'a BTreeMap<String, String>,
    refused: usize,
}

impl<'a> Report<'a> {
    /// Takes the results; `refused` mutations did not compile.
    pub(crate) fn new(sites: &'a [Site], verdicts: &'a HashMap<u32, Verdict>, known: &'a BTreeMap<String, String>, refused: usize) -> Self {
        Self { sites, verdicts, known, refused }
    }

    /// True if each survivor is explained.
    pub(crate) fn is_good(&self) -> bool {
        self.total().survived == 0
    }

    /// One line with all numbers.
    pub(crate) fn summary(&self) -> String {
        let Count { killed, timed_out, survived, explained, undecided, not_reached, not_run } = self.total();
        format!(
            "{killed} killed, {timed_out} timed out, {survived} survived, {explained} survived and are explained, {undecided} not decided, \
             {not_reached} not reached by any test, {not_run} not run, {} do not compile",
            self.refused
        )
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.text()).with_context(|| format!("could not write {}", path.display()))
    }

    fn total(&self) -> Count {
        self.count(|_| true)
    }

    fn count(&self, of: impl Fn(&Site) -> bool) -> Count {
        let mut count = Count::default();
        for site in self.sites.iter().filter(|site| of(site)) {
            let number = match self.verdicts.get(&site.id) {
                Some(Verdict::Killed(_)) => &mut count.killed,
                Some(Verdict::TimedOut(_)) => &mut count.timed_out,
                Some(Verdict::Survived(_) | Verdict::Undecided(..)) if self.known.contains_key(&site.key()) => &mut count.explained,
                Some(Verdict::Survived(_)) => &mut count.survived,
                Some(Verdict::Undecided(..)) => &mut count.undecided,
                Some(Verdict::NotReached) => &mut count.not_reached,
                None => &mut count.not_run,
            };
            *number += 1;
        }
        count
    }

    fn text(&self) -> String {
        let mut text = format!("# Mutations\n\n{}\n\n", self.summary());
        text.push_str("| part | killed | timed out | survived | explained | not decided | not reached | not run |\n");
        text.push_str("|---|---:|---:|---:|---:|---:|---:|---:|\n");
        let mut groups: Vec<&str> = self.sites.iter().map(|site| site.group).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            let Count { killed, timed_out, survived, explained, undecided, not_reached, not_run } = self.count(|site| site.group == group);
            let _ =
                writeln!(text, "| {group} | {killed} | {timed_out} | {survived} | {explained} | {undecided} | {not_reached} | {not_run} |");
        }
        self.list(&mut text, "Survived", |verdict| matches!(verdict, Verdict::Survived(_)));
        self.list(&mut text, "Not decided in the time", |verdict| matches!(verdict, Verdict::Undecided(..)));
        self.list(&mut text, "Not reached by any test", |verdict| *verdict == Verdict::NotReached);
        self.list(&mut text, "Noticed", Verdict::is_noticed);
        text
    }

    fn list(&self, text: &mut String, title: &str, of: impl Fn(&Verdict) -> bool) {
        let _ = writeln!(text, "\n## {title}\n");
        for site in self.sites {
            let Some(verdict) = self.verdicts.get(&site.id).filter(|verdict| of(verdict)) else {
                continue;
            };
            let _ = writeln!(text, "- line {} of {}: {verdict}", site.line, site.key());
            if let Some(reason) = self.known.get(&site.key()) {
                let _ = writeln!(text, "  - explained in {}: {reason}", known::FILE);
            }
        }
    }
}
