//! What operators do to messages: requeue, kill, discard, reschedule.

use std::collections::HashSet;

use tickr_core::{Acted, Due, Error, EventType, MessageId, Selection};
use tickr_sql::postgres::{Statement, admin};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::config::Settings;
use crate::enqueue::{due, key_retention};
use crate::error::Fault;
use crate::executor::{Executor, Param, Plan};
use crate::row;
use crate::sequence;

/// How many messages one statement acts on at most.
const PORTION: usize = 10_000;

/// Brings dead messages back with attempt 0. One without a body stays dead. Gives the types made ready too.
pub(crate) async fn requeue(
    executor: &Executor,
    settings: &Settings,
    channel: &str,
    selection: &Selection,
    at: Due,
) -> Result<(Acted, Vec<EventType>), Fault> {
    let ids = selected(executor, selection, admin::SELECT_DEAD).await?;
    let (offset, keep, (at, delay)) = (settings.clock.as_micros(), key_retention(settings), due(at));
    let after = [
        (&at as _, Type::TIMESTAMPTZ),
        (&delay as _, Type::INT8),
        (&settings.history as _, Type::BOOL),
        (&channel as _, Type::TEXT),
        (&keep as _, Type::INT8),
    ];
    let rows = in_portions(executor, admin::REQUEUE, &[(&offset, Type::INT8)], &ids, &after).await?;
    moved(selection, ids, &rows)
}

/// Makes messages DEAD, wherever they are. A round sees one snapshot; what moved meanwhile is found by the next.
pub(crate) async fn kill(executor: &Executor, settings: &Settings, selection: &Selection, reason: &str) -> Result<Acted, Fault> {
    let ids = selected(executor, selection, admin::SELECT_LIVE).await?;
    let reason = executor.text(reason).await?;
    let mut done = HashSet::new();
    for portion in ids.chunks(PORTION) {
        executor.step(kill_portion(executor, settings, portion, &reason, &mut done)).await?;
    }
    Ok(acted(selection, ids, &done))
}

/// A portion of them, in rounds.
async fn kill_portion(
    executor: &Executor,
    settings: &Settings,
    ids: &[MessageId],
    reason: &str,
    done: &mut HashSet<MessageId>,
) -> Result<(), Fault> {
    let offset = settings.clock.as_micros();
    let mut live = ids.to_vec();
    while !live.is_empty() {
        let uuids = row::uuids(&live);
        let params =
            [(&offset as _, Type::INT8), (&uuids as _, Type::UUID_ARRAY), (&reason as _, Type::TEXT), (&settings.history as _, Type::BOOL)];
        let killed = executor.once(Plan::Indexed, admin::KILL, &params).await?;
        for row in &killed {
            done.insert(row::message_id(row, 0)?);
        }
        let left: Vec<MessageId> = live.iter().copied().filter(|id| !done.contains(id)).collect();
        if left.is_empty() {
            break;
        }
        let rows = executor.once(Plan::Indexed, admin::STILL_LIVE, &[(&row::uuids(&left), Type::UUID_ARRAY)]).await?;
        live = rows.iter().map(|row| row::message_id(row, 0)).collect::<Result<_, _>>()?;
    }
    Ok(())
}

/// Deletes dead letters with their bodies.
pub(crate) async fn discard(executor: &Executor, selection: &Selection) -> Result<Acted, Fault> {
    let ids = selected(executor, selection, admin::SELECT_DEAD).await?;
    let rows = in_portions(executor, admin::DISCARD, &[], &ids, &[]).await?;
    let done = rows.iter().map(|row| row::message_id(row, 0)).collect::<Result<_, _>>()?;
    Ok(acted(selection, ids, &done))
}

