//! Counting what waits, runs and is dead, from thin tables only.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, ToSql, params};
use tickr_core::protocol::{Lane, Waiting, waiting_since};
use tickr_core::{Count, EventType, Stats, StatsRequest, Status, Timestamp, TypeStats};
use tickr_sql::sqlite::stats;

use crate::error::Fault;
use crate::journal;
use crate::pause;
use crate::row;
use crate::scope::Scope;

const LANES: [Lane; 5] = [Lane::Returned, Lane::High, Lane::Normal, Lane::Low, Lane::Suspect];

pub(crate) fn sample(scope: &Scope<'_>, request: &StatsRequest) -> Result<Stats, Fault> {
    let handling = leased_by_type(scope)?;
    let served = served_types(scope)?;
    // A name that is not UTF-8 is shown with replacements, and looked up by its bytes.
    let mut names: HashMap<EventType, Vec<u8>> = handling.keys().map(|name| (name.clone(), name.as_bytes().to_vec())).collect();
    for sql in [stats::NEXT_READY_TYPE, stats::NEXT_SCHEDULED_TYPE, stats::NEXT_DEAD_TYPE] {
        collect_types(scope, sql, &mut names)?;
    }
    let mut types = Vec::with_capacity(names.len());
    for (event_type, bytes) in names {
        let mut sample = sample_type(scope, &event_type, RawText(&bytes), request.count_max)?;
        sample.handling = Count::cut(handling.get(&event_type).copied().unwrap_or(0), request.count_max);
        sample.unserved = sample.created.plus(sample.retrying).n > 0 && !served.contains(event_type.as_str());
        types.push(sample);
    }
    types.sort_unstable_by(|a, b| a.event_type.cmp(&b.event_type));
    Ok(Stats::new(types, scope.now()).with_pauses(pause::in_force(scope)?))
}

/// Members of open claims that are still leased, by type.
fn leased_by_type(scope: &Scope<'_>) -> Result<BTreeMap<EventType, u64>, Fault> {
    let mut leased = BTreeMap::new();
    for open in journal::open_claims(scope)? {
        for index in open.leased().iter() {
            *leased.entry(open.claim.event_type(index as usize)).or_insert(0) += 1;
        }
    }
    Ok(leased)
}

fn served_types(scope: &Scope<'_>) -> Result<HashSet<String>, Fault> {
    let mut statement = scope.prepare(stats::SERVED_TYPES)?;
    let served = statement.query_map([scope.now().as_micros()], |row| Ok(row::lossy(row.get_ref(0)?).into_owned()))?;
    Ok(served.collect::<Result<_, _>>()?)
}

/// Jumps from type to type along an index.
fn collect_types(scope: &Scope<'_>, sql: &str, names: &mut HashMap<EventType, Vec<u8>>) -> Result<(), Fault> {
    let mut statement = scope.prepare(sql)?;
    // By its bytes: what is not UTF-8 must be passed by as it is, or the jump would never come behind it.
    let mut after = Vec::new();
    let name = |row: &rusqlite::Row<'_>| Ok(row.get_ref(0)?.as_bytes()?.to_vec());
    while let Some(next) = statement.query_row([RawText(&after)], name).optional()? {
        names.insert(EventType::from_stored(String::from_utf8_lossy(&next)), next.clone());
        after = next;
    }
    Ok(())
}

/// A text by its bytes.
#[derive(Clone, Copy)]
struct RawText<'a>(&'a [u8]);

impl ToSql for RawText<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// Counts one type. Each count looks at one row more than it may give, so that it knows whether there are more.
fn sample_type(scope: &Scope<'_>, event_type: &EventType, name: RawText<'_>, count_max: u32) -> Result<TypeStats, Fault> {
    let rows_max = i64::from(count_max) + 1;
    let pair = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?));
    let (mut all, mut fresh, mut suspects) = (0_u64, 0_u64, 0_u64);
    let mut count_ready = scope.prepare(stats::COUNT_READY)?;
    let mut oldest: Option<Timestamp> = None;
    for lane in LANES {
        let (rows, untried) = count_ready.query_row(params![name, lane.as_i16(), rows_max], pair)?;
        all += u64::from(rows);
        fresh += u64::from(untried);
        if lane == Lane::Suspect {
            suspects = u64::from(rows);
        }
        if rows > 0 {
            let first = oldest_in(scope, name, lane)?;
            oldest = [oldest, first].into_iter().flatten().min();
        }
    }
    let ready = all;
    let (rows, untried) = scope.prepare(stats::COUNT_SCHEDULED)?.query_row(params![name, rows_max], pair)?;
    all += u64::from(rows);
    fresh += u64::from(untried);
    let dead: u32 = scope.prepare(stats::COUNT_DEAD)?.query_row(params![name, rows_max], |row| row.get(0))?;
    debug_assert_eq!(Waiting::new(Lane::Normal, 0).status(), Status::Created, "as the statements count");
    let mut sample = TypeStats::new(event_type.clone());
    sample.created = Count::cut(fresh, count_max);
    sample.retrying = Count::cut(all - fresh, count_max);
    sample.dead = Count::cut(u64::from(dead), count_max);
    sample.ready = Count::cut(ready, count_max);
    sample.suspects = Count::cut(suspects, count_max);
    sample.oldest_ready = oldest.map(|at| scope.now().since(at));
    Ok(sample)
}

fn oldest_in(scope: &Scope<'_>, event_type: RawText<'_>, lane: Lane) -> Result<Option<Timestamp>, Fault> {
    let mut statement = scope.prepare(stats::OLDEST_IN_LANE)?;
    let times = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, Option<i64>>(2)?));
    let first = statement.query_row(params![event_type, lane.as_i16()], times).optional()?;
    Ok(first.map(|(created_at, scheduled_at, came_back_at)| {
        let [scheduled_at, came_back_at] = [scheduled_at, came_back_at].map(|at| at.map(Timestamp::from_micros));
        waiting_since(scope.now(), Timestamp::from_micros(created_at), scheduled_at, came_back_at)
    }))
}
