//! Reads what the standard test harness prints, through `cargo test` or from a binary directly.

use crate::report::{Case, Outcome};

/// Collects the results of a `cargo test` whose output and errors are one stream.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The results so far; the suite is what the header line named.
    cases: Vec<Case>,
    /// The runner's own lines `test result: ...`, of suites that have tests.
    summaries: Vec<String>,
    /// The suite that is running, until its result line.
    open: Option<String>,
    /// The suite of the last header.
    suite: String,
}

impl Reader {
    /// Reads a line.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(suite) = header(line) {
            self.close();
            self.suite = suite.to_owned();
        } else if line.starts_with("running ") && line.contains(" test") {
            self.close();
            self.open = Some(self.suite.clone());
        } else if let Some((name, outcome, reason)) = result(line) {
            self.cases.push(Case { suite: self.suite.clone(), name: name.to_owned(), outcome, reason: reason.map(str::to_owned) });
        } else if line.starts_with("test result: ") {
            self.open = None;
            if !line.contains(" 0 passed; 0 failed; 0 ignored") {
                self.summaries.push(line.to_owned());
            }
        }
    }

    /// Returns the results and the runner's own summary.
    pub(crate) fn finish(mut self) -> (Vec<Case>, Vec<String>) {
        self.close();
        (self.cases, self.summaries)
    }

    /// A suite that began and gave no result has died, and took its tests with it.
    fn close(&mut self) {
        if let Some(suite) = self.open.take() {
            self.cases.push(Case {
                suite,
                name: "(the test binary died before it gave its result)".to_owned(),
                outcome: Outcome::Failed,
                reason: None,
            });
        }
    }
}

/// The suite that a header of cargo names: the file name of an executable, or `doc:` and a crate.
fn header(line: &str) -> Option<&str> {
    let line = line.trim_start();
    if let Some(path) = line.strip_prefix("Running ") {
        let (_, path) = path.strip_suffix(')')?.rsplit_once('(')?;
        return path.rsplit(['/', '\\']).next();
    }
    line.strip_prefix("Doc-tests ")
}

/// A line `test NAME ... RESULT`.
fn result(line: &str) -> Option<(&str, Outcome, Option<&str>)> {
    let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    // A reason may hold the separator itself.
    let (name, result) = match name.split_once(" ... ignored") {
        Some((first, _)) => (first, &line["test ".len() + first.len() + " ... ".len()..]),
        None => (name, result),
    };
    if let Some(rest) = result.strip_prefix("ignored") {
        return Some((name, Outcome::Ignored, rest.strip_prefix(", ")));
    }
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    match result {
        "FAILED" => Some((name, Outcome::Failed, None)),
        // Followed by a time where that was asked for.
        _ if result == "ok" || result.starts_with("ok <") => Some((name, Outcome::Passed, None)),
        _ => None,
    }
}

/// The reason for which a test is ignored, from the output of a run.
pub(crate) fn ignore_reason(output: &str, test: &str) -> Option<String> {
    output
        .lines()
        .filter_map(result)
        .find(|(name, outcome, _)| *name == test && *outcome == Outcome::Ignored)
        .and_then(|(_, _, reason)| reason.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
     Running unittests src/lib.rs (target/debug/deps/toy_kit-3956d6244051315a)

running 4 tests
test tests::ign ... ignored, no server ... here
test tests::ign2 ... ignored
test tests::panics ... FAILED
test tests::sp - should panic ... ok

test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 5.00s

     Running tests/memory.rs (target/debug/deps/memory-56b4b655f31e21f9)

running 0 tests

test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s

     Running tests/dies.rs (target/debug/deps/dies-0000000000000000)

running 1 test
   Doc-tests toy_kit

running 2 tests
test src/lib.rs - add (line 9) - compile ... ok
test src/lib.rs - add (line 6) ... ignored

test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn read() -> (Vec<Case>, Vec<String>) {
        let mut reader = Reader::default();
        SAMPLE.lines().for_each(|line| reader.line(line));
        reader.finish()
    }

    #[test]
    fn every_result_has_its_suite() {
        let (cases, _) = read();
        let of = |suite: &str| cases.iter().filter(|c| c.suite == suite).count();
        assert_eq!(of("toy_kit-3956d6244051315a"), 4);
        assert_eq!(of("toy_kit"), 2);
    }

    #[test]
    fn a_binary_that_dies_is_a_failure() {
        let (cases, _) = read();
        let died: Vec<_> = cases.iter().filter(|c| c.suite.starts_with("dies")).collect();
        assert_eq!(died.len(), 1);
        assert_eq!(died[0].outcome, Outcome::Failed);
    }

    #[test]
    fn reasons_may_hold_the_separator() {
        let reason = ignore_reason(SAMPLE, "tests::ign");
        assert_eq!(reason.as_deref(), Some("no server ... here"));
        assert_eq!(ignore_reason(SAMPLE, "tests::ign2"), None);
    }

    #[test]
    fn summaries_of_empty_suites_are_dropped() {
        let (_, summaries) = read();
        assert_eq!(summaries.len(), 2);
    }
}
