//! Looking messages up: one, lists, histories.

use std::collections::HashSet;

use tickr_core::protocol::Recorded;
use tickr_core::{
    ClaimEntry, DeadLetter, DeadQuery, ListQuery, MessageId, MessageRecord, OutcomeEntry, Page, Status, Token, Transition, WorkerRecord,
    assemble_history,
};
use tickr_sql::Salvaged;
use tickr_sql::postgres::admin;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::error::Fault;
use crate::executor::{Executor, Param, Plan};
use crate::row::{self, At};

/// One message with its status, from one snapshot.
pub(crate) async fn get(executor: &Executor, id: MessageId) -> Result<Option<MessageRecord>, Fault> {
    let rows = executor.once(Plan::Indexed, admin::GET, &[(id.as_uuid(), Type::UUID)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let text = || format!("message {id} has a body but no state and no recorded success; run an audit");
    record(row)?.map_or_else(|| Err(row::corrupt(text())), |record| Ok(Some(record)))
}

/// The body's fourteen columns, then those of the status. `None` for a body without any state.
fn record(row: &Row) -> Result<Option<MessageRecord>, Fault> {
    let Some(Salvaged { message, unreadable }) = row::message(row)? else { return Ok(None) };
    let status: &str = row.try_get(14)?;
    let Some(status) = Status::parse(status) else { return Ok(None) };
    let mut record = MessageRecord::new(message, status, row.try_get::<_, Option<i32>>(15)?.map_or(0, row::clamped));
    record.due_at = row.try_get::<_, Option<At>>(16)?.map(|At(at)| at);
    record.worker = row.try_get(17)?;
    record.last_error = row.try_get(18)?;
    record.unreadable = unreadable;
    record.finished_at = row.try_get::<_, Option<At>>(19)?.map(|At(at)| at);
    Ok(Some(record))
}

/// Messages, newest first. What has neither state nor proof (an audit names it) is in no list.
pub(crate) async fn list(executor: &Executor, query: &ListQuery) -> Result<Page<MessageRecord>, Fault> {
    let (statement, scan) = match query.status {
        Some(Status::Failed) => return Ok(Page::new(Vec::new(), None)),
        // Leased messages are few.
        Some(Status::Handling) => (admin::LIST_LEASED, None),
        Some(Status::Created | Status::Retrying) => (admin::LIST_WAITING, Some(admin::SCAN_WAITING)),
        Some(Status::Dead) => (admin::LIST_DEAD_MESSAGES, Some(admin::SCAN_DEAD)),
        Some(Status::Success) | None => (admin::LIST_ALL, Some(admin::SCAN_ALL)),
    };
    let limit = query.limit.clamp(1, ListQuery::LIMIT_MAX);
    let (before, since) = (query.before.map(|id| *id.as_uuid()), query.since.map(At));
    let (rows_max, status) = (i64::from(limit) + 1, query.status.map(|status| status.as_str()));
    let mut params: Vec<Param<'_>> = vec![
        (&before, Type::UUID),
        (&query.event_type, Type::TEXT),
        (&query.tenant, Type::TEXT),
        (&since, Type::TIMESTAMPTZ),
        (&rows_max, Type::INT8),
        (&status, Type::TEXT),
    ];
    let mut last: Option<Uuid> = None;
    if let Some(scan) = scan {
        let passed_over = i64::from(query.scan_max.max(1)) - 1;
        let rows = executor.once(Plan::Indexed, scan, &[(&before, Type::UUID), (&passed_over, Type::INT8)]).await?;
        last = rows.first().map(|row| row.try_get(0)).transpose()?;
        params.push((&last, Type::UUID));
    }
    let rows = executor.once(Plan::Indexed, statement, &params).await?;
    let records = rows.iter().filter_map(|row| record(row).transpose()).collect::<Result<Vec<_>, _>>()?;
    let mut page = page(records, limit, |record| record.stored.id);
    // Not full: everything down to the last message of the scan was read.
    page.next = page.next.or(last.map(MessageId::from_uuid));
    Ok(page)
}

/// Cuts what was read, one more than a page has, into the page and its cursor.
fn page<T>(mut items: Vec<T>, limit: u32, id: impl Fn(&T) -> MessageId) -> Page<T> {
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().map(id).filter(|_| more);
    Page::new(items, next)
}

/// Every step of a message that the journal still has.
pub(crate) async fn history(executor: &Executor, id: MessageId) -> Result<Vec<Transition>, Fault> {
    let params: [Param<'_>; 1] = [(id.as_uuid(), Type::UUID)];
    // One snapshot for the three.
    let scope = executor.begin(Plan::Lookup).await?;
    let created = scope.query(admin::CREATED_AT, &params).await?;
    let transitions = scope.query(admin::TRANSITIONS, &params).await?;
    let claimed = scope.query(admin::HISTORY, &params).await?;
    scope.commit().await?;
    let created_at = created.first().map(|row| row::timestamp(row, 0)).transpose()?;
    let mut outcomes = transitions.iter().filter_map(|row| transition(row).transpose()).collect::<Result<Vec<_>, _>>()?;
    let told: HashSet<Token> = outcomes.iter().filter_map(|outcome| outcome.token).collect();
    let mut claims: Vec<ClaimEntry> = Vec::new();
    for row in &claimed {
        let (token, attempt) = (row::token(row, 0)?, row::number(row, 3)?);
        if claims.last().is_none_or(|last| last.token != token) {
            claims.push(ClaimEntry::new(token, attempt, row.try_get(1)?, row::timestamp(row, 2)?));
        }
        // A transition says more than the settlement of the same token.
        if !told.contains(&token)
            && let Some(recorded) = recorded(row, 4)?
        {
            let mut outcome = OutcomeEntry::new(recorded, attempt, row::timestamp(row, 5)?);
            outcome.token = Some(token);
            outcomes.push(outcome);
        }
    }
    Ok(assemble_history(id, created_at, claims, outcomes))
}

/// `None` for an outcome that this library does not know, written by a newer version.
fn transition(row: &Row) -> Result<Option<OutcomeEntry>, Fault> {
    let Some(recorded) = recorded(row, 1)? else { return Ok(None) };
    let mut outcome = OutcomeEntry::new(recorded, row::number(row, 2)?, row::timestamp(row, 4)?);
    outcome.token = row.try_get::<_, Option<Uuid>>(0)?.map(Token::from_uuid);
    outcome.error = row.try_get(3)?;
    Ok(Some(outcome))
}

fn recorded(row: &Row, column: usize) -> Result<Option<Recorded>, Fault> {
    Ok(row.try_get::<_, Option<&str>>(column)?.and_then(Recorded::parse))
}

/// Dead letters, newest message first.
pub(crate) async fn list_dead(executor: &Executor, query: &DeadQuery) -> Result<Page<DeadLetter>, Fault> {
    let limit = query.limit.clamp(1, ListQuery::LIMIT_MAX);
    let (before, rows_max) = (query.before.map(|id| *id.as_uuid()), i64::from(limit) + 1);
    let rows = match &query.event_type {
        Some(event_type) => {
            let params: [Param<'_>; 3] = [(&before, Type::UUID), (event_type, Type::TEXT), (&rows_max, Type::INT8)];
            executor.once(Plan::Indexed, admin::DEAD_LETTERS_OF_TYPE, &params).await?
        }
        None => executor.once(Plan::Indexed, admin::DEAD_LETTERS, &[(&before, Type::UUID), (&rows_max, Type::INT8)]).await?,
    };
    let letters = rows.iter().map(dead_letter).collect::<Result<Vec<_>, _>>()?;
    Ok(page(letters, limit, |letter| letter.id))
}

fn dead_letter(row: &Row) -> Result<DeadLetter, Fault> {
    let (id, event_type, attempt) = (row::message_id(row, 14)?, row::event_type(row, 15)?, row::number(row, 16)?);
    let (reason, died_at) = (row.try_get(17)?, row::timestamp(row, 18)?);
    let (stored, unreadable) = row::message(row)?.map(|salvaged| (salvaged.message, salvaged.unreadable)).unzip();
    let mut letter = DeadLetter::new(id, event_type, attempt, reason, died_at);
    letter.stored = stored;
    letter.unreadable = unreadable.flatten();
    Ok(letter)
}

/// Every registered worker, oldest first.
pub(crate) async fn workers(executor: &Executor) -> Result<Vec<WorkerRecord>, Fault> {
    let rows = executor.once(Plan::Free, admin::WORKERS, &[]).await?;
    rows.iter().map(worker).collect()
}

fn worker(row: &Row) -> Result<WorkerRecord, Fault> {
    let (name, started_at, expires_at) = (row.try_get(1)?, row::timestamp(row, 4)?, row::timestamp(row, 5)?);
    let mut worker = WorkerRecord::new(row::worker_id(row, 0)?, name, row::event_types(row, 2)?, started_at, expires_at);
    worker.idle = row.try_get(3)?;
    worker.lost = row.try_get(6)?;
    worker.open_claims = u32::try_from(row::count(row, 7)?).unwrap_or(u32::MAX);
    Ok(worker)
}
