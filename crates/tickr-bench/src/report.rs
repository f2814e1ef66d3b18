//! What was measured, as JSON, as a table in Markdown, and as charts.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::contender::Info;
use crate::plot;

/// Everything of one run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Machine, versions, settings: names and values.
    pub(crate) conditions: Vec<(String, String)>,
    pub(crate) contenders: Vec<Info>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) checks: Vec<Check>,
    pub(crate) series: Vec<Series>,
    /// What could not be measured, and why.
    pub(crate) missing: Vec<String>,
    /// Bounds are generous: what is small and short says little.
    pub(crate) lenient: bool,
}

/// One figure, measured so often.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) scenario: &'static str,
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) runs: usize,
}

/// A bound, and whether it holds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) scenario: &'static str,
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) bound: Bound,
    pub(crate) holds: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "at least {bound}"),
            Self::AtMost(bound) => write!(f, "at most {bound}"),
        }
    }
}

/// Lines over time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) scenario: &'static str,
    pub(crate) title: String,
    /// What the vertical axis shows.
    pub(crate) unit: &'static str,
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// The middle of the values; of an even number the lower one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

impl Report {
    /// Adds a figure of several runs, shows it, and returns its median.
    pub(crate) fn figure(&mut self, scenario: &'static str, name: impl Into<String>, unit: &'static str, values: &[f64]) -> f64 {
        let (least, most) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), v| (least.min(*v), most.max(*v)));
        let figure = Figure { scenario, name: name.into(), unit, median: median(values), least, most, runs: values.len() };
        println!("{scenario:>14}  {:<58} {:>12} {unit}", figure.name, short(figure.median));
        let median = figure.median;
        self.figures.push(figure);
        median
    }

    /// Compares a value with a bound.
    pub(crate) fn check(&mut self, scenario: &'static str, name: impl Into<String>, value: f64, bound: Bound) {
        let bound = match bound {
            Bound::AtLeast(bound) if self.lenient => Bound::AtLeast(bound / 2.0),
            Bound::AtMost(bound) if self.lenient => Bound::AtMost(bound * 2.0),
            bound => bound,
        };
        let holds = match bound {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
        };
        let check = Check { scenario, name: name.into(), value, bound, holds };
        println!("{scenario:>14}  {} {}: {} ({bound})", if holds { "ok   " } else { "SHORT" }, check.name, short(value));
        self.checks.push(check);
    }

    /// Says what could not be measured.
    pub(crate) fn missing(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("               not measured: {what}");
        self.missing.push(what);
    }

    /// The median of a figure that was measured.
    pub(crate) fn median(&self, scenario: &str, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.scenario == scenario && figure.name == name).map(|figure| figure.median)
    }

    /// Writes everything into a folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        std::fs::write(folder.join("results.json"), serde_json::to_string_pretty(self)?)?;
        let charts = plot::all(self, folder)?;
        std::fs::write(folder.join("results.md"), self.markdown(&charts))?;
        Ok(())
    }

    fn markdown(&self, charts: &[String]) -> String {
        let mut text = "# Benchmarks\n\n".to_owned();
        for (name, value) in &self.conditions {
            let _ = writeln!(text, "- {name}: {value}");
        }
        for what in &self.missing {
            let _ = writeln!(text, "- not measured: {what}");
        }
        if !self.contenders.is_empty() {
            text.push_str("\n| contender | version | settings | keeps |\n|---|---|---|---|\n");
            for Info { name, version, settings, keeps } in &self.contenders {
                let _ = writeln!(text, "| {name} | {version} | {settings} | {keeps} |");
            }
        }
        text.push_str("\n| scenario | what | median | least to most | runs |\n|---|---|---|---|---|\n");
        for Figure { scenario, name, unit, median, least, most, runs } in &self.figures {
            let _ = writeln!(text, "| {scenario} | {name} | {} {unit} | {} to {} | {runs} |", short(*median), short(*least), short(*most));
        }
        if !self.checks.is_empty() {
            text.push_str("\n| scenario | bound | value | asked | holds |\n|---|---|---|---|---|\n");
            for Check { scenario, name, value, bound, holds } in &self.checks {
                let _ = writeln!(text, "| {scenario} | {name} | {} | {bound} | {} |", short(*value), if *holds { "yes" } else { "no" });
            }
        }
        for chart in charts {
            let _ = writeln!(text, "\n![{chart}]({chart})");
        }
        text
    }
}

/// As many digits as mean something.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_a_value_that_was_measured() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn bounds_hold_at_their_value_and_nothing_passes_that_is_no_number() {
        let mut report = Report::default();
        report.check("drain", "a", 0.7, Bound::AtLeast(0.7));
        report.check("drain", "b", 0.69, Bound::AtLeast(0.7));
        report.check("idle", "c", 1.01, Bound::AtMost(1.0));
        report.check("idle", "d", f64::NAN, Bound::AtMost(1.0));
        let holds: Vec<bool> = report.checks.iter().map(|check| check.holds).collect();
        assert_eq!(holds, [true, false, false, false]);
    }
}
