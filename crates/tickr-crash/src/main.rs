//! The crash proof: see `README.md`.

mod database;
mod door;
mod fleet;
mod gather;
mod ground;
mod journal;
mod ledger;
mod options;
mod outages;
mod plan;
mod postgres;
mod process;
mod producer;
mod proxy;
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
use crate::options::{Cli, Command};

/// Runs something with the database of a place. A further one is chosen here.
macro_rules! on {
    ($place:expr, $database:ident => $work:expr) => {{
        let place: &crate::options::Place = &$place;
        match place.on {
            crate::options::On::Sqlite => {
                let $database = crate::sqlite::Sqlite { path: place.db.clone().into(), durable: place.durable };
                $work
            }
            crate::options::On::Postgres => {
                let (url, schema) = (place.db.clone(), place.schema.clone().unwrap_or_default());
                let operation_timeout = place.operation_timeout_ms.map(std::time::Duration::from_millis);
                let $database = crate::postgres::Postgres { url, schema, operation_timeout };
                $work
            }
        }
    }};
}
pub(crate) use on;

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
            Command::Verify { place, size } => on!(place, database => run::verify(&database, &place, size.plan(), None).await),
            Command::Producer { place, size, name, begin_us } => {
                process::die_with_parent()?;
                let share = size.share(name.index, Timestamp::from_micros(begin_us));
                let (ledger, name) = (&place.ledger, name.of("producer"));
                on!(place, database => producer::run(&database, ledger, &name, size.plan(), share).await?);
                Ok(true)
            }
            Command::Worker { place, name, lease_ms } => {
                process::die_with_parent()?;
                let lease = Duration::from_millis(lease_ms);
                on!(place, database => worker::run(database.storage()?, &place.ledger, &name, lease).await?);
                Ok(true)
            }
        }
    })
}
