//! Pauses: the rows of `paused`. Claims compare their ends with the clock.

use std::borrow::Cow;

use rusqlite::params;
use rusqlite::types::ValueRef;
use tickr_core::{EventType, Pause, PauseRequest, PauseScope, Timestamp};
use tickr_sql::sqlite::{admin, queue, stats};

use crate::error::Fault;
use crate::row;
use crate::scope::Scope;

/// Stores a pause; says whether claims of its scope were allowed before.
pub(crate) fn pause(scope: &Scope<'_>, request: &PauseRequest) -> Result<bool, Fault> {
    let pause = request.check(scope.now())?;
    scope.writes(admin::FORGET_PAUSES, [scope.now().as_micros()])?;
    let paused_before = in_force(scope)?.iter().any(|pause| pause.scope == *request.scope());
    let until = pause.until.map(Timestamp::as_micros);
    let row = params![request.scope().key()?, pause.since.as_micros(), until, pause.by, pause.reason, request.keeps_longer()];
    scope.writes(admin::PAUSE, row)?;
    Ok(!paused_before)
}

/// Ends a pause; says whether it was in force.
pub(crate) fn resume(scope: &mut Scope<'_>, paused: &PauseScope) -> Result<bool, Fault> {
    scope.writes(admin::FORGET_PAUSES, [scope.now().as_micros()])?;
    if let PauseScope::Type(event_type) = paused {
        scope.note_ready(event_type);
    }
    Ok(scope.writes(admin::RESUME, [paused.key()?])? == 1)
}

/// Whether a type is not to be claimed now.
pub(crate) fn is_paused(scope: &Scope<'_>, event_type: &EventType) -> Result<bool, Fault> {
    scope.asks(queue::IS_PAUSED, params![event_type.as_str(), scope.now().as_micros()])
}

/// The pauses in force: that of everything first, then types by name.
pub(crate) fn in_force(scope: &Scope<'_>) -> Result<Vec<Pause>, Fault> {
    let mut statement = scope.prepare(stats::PAUSES)?;
    let mut rows = statement.query([scope.now().as_micros()])?;
    let mut pauses = Vec::new();
    while let Some(row) = rows.next()? {
        let until = row.get::<_, Option<i64>>(2)?.map(Timestamp::from_micros);
        let mut pause = Pause::new(PauseScope::from_stored(&row::lossy(row.get_ref(0)?)), Timestamp::from_micros(row.get(1)?), until);
        let text = |column| Ok::<_, rusqlite::Error>(Some(row.get_ref(column)?).filter(|text| *text != ValueRef::Null).map(row::lossy));
        (pause.by, pause.reason) = (text(3)?.map(Cow::into_owned), text(4)?.map(Cow::into_owned));
        pauses.push(pause);
    }
    Ok(pauses)
}
