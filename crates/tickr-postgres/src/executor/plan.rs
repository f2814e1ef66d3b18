//! How transactions begin.

use std::time::Duration;

use tickr_sql::postgres::{Names, prelude};

/// How a transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// As the planner likes.
    Free,
    /// By indexes, in their order, with a plan that is made once a connection.
    Indexed,
    /// One snapshot for several statements, which only read, by indexes.
    Lookup,
    /// One snapshot for several statements, which only read, and everything; however long it takes.
    Snapshot,
    /// As the planner likes, however long it takes: migrations.
    Patient,
}

/// The scripts that begin transactions, one for each plan.
#[derive(Debug)]
pub(super) struct Preludes {
    free: String,
    indexed: String,
    lookup: String,
    snapshot: String,
    patient: String,
}

impl Preludes {
    /// `limit` is how long the server may take for a statement, and how long it waits for the next one.
    pub(super) fn new(limit: Duration) -> Self {
        let ms = limit.as_millis();
        let limits = format!(
            "SET LOCAL statement_timeout = {ms}; SET LOCAL idle_in_transaction_session_timeout = {ms}; SET LOCAL lock_timeout = 0;\n"
        );
        // Without the comments. The check comes last: what is set before it is not read, and it takes the snapshot.
        let script = |prelude, limits: &str| {
            let names = Names::default();
            names.render(prelude) + limits + &names.render(prelude::CHECK)
        };
        Self {
            free: script(prelude::FREE, &limits),
            indexed: script(prelude::INDEXED, &limits),
            lookup: script(prelude::LOOKUP, &limits),
            snapshot: script(prelude::SNAPSHOT, ""),
            patient: script(prelude::PATIENT, "SET LOCAL lock_timeout = 0;\n"),
        }
    }

    pub(super) fn of(&self, plan: Plan) -> &str {
        match plan {
            Plan::Free => &self.free,
            Plan::Indexed => &self.indexed,
            Plan::Lookup => &self.lookup,
            Plan::Snapshot => &self.snapshot,
            Plan::Patient => &self.patient,
        }
    }
}
