//! Retention: deleting what has been kept for long enough.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};

use rusqlite::params;
use tickr_core::{MessageId, PurgeRequest, Purged, Timestamp, Token};
use tickr_sql::sqlite::purge;

use crate::error::Fault;
use crate::journal;
use crate::row;
use crate::scope::Scope;

/// Where the last purge of this handle stopped looking. What must stay (transitions of messages that live, keys that still
/// serve) is passed over page by page instead of hiding what is behind it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursors {
    transition: i64,
    key: (i64, String, String),
}

/// What a purge deletes, in this order: the position up to which bodies are purged decides which claims may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bodies,
    Dead,
    Claims,
    Transitions,
    Keys,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Bodies, Self::Dead, Self::Claims, Self::Transitions, Self::Keys];
}

/// Purges the given kinds. The cursors count once the transaction has committed.
pub(crate) fn purge(scope: &Scope<'_>, request: &PurgeRequest, kinds: &[Kind], cursors: &mut Cursors) -> Result<Purged, Fault> {
    let (retention, limit) = (request.retention, request.limit);
    let before = |keep| scope.now().before(keep);
    let mut purged = Purged::default();
    for kind in kinds {
        match (kind, retention.dead, retention.history) {
            (Kind::Bodies, ..) => bodies(scope, before(retention.success), limit, &mut purged)?,
            (Kind::Dead, Some(keep), _) => dead(scope, before(keep), limit, &mut purged)?,
            (Kind::Claims, _, Some(keep)) => claims(scope, before(keep), Position::read(scope)?, limit, &mut purged)?,
            (Kind::Transitions, _, Some(keep)) => transitions(scope, before(keep), limit, cursors, &mut purged)?,
            (Kind::Keys, ..) => keys(scope, limit, cursors, &mut purged)?,
            // Kept for ever.
            (Kind::Dead | Kind::Claims | Kind::Transitions, ..) => {}
        }
    }
    Ok(purged)
}

/// Adds up what kinds purged by themselves.
pub(crate) fn add(sum: &mut Purged, purged: Purged) {
    sum.bodies += purged.bodies;
    sum.dead += purged.dead;
    sum.journal += purged.journal;
    sum.keys += purged.keys;
    sum.more |= purged.more;
}

/// How far bodies were purged. It is kept in the database, so that no success proves twice: the same id may have been
/// enqueued again since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// The row of settlements.
    settlement: i64,
    /// The member of that row's claim.
    member: u32,
}

impl Position {
    pub(crate) fn read(scope: &Scope<'_>) -> Result<Self, Fault> {
        let mut statement = scope.prepare(purge::READ_CURSOR)?;
        Ok(statement.query_row([], |row| Ok(Self { settlement: row.get(0)?, member: row.get(1)? }))?)
    }

    /// From which member on a row of settlements still proves successes; `None` when all it proved was purged.
    pub(crate) fn first_member(self, settlement: i64) -> Option<u32> {
        match settlement.cmp(&self.settlement) {
            Ordering::Less => None,
            Ordering::Equal => Some(self.member),
            Ordering::Greater => Some(0),
        }
    }

    /// Whether a success still stands for a body: the one that it proved was not purged yet.
    pub(crate) fn leaves(self, settlement: i64, member: u32) -> bool {
        Self { settlement, member } >= self
    }
}

/// Bodies of what succeeded, in the order of the successes.
fn bodies(scope: &Scope<'_>, cutoff: Timestamp, limit: u32, purged: &mut Purged) -> Result<(), Fault> {
    let started_at = Position::read(scope)?;
    let mut position = started_at;
    let mut delete = scope.prepare(purge::DELETE_BODY)?;
    let mut statement = scope.prepare(purge::SETTLEMENTS_AFTER)?;
    let mut rows = statement.query([position.settlement])?;
    'settlements: while let Some(row) = rows.next()? {
        if row::timestamp(row, 1)? > cutoff {
            break;
        }
        let settlement = row.get(0)?;
        if row.get(2)? {
            // Of a claim whose ids cannot be read nobody knows what it proves.
            let ids = row::ids(row::blob(row, 4)?).unwrap_or_default();
            let mask = row::bits(row, 3, u32::try_from(ids.len()).unwrap_or(u32::MAX))?;
            for member in mask.iter().filter(|member| started_at.leaves(settlement, *member)) {
                if purged.bodies >= u64::from(limit) {
                    position = Position { settlement, member };
                    purged.more = true;
                    break 'settlements;
                }
                purged.bodies += delete.execute([ids[member as usize].as_bytes().as_slice()])? as u64;
            }
        }
        position = Position { settlement: settlement + 1, member: 0 };
    }
    if position != started_at {
        scope.writes(purge::WRITE_CURSOR, params![position.settlement, position.member])?;
    }
    Ok(())
}

