//! tickr-postgres under the suite, on the newest major version of PostgreSQL.

#[path = "support/postgres.rs"]
mod support;

struct Newest;

impl support::Server for Newest {
    const VARIABLE: &'static str = "TICKR_TEST_POSTGRES_NEWEST_URL";
    const HOW: &'static str = "name a scratch database of it, or let `cargo xtask services up postgres-newest` start one";
}

tickr_conformance::suite!(support::Postgres<Newest>);
