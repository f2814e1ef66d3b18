//! A run from beginning to end.
#![expect(clippy::print_stdout, reason = "a tool for people")]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tickr_core::{Storage as _, Timestamp};

use crate::database::{Application as _, Database};
use crate::fleet::Fleet;
use crate::options::{Place, Run};
use crate::plan::Plan;
use crate::storm::Weather;
use crate::{choose, gather, report, storm, verify};

/// How many findings are printed.
const FINDINGS_MAX: usize = 40;

/// Runs the proof; says whether it holds.
pub(crate) async fn run(mut options: Run) -> Result<bool> {
    let seed = *options.size.seed.get_or_insert_with(|| Timestamp::now().as_micros().unsigned_abs() % 1_000_000);
    println!("seed {seed}");
    let folder = Folder::prepare(options.db.as_deref(), options.durable)?;
    let result = prove(&options, &folder, seed).await;
    if matches!(result, Ok(true)) {
        println!("nothing was lost, nothing was doubled");
    } else {
        println!("FAILED with seed {seed}; the files are kept: {}", folder.place.db.display());
        folder.keep();
    }
    result
}

async fn prove(options: &Run, folder: &Folder, seed: u64) -> Result<bool> {
    ensure!(options.size.messages >= 10, "ten messages at least: one of them kills");
    ensure!(options.size.producers > 0 && options.workers > 0, "one producer and one worker at least");
    let database = choose(&folder.place);
    let storage = database.storage()?;
    storage.migrate().await?;
    drop(database.application().await?.receipts().await?);
    let mut fleet = Fleet::start(options, &folder.place, folder.logs.clone())?;
    let weather = storm::run(&database, &storage, &mut fleet, options, seed).await?;
    ensure!(weather.counts.held > 0 || options.size.holds == 0, "no writer was stopped inside of a transaction");
    verify(&database, &folder.place, options.size.plan(), Some(&weather)).await
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

/// The files of a run.
struct Folder {
    place: Place,
    logs: PathBuf,
    temporary: Option<TempDir>,
}

impl Folder {
    fn prepare(db: Option<&Path>, durable: bool) -> Result<Self> {
        let (db, temporary) = match db {
            Some(path) => (path.to_owned(), None),
            None => {
                let folder = tempfile::Builder::new().prefix("tickr-crash-").tempdir()?;
                (folder.path().join("queue.sqlite"), Some(folder))
            }
        };
        ensure!(!db.exists(), "{} exists", db.display());
        let (ledger, logs) = (db.with_extension("ledger"), db.with_extension("logs"));
        for folder in [&ledger, &logs] {
            fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(Self { place: Place { db, ledger, durable }, logs, temporary })
    }

    fn keep(self) {
        if let Some(temporary) = self.temporary {
            let _ = temporary.keep();
        }
    }
}
