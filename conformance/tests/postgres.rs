//! tickr-postgres under the suite, on a server of any supported version.

#[path = "support/postgres.rs"]
mod support;

struct Direct;

impl support::Server for Direct {
    const VARIABLE: &'static str = "TICKR_TEST_POSTGRES_URL";
    const USUAL: &'static [&'static str] = support::USUAL;
    const HOW: &'static str = support::HOW;
}

tickr_conformance::suite!(support::Postgres<Direct>);
