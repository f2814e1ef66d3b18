//! One session of psql that prepares every statement and has its plans shown.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, bail};

use super::cases::{CASES, Case, Prelude};
use super::statements::Statements;

/// Begins what belongs to one key in the output.
const MARK: &str = "@@@ ";

/// Begins what is shown in the place of a plan.
pub(super) const ERROR: &str = "error:";

/// A script, which grows.
#[derive(Debug)]
pub(super) struct Session<'s> {
    statements: &'s Statements,
    /// How long a statement may run.
    patience: &'static str,
    script: String,
}

/// What a session has shown: by the name of the step, plan and run.
#[derive(Debug, Default)]
pub(super) struct Shown(BTreeMap<String, String>);

impl<'s> Session<'s> {
    pub(super) fn new(statements: &'s Statements, patience: &'static str) -> Self {
        // Plans that fit any parameters: what a connection that knows a statement for long uses.
        Self { statements, patience, script: "SET plan_cache_mode = force_generic_plan;\n".to_owned() }
    }

    /// Adds statements as they are.
    pub(super) fn sql(&mut self, sql: &str) {
        self.script.push_str(sql);
        self.script.push('\n');
    }

    /// Prepares all statements, anew if they were.
    pub(super) fn prepare(&mut self) -> Result<()> {
        self.sql("DEALLOCATE ALL;");
        for (case, prelude) in plans() {
            let types = if case.types.is_empty() { String::new() } else { format!(" ({})", case.types) };
            let text = self.statements.text(case)?;
            // On a line of its own: the text may end with a comment.
            let _ = write!(self.script, "PREPARE {}{types} AS\n{text}\n;\n", name(case, prelude));
        }
        Ok(())
    }

    /// Shows all plans; the first time makes them.
    pub(super) fn explain(&mut self, step: &str) -> Result<()> {
        for (case, prelude) in plans() {
            let (_, arguments) = case.runs.first().context("a case without a run")?;
            self.mark(&key(step, case, prelude, 0));
            self.rolled_back("EXPLAIN (COSTS OFF)", case, prelude, arguments)?;
        }
        Ok(())
    }

    /// Executes all plans as often as is said, and shows them with their figures.
    pub(super) fn execute(&mut self, step: &str, times: usize) -> Result<()> {
        for (case, prelude) in plans() {
            for (at, (_, arguments)) in case.runs.iter().enumerate() {
                for time in 0..times {
                    self.mark(&key(&format!("{step}{time}"), case, prelude, at));
                    self.rolled_back("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY ON)", case, prelude, arguments)?;
                }
            }
        }
        Ok(())
    }

    /// Adds statements whose output is to be found by a name.
    pub(super) fn note(&mut self, name: &str, sql: &str) {
        self.mark(name);
        self.sql(sql);
    }

    pub(super) fn script(&self) -> &str {
        &self.script
    }

    fn mark(&mut self, key: &str) {
        let _ = writeln!(self.script, "\\echo '{MARK}{key}'");
    }

    fn rolled_back(&mut self, explain: &str, case: &Case, prelude: Prelude, arguments: &str) -> Result<()> {
        let begin = self.statements.prelude(prelude)?;
        let arguments = if arguments.is_empty() { String::new() } else { format!("({arguments})") };
        let execute = format!("{explain} EXECUTE {}{arguments};", name(case, prelude));
        let limit = format!("SET LOCAL statement_timeout = '{}';", self.patience);
        // An error is shown in the place of the plan.
        let error = format!("\\if :ERROR\n\\echo '{ERROR}' :LAST_ERROR_MESSAGE\n\\endif");
        let script = format!("{begin}{limit}\n\\set ON_ERROR_STOP off\n{execute}\n{error}\n\\set ON_ERROR_STOP on\nROLLBACK;\n");
        self.script.push_str(&script);
        Ok(())
    }
}

impl Shown {
    /// Reads the output of a session.
    pub(super) fn read(output: &str) -> Self {
        let mut shown = BTreeMap::new();
        let mut current: Option<&mut String> = None;
        for line in output.lines() {
            if let Some(key) = line.strip_prefix(MARK) {
                current = Some(shown.entry(key.to_owned()).or_default());
            } else if let Some(text) = &mut current {
                text.push_str(line);
                text.push('\n');
            }
        }
        Self(shown)
    }

    /// What was noted under a name.
    pub(super) fn noted(&self, name: &str) -> Result<&str> {
        self.0.get(name).map(String::as_str).with_context(|| format!("psql showed nothing for {name}"))
    }

    /// The plan that a step has shown.
    pub(super) fn plan(&self, step: &str, case: &Case, prelude: Prelude) -> Result<&str> {
        self.run(step, case, prelude, 0)
    }

    /// The execution of a run that a step has shown.
    pub(super) fn run(&self, step: &str, case: &Case, prelude: Prelude, run: usize) -> Result<&str> {
        let key = key(step, case, prelude, run);
        match self.0.get(&key).map(String::as_str) {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => bail!("psql showed no plan for {key}"),
        }
    }
}

/// Every statement under each of its preludes.
pub(super) fn plans() -> impl Iterator<Item = (&'static Case, Prelude)> {
    CASES.iter().flat_map(|case| case.preludes.iter().map(move |prelude| (case, *prelude)))
}

fn name(case: &Case, prelude: Prelude) -> String {
    format!("{}_{}", case.statement.replace('/', "_"), prelude.name())
}

fn key(step: &str, case: &Case, prelude: Prelude, run: usize) -> String {
    format!("{step} {} {} {run}", case.statement, prelude.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_read_by_its_marks() {
        let case = &CASES[0];
        let prelude = case.preludes[0];
        let shown = Shown::read(&format!("noise\n{MARK}{}\nLimit\n  ->  Result\n{MARK}other\n", key("a", case, prelude, 0)));
        assert_eq!(shown.plan("a", case, prelude).unwrap(), "Limit\n  ->  Result\n");
        assert!(shown.run("a", case, prelude, 1).is_err());
    }
}
