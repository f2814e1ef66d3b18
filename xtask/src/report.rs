//! The table at the end of `cargo xtask test`: which suite ran on which storage, and how it went.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it promised.
    Passed,
    /// It did not, or did not end.
    Failed,
    /// It says itself that it cannot run here.
    Ignored,
    /// This machine lacks what it needs.
    NotRun,
}

/// One test of one run.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What the runner calls the binary.
    pub(crate) suite: String,
    /// The path of the test in its binary.
    pub(crate) name: String,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Why it is ignored, where it says so, or was not run.
    pub(crate) reason: Option<String>,
}

/// A row of the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// What ran: `conformance`, or the package and the kind of its tests.
    pub(crate) suite: String,
    /// The storage that it ran on; empty where a suite has none of its own.
    pub(crate) storage: String,
    /// The version that the storage reports.
    pub(crate) version: String,
    /// Its tests.
    pub(crate) cases: Vec<Case>,
}

impl Row {
    fn count(&self, outcome: Outcome) -> usize {
        self.of(outcome).count()
    }

    fn of(&self, outcome: Outcome) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(move |c| c.outcome == outcome)
    }

    fn title(&self) -> String {
        if self.storage.is_empty() { self.suite.clone() } else { format!("{} on {}", self.suite, self.storage) }
    }
}

/// All that ran.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// One row per suite and storage.
    pub(crate) rows: Vec<Row>,
    /// The runners' own summaries, word for word.
    pub(crate) summaries: Vec<String>,
    /// What went wrong beside single tests.
    pub(crate) problems: Vec<String>,
}

impl Report {
    /// The number of tests that ended so.
    pub(crate) fn total(&self, outcome: Outcome) -> usize {
        self.rows.iter().map(|row| row.count(outcome)).sum()
    }

    /// True if nothing failed.
    pub(crate) fn is_good(&self) -> bool {
        self.total(Outcome::Failed) == 0 && self.problems.is_empty()
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["suite", "storage", "version", "passed", "failed", "ignored", "not run"]);
        for row in &self.rows {
            let numbers = COUNTED.map(|outcome| row.count(outcome).to_string());
            let names = [&row.suite, &row.storage, &row.version];
            table.add_row(names.into_iter().chain(&numbers));
        }
        let total = COUNTED.map(|outcome| self.total(outcome).to_string());
        table.add_row(["total", "", ""].into_iter().chain(total.iter().map(String::as_str)));
        for column in table.column_iter_mut().skip(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

/// The columns of numbers.
const COUNTED: [Outcome; 4] = [Outcome::Passed, Outcome::Failed, Outcome::Ignored, Outcome::NotRun];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.table())?;
        for row in &self.rows {
            for case in row.of(Outcome::Ignored) {
                let reason = case.reason.as_deref().unwrap_or("no reason given");
                writeln!(f, "ignored: {}: {}: {reason}", row.title(), case.name)?;
            }
        }
        for row in &self.rows {
            for case in row.of(Outcome::Failed) {
                writeln!(f, "FAILED: {}: {}", row.title(), case.name)?;
            }
        }
        for row in &self.rows {
            let mut reasons: Vec<&str> = row.of(Outcome::NotRun).filter_map(|case| case.reason.as_deref()).collect();
            let count = reasons.len();
            reasons.dedup();
            for reason in reasons {
                writeln!(f, "not run: {} ({count}): {reason}", row.title())?;
            }
        }
        for problem in &self.problems {
            writeln!(f, "error: {problem}")?;
        }
        writeln!(f)?;
        for summary in &self.summaries {
            writeln!(f, "{summary}")?;
        }
        // Last and alone, so that a script finds it.
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.total(Outcome::Passed),
            self.total(Outcome::Failed),
            self.total(Outcome::Ignored) + self.total(Outcome::NotRun)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let case = |name: &str, outcome, reason: Option<&str>| Case {
            suite: "tickr-conformance::sqlite".to_owned(),
            name: name.to_owned(),
            outcome,
            reason: reason.map(str::to_owned),
        };
        Report {
            rows: vec![Row {
                suite: "conformance".to_owned(),
                storage: "sqlite".to_owned(),
                version: "sqlite 3.50.4".to_owned(),
                cases: vec![
                    case("tx::commits", Outcome::Passed, None),
                    case("tx::rollback_discards", Outcome::Failed, None),
                    case("notify::wakes", Outcome::Ignored, Some("no LISTEN here")),
                ],
            }],
            summaries: vec!["Summary [   0.1s] 2 tests run: 1 passed, 1 failed".to_owned()],
            problems: Vec::new(),
        }
    }

    #[test]
    fn the_last_line_is_the_plain_sum() {
        let text = report().to_string();
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 1 skipped"));
    }

    #[test]
    fn a_problem_is_no_success_even_without_a_failed_test() {
        let mut report = Report::default();
        assert!(report.is_good());
        report.problems.push("no test ran".to_owned());
        assert!(!report.is_good());
        assert!(report.to_string().contains("error: no test ran"));
    }

    #[test]
    fn ignored_tests_are_listed_with_their_reasons() {
        let text = report().to_string();
        assert!(text.contains("ignored: conformance on sqlite: notify::wakes: no LISTEN here"));
    }

    #[test]
    fn tests_that_were_not_run_are_named_once_with_the_reason() {
        let mut report = report();
        let case = |name: &str| {
            let reason = Some("no network. To run these tests: apt-get install x".to_owned());
            Case { suite: String::new(), name: name.to_owned(), outcome: Outcome::NotRun, reason }
        };
        report.rows.push(Row { suite: "other".to_owned(), cases: vec![case("a"), case("b")], ..Row::default() });
        let text = report.to_string();
        assert_eq!(text.matches("not run: other (2): no network. To run these tests: apt-get install x").count(), 1, "{text}");
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 3 skipped"));
    }

    #[test]
    fn failed_tests_are_listed() {
        let text = report().to_string();
        assert!(text.contains("FAILED: conformance on sqlite: tx::rollback_discards"));
    }

    #[test]
    fn the_table_names_storage_and_version() {
        let text = report().to_string();
        let row = text.lines().find(|l| l.contains("sqlite 3.50.4")).unwrap();
        assert!(row.contains("conformance"));
    }
}