/// Dead letters, each with its body.
fn dead(scope: &Scope<'_>, cutoff: Timestamp, limit: u32, purged: &mut Purged) -> Result<(), Fault> {
    let mut statement = scope.prepare(purge::DEAD_BEFORE)?;
    let mut rows = statement.query(params![cutoff.as_micros(), limit])?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        ids.push(row::message_id(row, 0)?);
    }
    for id in &ids {
        scope.writes(purge::DELETE_DEAD, [id.as_bytes().as_slice()])?;
        scope.writes(purge::DELETE_BODY, [id.as_bytes().as_slice()])?;
    }
    purged.dead = ids.len() as u64;
    purged.more |= ids.len() as u64 >= u64::from(limit);
    Ok(())
}

/// Claims that are closed and whose settlements are all old, with these settlements.
fn claims(scope: &Scope<'_>, cutoff: Timestamp, used: Position, limit: u32, purged: &mut Purged) -> Result<(), Fault> {
    let mut statement = scope.prepare(purge::JOURNAL_BEFORE)?;
    let mut rows = statement.query(params![cutoff.as_micros(), used.settlement])?;
    let mut tokens: BTreeSet<Token> = BTreeSet::new();
    while let Some(row) = rows.next()? {
        if row::timestamp(row, 1)? > cutoff || tokens.len() >= limit as usize {
            break;
        }
        if row.get(2)? {
            tokens.insert(row::token(row, 0)?);
        }
    }
    for token in &tokens {
        let settlements = scope.writes(purge::DELETE_SETTLEMENTS, [token.as_bytes().as_slice()])?;
        let claims = scope.writes(purge::DELETE_CLAIM, [token.as_bytes().as_slice()])?;
        purged.journal += (settlements + claims) as u64;
    }
    purged.more |= tokens.len() as u64 >= u64::from(limit);
    Ok(())
}

/// Old transitions of messages whose body is gone.
fn transitions(scope: &Scope<'_>, cutoff: Timestamp, limit: u32, cursors: &mut Cursors, purged: &mut Purged) -> Result<(), Fault> {
    let mut statement = scope.prepare(purge::TRANSITIONS_AFTER)?;
    let mut rows = statement.query(params![cursors.transition, limit])?;
    let mut looked_at = 0;
    let mut gone: Vec<i64> = Vec::new();
    let mut at_the_end = true;
    while let Some(row) = rows.next()? {
        at_the_end = row::timestamp(row, 1)? > cutoff;
        if at_the_end {
            break;
        }
        looked_at += 1;
        cursors.transition = row.get(0)?;
        at_the_end = looked_at < limit;
        if !row.get::<_, bool>(2)? {
            gone.push(cursors.transition);
        }
    }
    for n in &gone {
        scope.writes(purge::DELETE_TRANSITION, [n])?;
    }
    purged.journal += gone.len() as u64;
    if at_the_end {
        cursors.transition = 0;
    } else {
        purged.more = true;
    }
    Ok(())
}

/// Expired idempotency keys of messages that do not live.
fn keys(scope: &Scope<'_>, limit: u32, cursors: &mut Cursors, purged: &mut Purged) -> Result<(), Fault> {
    let mut statement = scope.prepare(purge::KEYS_AFTER)?;
    let (expired, event_type, key) = &cursors.key;
    let mut rows = statement.query(params![scope.now().as_micros(), expired, event_type, key, limit])?;
    let mut page: Vec<(String, String, MessageId, bool)> = Vec::new();
    let mut last = None;
    while let Some(row) = rows.next()? {
        let (event_type, key): (String, String) = (row.get(0)?, row.get(1)?);
        last = Some((row.get(3)?, event_type.clone(), key.clone()));
        page.push((event_type, key, row::message_id(row, 2)?, row.get(4)?));
    }
    drop(rows);
    let leased = if page.is_empty() { HashSet::new() } else { leased_ids(scope)? };
    for (event_type, key, ..) in page.iter().filter(|(_, _, id, live)| !live && !leased.contains(id)) {
        purged.keys += scope.writes(purge::DELETE_KEY, [event_type, key])? as u64;
    }
    let full = page.len() as u64 >= u64::from(limit);
    purged.more |= full;
    cursors.key = last.filter(|_| full).unwrap_or_default();
    Ok(())
}

/// The members of all open claims that are still leased.
fn leased_ids(scope: &Scope<'_>) -> Result<HashSet<MessageId>, Fault> {
    let open = journal::open_claims(scope)?;
    Ok(open.iter().flat_map(|open| open.leased().iter().map(|index| open.claim.ids[index as usize]).collect::<Vec<_>>()).collect())
}
