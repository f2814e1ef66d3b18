//! The crash proof: see `README.md`.

mod database;
mod door;
mod fleet;
mod gather;
mod journal;
mod ledger;
mod options;
mod plan;
mod process;
mod producer;
mod report;
mod run;
#[cfg(test)]
mod sabotage;
mod sqlite;
mod storm;
mod verify;
mod worker;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser as _;
use tickr_core::Timestamp;

use crate::database::Database as _;
use crate::options::{Cli, Command, Place};
use crate::sqlite::Sqlite;

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match start(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("{error:#}");
            let transient = error.downcast_ref::<tickr_core::Error>().is_some_and(tickr_core::Error::is_transient);
            if transient { ExitCode::from(fleet::TEMPORARY_FAILURE) } else { ExitCode::FAILURE }
        }
    }
}

/// Says whether all is well.
fn start(command: Command) -> Result<bool> {
    // The threads of a runtime outlive none of these: each is a process of its own.
    let mut runtime = match command {
        Command::Worker { .. } => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Run(options) => run::run(options).await,
            Command::Verify { place, size } => run::verify(&choose(&place), &place, size.plan(), None).await,
            Command::Producer { place, size, name, begin_us } => {
                process::die_with_parent()?;
                let share = size.share(name.index, Timestamp::from_micros(begin_us));
                producer::run(&choose(&place), &place.ledger, &name.of("producer"), size.plan(), share).await?;
                Ok(true)
            }
            Command::Worker { place, name, lease_ms } => {
                process::die_with_parent()?;
                let storage = choose(&place).storage()?;
                worker::run(storage, &place.ledger, &name, Duration::from_millis(lease_ms)).await?;
                Ok(true)
            }
        }
    })
}

/// The database of a place. A further one is chosen here.
pub(crate) fn choose(place: &Place) -> Sqlite {
    Sqlite { path: place.db.clone(), durable: place.durable }
}