/// Moves waiting messages to another time. Gives the types made ready too.
pub(crate) async fn reschedule(
    executor: &Executor,
    settings: &Settings,
    channel: &str,
    selection: &Selection,
    at: Due,
) -> Result<(Acted, Vec<EventType>), Fault> {
    let ids = selected(executor, selection, admin::SELECT_SCHEDULED).await?;
    let (offset, keep, (at, delay)) = (settings.clock.as_micros(), key_retention(settings), due(at));
    let after = [(&at as _, Type::TIMESTAMPTZ), (&delay as _, Type::INT8), (&channel as _, Type::TEXT), (&keep as _, Type::INT8)];
    let rows = in_portions(executor, admin::RESCHEDULE, &[(&offset, Type::INT8)], &ids, &after).await?;
    moved(selection, ids, &rows)
}

/// Runs a statement on ids, whose parameter stands between the others. More than a portion takes several statements, in one
/// transaction: all or none. Each has the time of an operation.
async fn in_portions(
    executor: &Executor,
    statement: Statement,
    before: &[Param<'_>],
    ids: &[MessageId],
    after: &[Param<'_>],
) -> Result<Vec<Row>, Fault> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    if ids.len() <= PORTION {
        let uuids = row::uuids(ids);
        return executor.step(executor.once(Plan::Indexed, statement, &joined(before, &uuids, after))).await;
    }
    sequence::again_if_repaired(executor, || portions(executor, statement, before, ids, after)).await
}

async fn portions(
    executor: &Executor,
    statement: Statement,
    before: &[Param<'_>],
    ids: &[MessageId],
    after: &[Param<'_>],
) -> Result<Vec<Row>, Fault> {
    let scope = executor.step(executor.begin(Plan::Indexed)).await?;
    let mut rows = Vec::new();
    for portion in ids.chunks(PORTION) {
        let uuids = row::uuids(portion);
        rows.extend(executor.step(scope.query(statement, &joined(before, &uuids, after))).await?);
    }
    executor.step(scope.commit()).await?;
    Ok(rows)
}

fn joined<'p>(before: &[Param<'p>], ids: &'p Vec<Uuid>, after: &[Param<'p>]) -> Vec<Param<'p>> {
    [before, &[(ids as _, Type::UUID_ARRAY)], after].concat()
}

/// What the statements that make ready answer: a row each, of the ids and the types.
fn moved(selection: &Selection, asked: Vec<MessageId>, rows: &[Row]) -> Result<(Acted, Vec<EventType>), Fault> {
    let (mut done, mut made_ready) = (HashSet::new(), Vec::new());
    for row in rows {
        done.extend(row::message_ids(row, 0)?);
        made_ready.extend(row::event_types(row, 1)?);
    }
    Ok((acted(selection, asked, &done), made_ready))
}

/// The ids that a selection means, each once; a filter's oldest first, from this statement.
async fn selected(executor: &Executor, selection: &Selection, statement: Statement) -> Result<Vec<MessageId>, Fault> {
    match selection {
        Selection::Ids(given) => {
            let mut seen = HashSet::new();
            Ok(given.iter().copied().filter(|id| seen.insert(*id)).collect())
        }
        Selection::Filter { event_type, tenant, limit } => {
            let limit = i64::from(*limit);
            let params = [(event_type as _, Type::TEXT), (tenant as _, Type::TEXT), (&limit as _, Type::INT8)];
            let rows = executor.step(executor.once(Plan::Indexed, statement, &params)).await?;
            rows.iter().map(|row| row::message_id(row, 0)).collect()
        }
        _ => Err(Error::config("this selection is newer than the adapter").into()),
    }
}

/// What was done, in the order of what was asked. A filter asks for no message by name, so it misses none.
fn acted(selection: &Selection, asked: Vec<MessageId>, done: &HashSet<MessageId>) -> Acted {
    let (done, mut missing): (Vec<_>, Vec<_>) = asked.into_iter().partition(|id| done.contains(id));
    if !matches!(selection, Selection::Ids(_)) {
        missing.clear();
    }
    let mut acted = Acted::default();
    acted.done = done;
    acted.missing = missing;
    acted
}
