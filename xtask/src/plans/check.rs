//! Whether plans are good, however the tables were when they were made.

use anyhow::{Result, bail};

use super::cases::{Case, Prelude};
use super::plan::Plan;
use super::server::{SMALL, Server, schema};
use super::session::{ERROR, Session, Shown, plans};
use super::statements::{Statements, StoredPlans};
use super::{FILL, SAMPLE, rules};
use crate::shell::{Seconds, Stopwatch, Workspace};

/// Takes everything out again, as a queue does that was drained.
const DRAIN: &str = "\
DELETE FROM tickr_messages; DELETE FROM tickr_ready; DELETE FROM tickr_scheduled; DELETE FROM tickr_open_claims;
DELETE FROM tickr_claims; DELETE FROM tickr_settlements; DELETE FROM tickr_transitions; DELETE FROM tickr_dead;
DELETE FROM tickr_dedupe; DELETE FROM tickr_workers; DELETE FROM tickr_paused; DELETE FROM tickr_locks;
VACUUM (ANALYZE);";

/// The state of a queue at work.
pub(super) const FILLED: &str = "filled";

/// A state of the tables in which plans are made; then they are executed on filled tables.
const STATES: &[(&str, &str)] = &[
    ("fresh", "made on tables that were just created"),
    (FILLED, "made on tables that were filled and analysed"),
    ("emptied", "made on tables that were filled, drained, vacuumed and analysed"),
];

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let watch = Stopwatch::start();
    let statements = Statements::read(workspace)?;
    let server = Server::start()?;
    let shown = look(workspace, &statements, &server)?;
    let mut findings = Vec::new();
    for (case, prelude) in plans() {
        for (state, meaning) in STATES {
            for (problem, plan) in problems(&shown, state, case, prelude)? {
                findings.push(format!(
                    "{}.sql under {}.sql, {state} ({meaning}): {problem}\n{}",
                    case.statement,
                    prelude.name(),
                    indented(plan)
                ));
            }
        }
        let stored = StoredPlans::read(&statements.plan_file(case))?;
        let plan = shown.plan(FILLED, case, prelude)?;
        if stored.major == server.version().major.to_string() && Plan::parse(plan).shape() != Plan::parse(stored.small(prelude)).shape() {
            let file = statements.plan_file(case);
            findings.push(format!(
                "{}: under {}.sql the plan is another by now; run cargo xtask plans\n{}",
                file.display(),
                prelude.name(),
                indented(plan)
            ));
        }
    }
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("plans: {} findings", findings.len());
    }
    println!("plans: {} plans in {} states, {}", plans().count(), STATES.len(), Seconds(watch.elapsed()));
    Ok(())
}

/// Has all plans made and executed in all states.
pub(super) fn look(workspace: &Workspace, statements: &Statements, server: &Server) -> Result<Shown> {
    // By the clock on the wall, on a machine that may be busy: for plans that would not end.
    let mut session = Session::new(statements, "20s");
    session.sql(&schema(workspace)?);
    session.sql(&SMALL.variables());
    session.sql(SAMPLE);
    for (state, _) in STATES {
        match *state {
            FILLED => session.sql("VACUUM (ANALYZE);"),
            "emptied" => session.sql(DRAIN),
            _ => {}
        }
        session.prepare()?;
        session.explain(state)?;
        if *state != FILLED {
            session.sql(FILL);
        }
        session.execute(state, 1)?;
    }
    Ok(Shown::read(&server.run(session.script())?))
}

fn problems<'s>(shown: &'s Shown, state: &str, case: &Case, prelude: Prelude) -> Result<Vec<(String, &'s str)>> {
    if let Some(reason) = rules::exempt(case.statement, prelude.name(), state) {
        println!("not checked: {}.sql under {}.sql, {state}: {reason}", case.statement, prelude.name());
        return Ok(Vec::new());
    }
    let text = shown.plan(state, case, prelude)?;
    let planned = Plan::parse(text);
    let mut problems: Vec<(String, &str)> = rules::check(case.statement, &planned).into_iter().map(|problem| (problem, text)).collect();
    for (at, (run, _)) in case.runs.iter().enumerate() {
        let text = shown.run(&format!("{state}0"), case, prelude, at)?;
        if let Some(error) = text.strip_prefix(ERROR) {
            problems.push((format!("{run}: {}", error.trim()), shown.plan(state, case, prelude)?));
            continue;
        }
        let executed = Plan::parse(text);
        if executed.shape() != planned.shape() {
            problems.push((format!("{run}: another plan is executed"), text));
        }
        if problems.is_empty() {
            problems.extend(rules::check(case.statement, &executed).into_iter().map(|problem| (format!("{run}: {problem}"), text)));
        }
    }
    Ok(problems)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
