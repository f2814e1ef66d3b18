//! The whole road from a real database to the verdict, with the database broken on purpose.

use tempfile::TempDir;
use tickr_core::{Limits, MessageId, NewMessage, Storage as _};
use tickr_sqlite::SqliteStorage;

use crate::database::{Application as _, Database as _, Transaction};
use crate::gather::gather;
use crate::ledger::{Event, Writer};
use crate::plan::Plan;
use crate::sqlite::Sqlite;
use crate::verify::verify;

const PLAN: Plan = Plan { seed: 5, messages: 10, holds: 0 };

/// A file with one committed message, which is ready.
struct Stage {
    folder: TempDir,
    database: Sqlite,
    storage: SqliteStorage,
    id: MessageId,
    findings: Vec<String>,
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Sqlite { path: folder.path().join("queue.sqlite"), durable: false };
        let storage = database.storage().unwrap();
        storage.migrate().await.unwrap();
        database.prepare().await.unwrap();
        let n = (0..PLAN.messages).find(|n| !PLAN.message(*n).rolls_back && PLAN.message(*n).delay.is_none()).unwrap();
        let id = MessageId::new();
        let message = NewMessage::check(PLAN.message(n).message(id), id, &Limits::default()).unwrap();
        let transaction = Transaction { n, message: &message, rolls_back: false };
        let mut application = database.application().await.unwrap();
        application.transact(&storage, &transaction, || Ok(())).await.unwrap();
        let ledger = Writer::create(folder.path(), "producer-0-0").unwrap();
        ledger.write(Event::Planned { n, id }).unwrap();
        ledger.write(Event::Committed { n, id }).unwrap();
        Self { folder, database, storage, id, findings: Vec::new() }
    }

    async fn look(mut self) -> Self {
        let evidence = gather(&self.database, &self.storage, self.folder.path(), PLAN).await.unwrap();
        self.findings = verify(&evidence).findings.0;
        self
    }

    fn found(&self, words: &str) -> bool {
        let id = self.id.to_string();
        self.findings.iter().any(|finding| finding.contains(&id) && finding.contains(words))
    }
}

#[tokio::test]
async fn a_message_that_waits_is_not_finished_and_not_lost() {
    let stage = Stage::new().await.look().await;
    assert!(stage.found("is not finished") && !stage.found("lost") && !stage.found("no body"), "{:?}", stage.findings);
}

#[tokio::test]
async fn a_removed_ready_row_is_noticed_by_the_audit_and_by_the_verdict() {
    let stage = Stage::new().await;
    assert!(stage.storage.sabotage_remove_ready(stage.id).await.unwrap());
    let stage = stage.look().await;
    assert!(stage.found("the audit says: Lost") && stage.found("is nowhere: lost (I1)"), "{:?}", stage.findings);
}

#[tokio::test]
async fn a_removed_body_is_noticed_by_the_audit_and_by_the_verdict() {
    let stage = Stage::new().await;
    assert!(stage.storage.sabotage_remove_body(stage.id).await.unwrap());
    let stage = stage.look().await;
    assert!(stage.found("the audit says: MissingBody") && stage.found("has no body, but is"), "{:?}", stage.findings);
}
