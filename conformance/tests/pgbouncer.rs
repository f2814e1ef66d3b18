//! tickr-postgres under the suite, through a PgBouncer in transaction mode that knows no prepared statements.

#[path = "support/postgres.rs"]
mod support;

struct Pooled;

impl support::Server for Pooled {
    const VARIABLE: &'static str = "TICKR_TEST_PGBOUNCER_URL";
    const HOW: &'static str = "name a scratch database behind a PgBouncer, or let `cargo xtask services up pgbouncer` start one";

    fn configure(builder: tickr_postgres::Builder) -> tickr_postgres::Builder {
        builder.listen(false).prepared_statements(false)
    }
}

tickr_conformance::suite!(support::Postgres<Pooled>, without: [
    notify::other_handles_are_woken = "a pooler in transaction mode has no sessions, and so no LISTEN; workers poll",
]);
