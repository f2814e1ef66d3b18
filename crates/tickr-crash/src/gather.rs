//! Collects the evidence of a run.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use tickr_core::{Admin, ListQuery, MessageId, Status, Transition};

use crate::database::{Application as _, Database};
use crate::ledger;
use crate::plan::Plan;
use crate::verify::Evidence;

/// How many histories of each status are read.
const HISTORIES_MAX: usize = 500;

/// Reads everything.
pub(crate) async fn gather<D: Database>(database: &D, storage: &D::Storage, folder: &Path, plan: Plan) -> Result<Evidence> {
    let pages = ledger::read(folder, "")?;
    let receipts = database.application().await?.receipts().await?;
    let journal = database.journal().await?;
    let statuses = statuses(storage).await?;
    let killer = receipts.iter().find(|receipt| receipt.n == plan.killer()).map(|receipt| receipt.id);
    let histories = histories(storage, &statuses, killer).await?;
    let audit = storage.audit().await?.findings.iter().map(|finding| format!("{finding:?}")).collect();
    Ok(Evidence { plan, loses_answers: D::LOSES_ANSWERS, pages, receipts, journal, statuses, histories, audit })
}

async fn statuses(storage: &impl Admin) -> Result<HashMap<MessageId, Status>> {
    let mut statuses = HashMap::new();
    let mut query = ListQuery::default().limit(ListQuery::LIMIT_MAX);
    loop {
        let page = storage.list(&query).await?;
        statuses.extend(page.items.iter().map(|record| (record.stored.id, record.status)));
        match page.next {
            Some(before) => query = query.before(before),
            None => return Ok(statuses),
        }
    }
}

async fn histories(
    storage: &impl Admin,
    statuses: &HashMap<MessageId, Status>,
    killer: Option<MessageId>,
) -> Result<HashMap<MessageId, Vec<Transition>>> {
    let some = |wanted: Status| statuses.iter().filter(move |(_, status)| **status == wanted).map(|(id, _)| *id).take(HISTORIES_MAX);
    let mut histories = HashMap::new();
    for id in Status::ALL.into_iter().flat_map(some).chain(killer) {
        histories.insert(id, storage.history(id).await?);
    }
    Ok(histories)
}
