//! Reads the status lines of `cargo nextest run`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::report::{Case, Outcome};

/// Collects the results of a run.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// By binary id and test name: the lines of failures are repeated at the end.
    results: BTreeMap<(String, String), Outcome>,
    /// The line `Summary [...] N tests run: ...`.
    summary: Option<String>,
}

impl Reader {
    /// Reads a line.
    pub(crate) fn line(&mut self, line: &str) {
        let line = plain(line);
        let line = line.trim();
        if line.starts_with("Summary [") {
            self.summary = Some(line.to_owned());
        } else if let Some((binary, test, outcome)) = status(line) {
            self.results.insert((binary.to_owned(), test.to_owned()), outcome);
        }
    }

    /// Returns the results and the runner's own summary.
    ///
    /// # Errors
    /// If the runner counts other results than were read: then its format has changed.
    pub(crate) fn finish(self) -> Result<(Vec<Case>, Vec<String>)> {
        let counted = self.summary.as_deref().and_then(tests_run).unwrap_or(0);
        if counted != self.results.len() {
            bail!("nextest counts {counted} tests, {} results were read; run `cargo nextest run` itself", self.results.len());
        }
        let cases = self.results.into_iter().map(|((suite, name), outcome)| Case { suite, name, outcome, reason: None }).collect();
        Ok((cases, self.summary.into_iter().collect()))
    }
}

/// The expression that leaves tests out; none if there are none.
pub(crate) fn without(absent: &[Case]) -> Option<String> {
    let mut by_binary: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for case in absent {
        by_binary.entry(&case.suite).or_default().push(&case.name);
    }
    let of_binary = |(binary, names): (&str, Vec<&str>)| {
        let names: Vec<String> = names.iter().map(|name| format!("test(={name})")).collect();
        format!("(binary_id(={binary}) & ({}))", names.join(" | "))
    };
    let absent: Vec<String> = by_binary.into_iter().map(of_binary).collect();
    (!absent.is_empty()).then(|| format!("not ({})", absent.join(" | ")))
}

/// A line `LABEL [ TIME] (N/M) BINARY TEST`, if its label is a final one.
fn status(line: &str) -> Option<(&str, &str, Outcome)> {
    let (label, rest) = line.split_once(" [")?;
    let (time, rest) = rest.split_once("] ")?;
    if !time.ends_with('s') {
        return None;
    }
    // The counter came with a later version.
    let rest = match rest.strip_prefix('(') {
        Some(counter) => counter.split_once(") ")?.1,
        None => rest,
    };
    let (binary, test) = rest.split_once(' ')?;
    outcome(label.trim()).map(|outcome| (binary, test.trim(), outcome))
}

/// What a label says; none where the test goes on. Labels that are not known count as failures,
/// because nextest names each way to fail (`SIGABRT`, `TIMEOUT`, ...) but few ways to pass.
fn outcome(label: &str) -> Option<Outcome> {
    let is_label = !label.is_empty() && label.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || " +-/".contains(c));
    if !is_label {
        return None;
    }
    match label {
        "SLOW" | "START" | "TERMINATING" | "RETRY" | "DELAY" | "SETUP" => None,
        "PASS" | "LEAK" => Some(Outcome::Passed),
        _ if label.starts_with("FLAKY") => Some(Outcome::Passed),
        _ if label.starts_with("TRY ") => label.ends_with(" PASS").then_some(Outcome::Passed),
        _ => Some(Outcome::Failed),
    }
}

/// The number in `Summary [   2.012s] 9 tests run: 6 passed` or `2/9 tests run` after a cancelled run.
fn tests_run(summary: &str) -> Option<usize> {
    let (_, rest) = summary.split_once("] ")?;
    rest.split([' ', '/']).next()?.parse().ok()
}

/// The line without colours.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, escape)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = escape.find(|c: char| c.is_ascii_alphabetic());
        rest = end.map_or("", |end| &escape[end + 1..]);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
    Starting 7 tests across 3 binaries (2 tests skipped)
     SIGABRT [   0.006s] (1/7) toy-kit tests::aborts
        PASS [   0.008s] (2/7) toy-kit tests::good
        FAIL [   0.100s] (3/7) toy-kit tests::panics
  stdout ───

    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 6 filtered out; finished in 0.09s

        LEAK [   0.209s] (4/7) toy-kit::memory leaks
        PASS [   0.006s] (5/7) toy-kit::memory tx::commits
        PASS [   0.005s] (6/7) toy-kit::bin/toy-kit binner
        SLOW [>  1.000s] (───) toy-kit tests::slow
 TERMINATING [>  2.000s] (───) toy-kit tests::slow
     TIMEOUT [   2.004s] (7/7) toy-kit tests::slow
────────────
     Summary [   2.012s] 7 tests run: 4 passed (1 leaky), 2 failed, 1 timed out, 2 skipped
     SIGABRT [   0.006s] (1/7) toy-kit tests::aborts
        FAIL [   0.100s] (3/7) toy-kit tests::panics
     TIMEOUT [   2.004s] (7/7) toy-kit tests::slow
error: test run failed
";

    fn read(sample: &str) -> Result<(Vec<Case>, Vec<String>)> {
        let mut reader = Reader::default();
        sample.lines().for_each(|line| reader.line(line));
        reader.finish()
    }

    #[test]
    fn each_test_counts_once_however_it_ended() {
        let (cases, summary) = read(SAMPLE).unwrap();
        let failed = cases.iter().filter(|c| c.outcome == Outcome::Failed);
        assert_eq!(failed.count(), 3);
        assert_eq!(cases.len(), 7);
        assert!(summary[0].starts_with("Summary [   2.012s] 7 tests run"));
    }

    #[test]
    fn colours_do_not_matter() {
        let coloured = SAMPLE.replace("PASS", "\u{1b}[32;1mPASS\u{1b}[0m");
        assert_eq!(read(&coloured).unwrap().0.len(), 7);
    }

    #[test]
    fn a_missing_result_is_an_error() {
        let cut = SAMPLE.replace("        LEAK", "        leak");
        assert!(read(&cut).is_err());
    }

    #[test]
    fn tests_are_left_out_by_binary_and_name() {
        let case =
            |suite: &str, name: &str| Case { suite: suite.to_owned(), name: name.to_owned(), outcome: Outcome::NotRun, reason: None };
        assert_eq!(without(&[]), None);
        let absent = [case("b::it", "x::y"), case("a", "z"), case("b::it", "w")];
        assert_eq!(without(&absent).unwrap(), "not ((binary_id(=a) & (test(=z))) | (binary_id(=b::it) & (test(=x::y) | test(=w))))");
    }

    #[test]
    fn a_run_of_nothing_has_no_results() {
        let summary = "     Summary [   0.001s] 0 tests run: 0 passed, 9 skipped";
        assert!(read(summary).unwrap().0.is_empty());
    }
}
