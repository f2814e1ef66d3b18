//! What operators do to messages: requeue, kill, discard, reschedule.

use std::collections::HashSet;

use tickr_core::{Acted, Due, Error, EventType, MessageId, Selection};
use tickr_sql::postgres::{Statement, admin};
use tokio_postgres::types::Type;

use crate::config::Settings;
use crate::enqueue::{due, key_retention};
use crate::error::Fault;
use crate::executor::{Executor, Plan};
use crate::row;

/// Brings dead messages back with attempt 0. One without a body stays dead. Gives the types made ready too.
pub(crate) async fn requeue(
    executor: &Executor,
    settings: &Settings,
    channel: &str,
    selection: &Selection,
    at: Due,
) -> Result<(Acted, Vec<EventType>), Fault> {
    let ids = selected(executor, selection, admin::SELECT_DEAD).await?;
    if ids.is_empty() {
        return Ok(Default::default());
    }
    let (offset, uuids, (at, delay)) = (settings.clock.as_micros(), row::uuids(&ids), due(at));
    let keep = key_retention(settings);
    let rows = executor
        .once(
            Plan::Indexed,
            admin::REQUEUE,
            &[
                (&offset, Type::INT8),
                (&uuids, Type::UUID_ARRAY),
                (&at, Type::TIMESTAMPTZ),
                (&delay, Type::INT8),
                (&settings.history, Type::BOOL),
                (&channel, Type::TEXT),
                (&keep, Type::INT8),
            ],
        )
        .await?;
    let row = rows.first().ok_or_else(|| row::corrupt("a requeue answered nothing"))?;
    Ok((acted(selection, ids, &row::message_ids(row, 0)?.into_iter().collect()), row::event_types(row, 1)?))
}

/// Makes messages DEAD, wherever they are. A round sees one snapshot; what moved meanwhile is found by the next.
pub(crate) async fn kill(executor: &Executor, settings: &Settings, selection: &Selection, reason: &str) -> Result<Acted, Fault> {
    let ids = selected(executor, selection, admin::SELECT_LIVE).await?;
    let (offset, reason) = (settings.clock.as_micros(), row::text(reason));
    let mut done = HashSet::new();
    let mut live = ids.clone();
    while !live.is_empty() {
        let uuids = row::uuids(&live);
        let params =
            [(&offset as _, Type::INT8), (&uuids as _, Type::UUID_ARRAY), (&reason as _, Type::TEXT), (&settings.history as _, Type::BOOL)];
        let killed = executor.once(Plan::Indexed, admin::KILL, &params).await?;
        for row in &killed {
            done.insert(row::message_id(row, 0)?);
        }
        if done.len() == ids.len() {
            break;
        }
        let left: Vec<MessageId> = live.iter().copied().filter(|id| !done.contains(id)).collect();
        let rows = executor.once(Plan::Indexed, admin::STILL_LIVE, &[(&row::uuids(&left), Type::UUID_ARRAY)]).await?;
        live = rows.iter().map(|row| row::message_id(row, 0)).collect::<Result<_, _>>()?;
    }
    Ok(acted(selection, ids, &done))
}

/// Deletes dead letters with their bodies.
pub(crate) async fn discard(executor: &Executor, selection: &Selection) -> Result<Acted, Fault> {
    let ids = selected(executor, selection, admin::SELECT_DEAD).await?;
    if ids.is_empty() {
        return Ok(Acted::default());
    }
    let rows = executor.once(Plan::Indexed, admin::DISCARD, &[(&row::uuids(&ids), Type::UUID_ARRAY)]).await?;
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
    if ids.is_empty() {
        return Ok(Default::default());
    }
    let (offset, uuids, (at, delay)) = (settings.clock.as_micros(), row::uuids(&ids), due(at));
    let keep = key_retention(settings);
    let rows = executor
        .once(
            Plan::Indexed,
            admin::RESCHEDULE,
            &[
                (&offset, Type::INT8),
                (&uuids, Type::UUID_ARRAY),
                (&at, Type::TIMESTAMPTZ),
                (&delay, Type::INT8),
                (&channel, Type::TEXT),
                (&keep, Type::INT8),
            ],
        )
        .await?;
    let row = rows.first().ok_or_else(|| row::corrupt("a rescheduling answered nothing"))?;
    Ok((acted(selection, ids, &row::message_ids(row, 0)?.into_iter().collect()), row::event_types(row, 1)?))
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
            let rows = executor.once(Plan::Indexed, statement, &params).await?;
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
    Acted { done, missing }
}
