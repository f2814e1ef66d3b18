//! Plans on tables that hold much, with what they cost.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::cases::{CASES, Case, Prelude};
use super::plan::Plan;
use super::server::{LARGE, Server, schema};
use super::session::{ERROR, Session, Shown};
use super::statements::{Statements, StoredPlans};
use super::{FILL, SAMPLE, check};
use crate::shell::{Seconds, Stopwatch, Workspace};

/// How often a statement is executed. Of the times the one in the middle is told.
const TIMES: usize = 3;

const SUMMARY: &str = "\
# What the statements cost

Written by `cargo xtask plans`: generic plans, under the settings of the folder `prelude`, in transactions that are rolled back. A time
is the one in the middle of three, of the server alone; buffers are pages of 8 kB. *In vain* are rows that were read or compared, and
then left out. Beside each statement is its plan.
";

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let watch = Stopwatch::start();
    let statements = Statements::read(workspace)?;
    let server = Server::start()?;
    let mut session = Session::new(&statements, "60s");
    for script in [&schema(workspace)?, &LARGE.variables(), SAMPLE, FILL, "VACUUM (ANALYZE);"] {
        session.sql(script);
    }
    // The date and the counts go into the summary.
    session.note(
        "about",
        "SELECT 'PostgreSQL ' || current_setting('server_version') || ', ' || to_char(now(), 'YYYY-MM-DD');
         SELECT relname || ' ' || to_char(reltuples, 'FM999,999,999')
         FROM pg_class
         WHERE relkind = 'r' AND relname LIKE 'tickr%' AND reltuples > 0
         ORDER BY reltuples DESC, relname;",
    );
    session.prepare()?;
    session.explain("plan")?;
    session.execute("run", TIMES)?;
    let small = check::look(workspace, &statements, &Server::start()?)?;
    let shown = Shown::read(&server.run(session.script())?);

    let mut summary = format!("{SUMMARY}\n");
    let mut about = shown.noted("about")?.lines();
    let _ = writeln!(summary, "{}. Rows: {}.\n", about.next().unwrap_or_default(), about.collect::<Vec<_>>().join(", "));
    summary.push_str("| statement | settings | of what | ms | buffers | in vain |\n|---|---|---|---:|---:|---:|\n");
    for case in CASES {
        let mut plans = StoredPlans::header(server.version().major);
        for prelude in case.preludes {
            let small = small.plan(check::FILLED, case, *prelude)?;
            plans.push_str(&StoredPlans::section(*prelude, shown.plan("plan", case, *prelude)?, small));
            for run in 0..case.runs.len() {
                summary.push_str(&row(&shown, case, *prelude, run)?);
            }
        }
        write_file(&statements.plan_file(case), &plans)?;
    }
    write_file(&statements.summary_file(), &summary)?;
    println!("plans: {} statements written in {}", CASES.len(), Seconds(watch.elapsed()));
    Ok(())
}

/// A line of the summary.
fn row(shown: &Shown, case: &Case, prelude: Prelude, run: usize) -> Result<String> {
    let (name, _) = case.runs[run];
    let mut executions = Vec::new();
    for time in 0..TIMES {
        let text = shown.run(&format!("run{time}"), case, prelude, run)?;
        if let Some(error) = text.strip_prefix(ERROR) {
            return Ok(format!("| {} | {} | {name} | {} | | |\n", case.statement, prelude.name(), error.trim()));
        }
        let plan = Plan::parse(text);
        let ms: f64 = plan.execution_ms.as_deref().unwrap_or_default().parse().context("an execution without its time")?;
        executions.push((ms, plan));
    }
    executions.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (ms, plan) = &executions[TIMES / 2];
    let in_vain: u64 = plan.nodes.iter().map(super::plan::Node::discarded).sum();
    Ok(format!("| {} | {} | {name} | {ms:.2} | {} | {in_vain} |\n", case.statement, prelude.name(), plan.buffers()))
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}
