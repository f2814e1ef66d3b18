//! Workers and their leases.

use tickr_core::{Beat, BodyFault, Error, ErrorKind, Heartbeat, OpenClaim, Registration, Retired, Token, WorkerId};
use tickr_sql::postgres::worker;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::config::Settings;
use crate::connection::Beat as BeatConnection;
use crate::enqueue::micros;
use crate::error::Fault;
use crate::executor::{Executor, Plan};
use crate::floor::Ladder;
use crate::row::{self, Mask};
use crate::sequence;

pub(crate) async fn register(executor: &Executor, offset: i64, registration: &Registration) -> Result<(), Fault> {
    let event_types: Vec<&str> = registration.event_types.iter().map(tickr_core::EventType::as_str).collect();
    let (lease, name) = (micros(registration.lease), executor.text(&registration.name).await?);
    let rows = executor
        .once(
            Plan::Indexed,
            worker::REGISTER,
            &[
                (&offset, Type::INT8),
                (registration.worker.as_uuid(), Type::UUID),
                (&name, Type::TEXT),
                (&event_types, Type::TEXT_ARRAY),
                (&lease, Type::INT8),
            ],
        )
        .await?;
    if rows.is_empty() { Err(lost(registration.worker)) } else { Ok(()) }
}

/// Extends the lease, and reads what the worker has open; on a connection that no other operation uses.
pub(crate) async fn beat(
    executor: &Executor,
    connection: &BeatConnection,
    ladder: &Ladder,
    offset: i64,
    heartbeat: &Heartbeat,
) -> Result<Beat, Fault> {
    let mut connection = connection.lock().await;
    // Taken out while it is used: a heartbeat that is given up leaves none behind in an unknown state.
    let client = match connection.take() {
        Some(client) if !client.is_closed() => client,
        _ => executor.extra_connection().await?,
    };
    let (lease, dialect) = (micros(heartbeat.lease), executor.dialect().await?);
    // Read before the sequence is: what is taken meanwhile may have a place that the sequence gives out later.
    let highest = ladder.highest();
    let params = [
        (&offset as _, Type::INT8),
        (heartbeat.worker.as_uuid() as _, Type::UUID),
        (&lease as _, Type::INT8),
        (&heartbeat.idle as _, Type::BOOL),
        (&dialect.sequences.table_of_places() as _, Type::TEXT),
    ];
    let rows = executor.once_on(&client, Plan::Indexed, worker::BEAT, &params).await?;
    *connection = Some(client);
    let first = rows.first().ok_or_else(|| lost(heartbeat.worker))?;
    if let Some(last) = first.try_get(4)? {
        ladder.heard(highest, last);
    }
    let mut beat = Beat::new(Vec::with_capacity(rows.len()));
    beat.suspects = first.try_get::<_, Option<i16>>(3)?.map(i16::unsigned_abs);
    for row in &rows {
        if let Some(Mask(settled)) = row.try_get(1)? {
            let (token, revoked) = (row::token(row, 0)?, row::bits(row, 2)?);
            if settled.len() == revoked.len() {
                let mut open = OpenClaim::new(token, settled.len());
                open.settled = settled;
                open.revoked = revoked;
                beat.open.push(open);
            } else {
                tracing::error!(%token, "the two halves of a fence do not fit each other; an audit names it");
            }
        }
    }
    Ok(beat)
}

/// Ends the exclusivity of an open claim of a worker that is not condemned.
pub(crate) async fn end_exclusive(executor: &Executor, token: Token) -> Result<bool, Fault> {
    let rows = executor.once(Plan::Indexed, worker::END_EXCLUSIVE, &[(token.as_uuid(), Type::UUID)]).await?;
    Ok(!rows.is_empty())
}

/// Gives back whatever the worker still holds, and removes it.
pub(crate) async fn retire(
    executor: &Executor,
    settings: &Settings,
    channel: &str,
    worker: WorkerId,
    reason: &str,
) -> Result<Retired, Fault> {
    loop {
        match executor.on_another(|| try_retire(executor, settings, channel, worker, reason)).await {
            // A claim slipped in: it is given back too.
            Err(fault) if fault.is(&SqlState::FOREIGN_KEY_VIOLATION) => {}
            Err(fault) if sequence::repaired(executor, &fault).await? => {}
            other => return other,
        }
    }
}

async fn try_retire(executor: &Executor, settings: &Settings, channel: &str, worker: WorkerId, reason: &str) -> Result<Retired, Fault> {
    let (offset, reason) = (settings.clock.as_micros(), executor.text(reason).await?);
    let scope = executor.begin(Plan::Indexed).await?;
    let rows = scope
        .query(
            worker::RETIRE,
            &[
                (&offset, Type::INT8),
                (worker.as_uuid(), Type::UUID),
                (&reason, Type::TEXT),
                (&BodyFault::MISSING, Type::TEXT),
                (&settings.history, Type::BOOL),
                (&channel, Type::TEXT),
            ],
        )
        .await?;
    scope.query(worker::REMOVE, &[(worker.as_uuid(), Type::UUID)]).await?;
    scope.commit().await?;
    let released = row::count(row::only(&rows)?, 0)?;
    Ok(Retired::new(u32::try_from(released).unwrap_or(u32::MAX)))
}

fn lost(worker: WorkerId) -> Fault {
    Error::new(ErrorKind::LeaseLost, format!("worker {worker} is unknown or was condemned; go on under a new incarnation")).into()
}
