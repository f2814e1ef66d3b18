//! What a plan may not do: read of a table that grows more than is asked for.

use super::plan::{Node, Plan};

/// A table that stays small whatever the queue holds. All others grow.
const TINY: &[(&str, &str)] = &[
    ("tickr_migrations", "a row a version of the schema"),
    ("tickr_workers", "a row a process that runs"),
    ("tickr_open_claims", "a row a claim that is being handled: a few a worker"),
    ("tickr_paused", "a row an event type that is stopped"),
    ("tickr_locks", "a row a name of a lock, of which the library knows a handful"),
];

/// Columns that tell a handful of rows from all others: an index condition that says one of them equals something is a look-up.
const KEYS: &[&str] = &["id", "token", "n", "key"];

/// Nodes that take all of their input before they give anything, or cannot be stopped where one of their inputs ought to be: a
/// LIMIT above does not stop what is below.
const TAKE_ALL: &[&str] = &["Sort", "Hash", "Aggregate", "HashAggregate", "GroupAggregate", "Materialize", "HashSetOp", "WindowAgg"];

/// A statement that is not held to the rules.
#[derive(Debug)]
pub(super) struct Exception {
    statement: &'static str,
    /// Under which prelude, and made in which state; `None`: under each, in all.
    only: Option<(&'static str, &'static str)>,
    reason: &'static str,
}

const fn always(statement: &'static str, reason: &'static str) -> Exception {
    Exception { statement, only: None, reason }
}

const fn emptied(statement: &'static str, prelude: &'static str, reason: &'static str) -> Exception {
    Exception { statement, only: Some((prelude, "emptied")), reason }
}

const NO_SETTINGS: &str = "in the caller's transaction only a plan that was made while everything was empty; until the next ANALYZE";
const TRANSITIONS: &str = "with no row in transitions the planner takes the order of the primary key for as good as the index on (id, n)";
const BATCH: &str = "joins the rows of a batch by nested loops, because it expects one";
const JOINS_ALL: &str = "joins a table that it believes to be empty as a whole";

/// All of them. What is bad only after everything was emptied lasts until the tables are analysed again: autovacuum does that
/// within a minute or two after the first thousand rows.
const EXCEPTIONS: &[Exception] = &[
    always("audit/bodies", "compares everything, by design"),
    always("audit/claims", "compares everything, by design"),
    always("audit/places", "compares everything, by design"),
    always("audit/settlements", "compares everything, by design"),
    always("enqueue/messages_of_type", "for tests, whose tables are small"),
    emptied("enqueue/insert", "free", NO_SETTINGS),
    emptied("enqueue/owners", "free", NO_SETTINGS),
    emptied("claim/take", "indexed", TRANSITIONS),
    emptied("purge/bodies", "indexed", BATCH),
    emptied("purge/claims", "indexed", JOINS_ALL),
    emptied("purge/keys", "indexed", JOINS_ALL),
    emptied("admin/get", "indexed", TRANSITIONS),
    emptied("admin/list_all", "indexed", TRANSITIONS),
    emptied("admin/list_leased", "indexed", TRANSITIONS),
    emptied("admin/list_waiting", "indexed", TRANSITIONS),
    emptied("admin/transitions", "lookup", TRANSITIONS),
    emptied("admin/requeue", "indexed", JOINS_ALL),
];

/// Why a statement is not held to the rules, if so.
pub(super) fn exempt(statement: &str, prelude: &str, state: &str) -> Option<&'static str> {
    let meant = |exception: &&Exception| exception.statement == statement && exception.only.is_none_or(|only| only == (prelude, state));
    EXCEPTIONS.iter().find(meant).map(|exception| exception.reason)
}

/// Statements that may read many rows in vain: they walk an index until a page is full.
const WALKS: &[(&str, &str)] = &[
    ("admin/select_live", "a type is found by walking the ids; an operator's command"),
    ("admin/select_scheduled", "a type is found by walking the ids; an operator's command"),
    ("admin/list_waiting", "a status of thin rows, up to the limit of rows that a page may scan; an operator's command"),
    ("admin/list_all", "what succeeded is found by walking all that is newer; an operator's command"),
];

/// Ranges without a LIMIT that are meant: the index, and why.
const RANGES: &[(&str, &str)] = &[("tickr_claims_ids", "the claims of one span whose ids are around one id: no more than overlap")];

/// Rows that a scan of a table that grows may read for nothing.
const DISCARDED_MAX: u64 = 1_000;

/// Rows of a batch that may be compared in vain. A thousand of one and a thousand of the other are a million.
const COMPARED_MAX: u64 = 200_000;

/// Says what is wrong with a plan of a statement.
pub(super) fn check(statement: &str, plan: &Plan) -> Vec<String> {
    let walks = WALKS.iter().any(|(walker, _)| *walker == statement);
    let mut problems = Vec::new();
    if plan.jit {
        problems.push("is compiled just in time".to_owned());
    }
    for node in &plan.nodes {
        if node.kind.starts_with("Gather") {
            problems.push("is spread over parallel workers, which read on behind a LIMIT".to_owned());
        }
        let table = node.relation.as_deref().filter(|table| is_scan(node) && grows(table));
        let (discarded, most) = (node.discarded(), if table.is_some() { DISCARDED_MAX } else { COMPARED_MAX });
        if discarded > most && !walks {
            problems.push(format!("reads {discarded} rows for nothing: {}", shown(node)));
        }
        let Some(table) = table else { continue };
        if node.kind.ends_with("Seq Scan") {
            problems.push(format!("reads all of {table}: {}", shown(node)));
        } else if !is_look_up(node) && !is_stopped(plan, node) && !is_meant(node) {
            problems.push(format!("reads a range of {table} without a LIMIT that stops it: {}", shown(node)));
        }
    }
    problems
}

