//! What workers do beside their work: promote and reclaim.

use std::sync::Mutex;

use tickr_core::{BodyFault, EventType, Promoted, ReclaimRequest, Reclaimed, ReclaimedMessage};
use tickr_sql::postgres::upkeep;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::catch_up::Timer;
use crate::config::Settings;
use crate::error::Fault;
use crate::executor::{Executor, Plan};
use crate::floor::lock;
use crate::promotion::{Moved, PromoteFloor};
use crate::row::{self, At};
use crate::sequence;

/// Moves due messages to ready, those first that are due longest. Gives the types made ready too.
pub(crate) async fn promote(
    executor: &Executor,
    timer: &Timer,
    floor: &Mutex<PromoteFloor>,
    settings: &Settings,
    channel: &str,
    limit: u32,
) -> Result<(Promoted, Vec<EventType>), Fault> {
    match try_promote(executor, timer, floor, settings, channel, limit).await {
        Err(fault) if sequence::repaired(executor, &fault).await? => try_promote(executor, timer, floor, settings, channel, limit).await,
        other => other,
    }
}

async fn try_promote(
    executor: &Executor,
    timer: &Timer,
    floor: &Mutex<PromoteFloor>,
    settings: &Settings,
    channel: &str,
    limit: u32,
) -> Result<(Promoted, Vec<EventType>), Fault> {
    let (offset, rows_max) = (settings.clock.as_micros(), i64::from(limit));
    let (rung, behind) = lock(floor).floor(timer.now(), executor.generation());
    let connection = executor.connection().await?;
    let began = timer.now();
    let params =
        [(&offset as _, Type::INT8), (&At(behind) as _, Type::TIMESTAMPTZ), (&rows_max as _, Type::INT8), (&channel as _, Type::TEXT)];
    let answer = executor.once_on(connection.client(), Plan::Indexed, upkeep::PROMOTE, &params).await;
    let rows = connection.give_back(answer).inspect_err(|fault| {
        let over = timer.now();
        if fault.is(&SqlState::QUERY_CANCELED) {
            lock(floor).gave_up(over, over.saturating_sub(began), rung);
        }
    })?;
    let row = row::only(&rows)?;
    let (moved, now) = (row::count(row, 0)?, row::timestamp(row, 2)?);
    let last = row.try_get::<_, Option<At>>(1)?;
    let next = row.try_get::<_, Option<At>>(3)?;
    // With the limit met, more may be due behind the last.
    let until = if moved < u64::from(limit) { Some(now) } else { last.map(|At(last)| last) };
    let over = timer.now();
    lock(floor).moved(over, over.saturating_sub(began), rung, Moved { count: moved, server_now: now, until });
    let mut promoted = Promoted::new(u32::try_from(moved).unwrap_or(u32::MAX));
    promoted.next_due = next.map(|At(at)| at.since(now));
    Ok((promoted, row::event_types(row, 4)?))
}

/// Condemns workers that have open claims but no row, so that the next reclaim takes the claims back.
pub(crate) async fn condemn_unowned(executor: &Executor, offset: i64) -> Result<(), Fault> {
    let condemned = executor.once(Plan::Free, upkeep::CONDEMN_UNOWNED, &[(&offset, Type::INT8)]).await?;
    if !condemned.is_empty() {
        tracing::warn!(workers = condemned.len(), "open claims had workers without a row; they are taken back");
    }
    Ok(())
}

/// Condemns expired workers, takes their claims back, and removes those that hold nothing more.
pub(crate) async fn reclaim(executor: &Executor, settings: &Settings, channel: &str, request: &ReclaimRequest) -> Result<Reclaimed, Fault> {
    match try_reclaim(executor, settings, channel, request).await {
        Err(fault) if sequence::repaired(executor, &fault).await? => try_reclaim(executor, settings, channel, request).await,
        other => other,
    }
}

async fn try_reclaim(executor: &Executor, settings: &Settings, channel: &str, request: &ReclaimRequest) -> Result<Reclaimed, Fault> {
    let offset = settings.clock.as_micros();
    let mut reclaimed = Reclaimed::default();
    let pending = executor.once(Plan::Free, upkeep::PENDING, &[(&offset, Type::INT8), (&request.condemn, Type::BOOL)]).await?;
    let pending = row::only(&pending)?;
    if pending.try_get(1)? {
        tracing::warn!("the database's clock was set back; leases end one lease from now at the latest");
        executor.once(Plan::Free, upkeep::SHORTEN, &[(&offset, Type::INT8)]).await?;
    }
    if !pending.try_get::<_, bool>(0)? {
        return Ok(reclaimed);
    }
    let limit = i64::from(request.limit);
    let scope = executor.begin(Plan::Indexed).await?;
    if request.condemn {
        let condemned = scope.query(upkeep::CONDEMN, &[(&offset, Type::INT8)]).await?;
        reclaimed.condemned = u32::try_from(condemned.len()).unwrap_or(u32::MAX);
    }
    let rows = scope
        .query(
            upkeep::RECLAIM,
            &[
                (&offset, Type::INT8),
                (&limit, Type::INT8),
                (&settings.history, Type::BOOL),
                (&BodyFault::MISSING, Type::TEXT),
                (&channel, Type::TEXT),
            ],
        )
        .await?;
    scope.commit().await?;
    let mut last = None;
    for row in &rows {
        let token = row::token(row, 0)?;
        reclaimed.claims += u32::from(last != Some(token));
        last = Some(token);
        if row.try_get::<_, Option<bool>>(4)?.is_some() {
            let id = row::message_id(row, 1)?;
            let mut message = ReclaimedMessage::new(id, row::event_type(row, 2)?, row::number(row, 3)?);
            message.dead = row.try_get(4)?;
            reclaimed.messages.push(message);
        }
    }
    match executor.once(Plan::Free, upkeep::REMOVE_CONDEMNED, &[]).await {
        // A claim slipped in: next round.
        Err(fault) if fault.is(&SqlState::FOREIGN_KEY_VIOLATION) => Ok(reclaimed),
        other => other.map(|_| reclaimed),
    }
}
