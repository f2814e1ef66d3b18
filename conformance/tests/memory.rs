//! `MemoryStorage`, the executable specification, under the suite.
#![allow(clippy::unwrap_used, reason = "a harness is part of a test")]

use std::time::Duration;

use tickr_conformance::{Harness, Sabotage, TxReport, TxStep};
use tickr_core::{AnyAdmin, BoxError, EnqueueIn, Error, ErrorKind, InspectIn, MemoryStorage, MemoryTx, Result};

#[derive(Debug)]
struct Memory {
    storage: MemoryStorage,
    /// The application's table.
    business: std::sync::Mutex<Vec<String>>,
}

impl Harness for Memory {
    async fn create() -> Result<Self, BoxError> {
        Ok(Self { storage: MemoryStorage::new(), business: std::sync::Mutex::default() })
    }

    fn storage(&self) -> AnyAdmin {
        AnyAdmin::new(self.storage.clone())
    }

    async fn connect(&self) -> Result<AnyAdmin, BoxError> {
        Ok(AnyAdmin::new(self.storage.other_process()))
    }

    fn advance(&self, by: Duration) {
        self.storage.clock_offset().advance(by);
    }

    fn set_back(&self, by: Duration) {
        self.storage.clock_offset().set_back(by);
    }

    async fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    async fn run_tx(&self, steps: Vec<TxStep>) -> Result<Vec<TxReport>> {
        let mut tx = self.storage.begin().await;
        let mut script = Script { harness: self, steps: steps.into(), reports: Vec::new(), rows: Vec::new() };
        match script.run(&mut tx).await? {
            End::Commit => {
                tx.commit().await?;
                self.business.lock().unwrap().append(&mut script.rows);
            }
            _ => tx.rollback().await,
        }
        Ok(script.reports)
    }

    async fn business_rows(&self) -> Result<Vec<String>> {
        Ok(self.business.lock().unwrap().clone())
    }

    async fn sabotage(&self, damage: Sabotage) -> Result<()> {
        let found = match damage {
            Sabotage::RemoveReady(id) => self.storage.sabotage_ready(id),
            Sabotage::RemoveBody(id) => self.storage.sabotage_body(id),
            Sabotage::MakeUnreadable(id) => self.storage.sabotage_unreadable(id),
            other => return Err(Error::new(ErrorKind::Unsupported, format!("{other:?} is not known here"))),
        };
        if found { Ok(()) } else { Err(Error::new(ErrorKind::NotFound, format!("{damage:?}: there is no such row"))) }
    }
}

struct Script<'a> {
    harness: &'a Memory,
    steps: std::collections::VecDeque<TxStep>,
    reports: Vec<TxReport>,
    rows: Vec<String>,
}

enum End {
    Commit,
    Rollback,
    RollbackToSavepoint,
    ReleaseSavepoint,
}

impl Script<'_> {
    /// Runs to the end of a transaction or a savepoint.
    async fn run(&mut self, tx: &mut MemoryTx<'_>) -> Result<End> {
        while let Some(step) = self.steps.pop_front() {
            match step {
                TxStep::Enqueue(batch) => self.reports.push(TxReport::Enqueued(self.harness.storage.enqueue_in(tx, &batch).await?)),
                TxStep::Inspect(name) => self.reports.push(TxReport::Seen(self.harness.storage.messages_in(tx, &name).await?)),
                TxStep::Business(row) => self.rows.push(row),
                TxStep::Pause(point) => point.pause().await,
                TxStep::Savepoint => self.savepoint(tx).await?,
                TxStep::RollbackToSavepoint => return Ok(End::RollbackToSavepoint),
                TxStep::ReleaseSavepoint => return Ok(End::ReleaseSavepoint),
                TxStep::Commit => return Ok(End::Commit),
                TxStep::Rollback => return Ok(End::Rollback),
            }
        }
        Ok(End::Rollback)
    }

    async fn savepoint(&mut self, tx: &mut MemoryTx<'_>) -> Result<()> {
        let rows = self.rows.len();
        let mut inner = tx.savepoint().await;
        match Box::pin(self.run(&mut inner)).await? {
            End::ReleaseSavepoint => inner.commit().await,
            _ => {
                inner.rollback().await;
                self.rows.truncate(rows);
                Ok(())
            }
        }
    }
}

tickr_conformance::suite!(Memory, without: [
    notify::other_handles_are_woken = "memory has no other processes to wake",
    migrate = "memory has no schema",
]);