fn grows(table: &str) -> bool {
    table.starts_with("tickr_") && !TINY.iter().any(|(tiny, _)| *tiny == table)
}

fn is_scan(node: &Node) -> bool {
    node.kind.ends_with("Scan")
}

/// By the place of the row, or by an index condition on a key.
fn is_look_up(node: &Node) -> bool {
    if node.kind == "Tid Scan" {
        return true;
    }
    let condition = node.property("Index Cond").or(node.property("Recheck Cond")).unwrap_or("");
    condition.split(" AND ").any(|part| {
        let part = part.trim_start_matches('(');
        KEYS.iter().any(|key| part.strip_prefix(key).is_some_and(|rest| rest.starts_with(" = ")))
    })
}

/// A condition on an index of which ranges are meant.
fn is_meant(node: &Node) -> bool {
    node.property("Index Cond").is_some() && RANGES.iter().any(|(index, _)| node.index.as_deref() == Some(index))
}

/// Whether a LIMIT stops it.
fn is_stopped(plan: &Plan, node: &Node) -> bool {
    let joins_all = |kind: &str| kind.ends_with("Join") && (kind.starts_with("Hash ") || kind.starts_with("Merge "));
    let takes_all = |node: &Node| TAKE_ALL.contains(&node.kind.as_str()) || joins_all(&node.kind);
    plan.above(node).find(|node| node.kind == "Limit" || takes_all(node)).is_some_and(|node| node.kind == "Limit")
}

fn shown(node: &Node) -> String {
    let index = node.index.as_deref().map(|index| format!(" using {index}")).unwrap_or_default();
    format!(
        "{}{index} ({})",
        node.kind,
        node.properties.iter().filter(|line| !line.starts_with("Buffers")).cloned().collect::<Vec<_>>().join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(plan: &str) -> usize {
        check("claim/take", &Plan::parse(plan)).len()
    }

    #[test]
    fn tables_that_grow_are_not_read_as_a_whole() {
        assert_eq!(problems("Seq Scan on tickr_ready\n"), 1);
        assert_eq!(problems("Limit\n  ->  Parallel Seq Scan on tickr_ready r\n"), 1);
        assert_eq!(problems("Index Scan using tickr_messages_pkey on tickr_messages m\n"), 1);
        assert_eq!(problems("Seq Scan on tickr_workers\n"), 0);
        assert_eq!(problems("CTE Scan on gone\n"), 0);
    }

    #[test]
    fn ranges_are_stopped_by_a_limit() {
        let scan = "Index Scan using tickr_ready_pkey on tickr_ready\n          Index Cond: ((event_type = 'a'::text) AND (seq > 1))\n";
        assert_eq!(problems(&format!("Append\n  ->  {scan}")), 1);
        assert_eq!(problems(&format!("Limit\n  ->  Append\n    ->  {scan}")), 0);
        for takes_all in ["Sort", "Hash", "Aggregate", "Hash Anti Join", "Merge Join"] {
            assert_eq!(problems(&format!("Limit\n  ->  {takes_all}\n    ->  {scan}")), 1, "{takes_all}");
        }
        // The LIMIT of an outer query does not stop a subplan.
        assert_eq!(problems(&format!("Limit\n  CTE all\n    ->  {scan}")), 1);
    }

    #[test]
    fn look_ups_are_fine_anywhere() {
        let scan =
            |condition: &str| problems(&format!("Sort\n  ->  Index Scan using i on tickr_messages\n        Index Cond: {condition}\n"));
        assert_eq!(scan("(id = ANY ($1))"), 0);
        assert_eq!(scan("((event_type = u.event_type) AND (key = u.key))"), 0);
        assert_eq!(scan("(id < $1)"), 1);
        assert_eq!(scan("(ident = $1)"), 1);
        assert_eq!(problems("Sort\n  ->  Tid Scan on tickr_ready\n        TID Cond: (ctid = ANY ($1))\n"), 0);
    }

    #[test]
    fn work_in_vain_is_found() {
        let scan = |rows: u64, loops: u64| {
            let scan = format!("Index Scan using i on tickr_ready (actual rows=0 loops={loops})\n");
            problems(&format!("{scan}  Index Cond: (id = $1)\n  Filter: x\n  Rows Removed by Filter: {rows}\n"))
        };
        assert_eq!((scan(999, 1), scan(11, 100)), (0, 1));
        let walk = Plan::parse(
            "Index Scan using i on tickr_ready (actual rows=0 loops=1)\n  Index Cond: (id = $1)\n  Rows Removed by Filter: 9999\n",
        );
        assert!(check("admin/list_all", &walk).is_empty());
    }

    #[test]
    fn just_in_time_compilation_and_parallel_workers_are_found() {
        assert_eq!(problems("Result\nJIT:\n  Functions: 3\n"), 1);
        assert_eq!(problems("Gather Merge\n  Workers Planned: 2\n  ->  Result\n"), 1);
    }

    #[test]
    fn an_exception_is_for_its_state_only() {
        assert!(exempt("audit/bodies", "snapshot", "filled").is_some());
        assert!(exempt("purge/keys", "indexed", "emptied").is_some() && exempt("purge/keys", "indexed", "filled").is_none());
    }
}
