//! tickr-postgres under the suite, through a PgBouncer in transaction mode that follows prepared statements (1.21 or later).

#[path = "support/postgres.rs"]
mod support;

struct Prepared;

impl support::Server for Prepared {
    const VARIABLE: &'static str = "TICKR_TEST_PGBOUNCER_PREPARED_URL";
    const HOW: &'static str = "name a scratch database behind a PgBouncer 1.21 or later with max_prepared_statements above 0, or let \
                               `cargo xtask services up pgbouncer-prepared` start one";

    fn configure(builder: tickr_postgres::Builder) -> tickr_postgres::Builder {
        builder.listen(false).prepared_statements(true)
    }
}

tickr_conformance::suite!(support::Postgres<Prepared>, without: [
    notify::other_handles_are_woken = "a pooler in transaction mode has no sessions, and so no LISTEN; workers poll",
]);
