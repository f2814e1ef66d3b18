//! A run from beginning to end.
#![expect(clippy::print_stdout, reason = "a tool for people")]

use anyhow::{Result, ensure};
use tickr_core::{Storage as _, Timestamp};

use crate::database::Database;
use crate::fleet::Fleet;
use crate::ground::Ground;
use crate::options::{Place, Run};
use crate::plan::Plan;
use crate::storm::Weather;
use crate::{gather, on, report, storm, verify};

/// How many findings are printed.
const FINDINGS_MAX: usize = 40;

/// Runs the proof; says whether it holds.
pub(crate) async fn run(mut options: Run) -> Result<bool> {
    let seed = *options.size.seed.get_or_insert_with(|| Timestamp::now().as_micros().unsigned_abs() % 1_000_000);
    println!("seed {seed}");
    let mut ground = Ground::prepare(&options, seed).await?;
    let place = ground.place.clone();
    let result = on!(place, database => prove(&database, &options, &mut ground, seed).await);
    if matches!(result, Ok(true)) {
        println!("nothing was lost, nothing was doubled");
        ground.remove().await?;
    } else {
        println!("FAILED with seed {seed}; what is left is kept: {}", ground.keep());
    }
    result
}

async fn prove<D: Database>(database: &D, options: &Run, ground: &mut Ground, seed: u64) -> Result<bool> {
    ensure!(options.size.messages >= 10, "ten messages at least: one of them kills");
    ensure!(options.size.producers > 0 && options.workers > 0, "one producer and one worker at least");
    let storage = database.storage()?;
    storage.migrate().await?;
    database.prepare().await?;
    let mut fleet = Fleet::start(options, ground.roads.clone(), ground.logs.clone())?;
    let weather = storm::run(database, &storage, &mut fleet, &mut ground.outages, options, seed).await?;
    ensure!(weather.counts.held > 0 || options.size.holds == 0, "no writer was stopped inside of a transaction");
    verify(database, &ground.place, options.size.plan(), Some(&weather)).await
}

/// Verifies what a run left, and prints it.
pub(crate) async fn verify(database: &impl Database, place: &Place, plan: Plan, weather: Option<&Weather>) -> Result<bool> {
    let evidence = gather::gather(database, &database.storage()?, &place.ledger, plan).await?;
    let verdict = verify::verify(&evidence);
    println!("{}", report::table(&verdict.counts, weather));
    let findings = &verdict.findings.0;
    for finding in findings.iter().take(FINDINGS_MAX) {
        println!("WRONG: {finding}");
    }
    if findings.len() > FINDINGS_MAX {
        println!("WRONG: ... and {} more", findings.len() - FINDINGS_MAX);
    }
    Ok(findings.is_empty())
}
