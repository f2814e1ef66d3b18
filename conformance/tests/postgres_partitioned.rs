//! tickr-postgres under the suite, in the partitioned layout.

use std::time::Duration;

#[path = "support/postgres.rs"]
mod support;

struct Partitioned;

impl support::Server for Partitioned {
    const VARIABLE: &'static str = "TICKR_TEST_POSTGRES_URL";
    const USUAL: &'static [&'static str] = support::USUAL;
    const HOW: &'static str = support::HOW;

    fn configure(builder: tickr_postgres::Builder) -> tickr_postgres::Builder {
        builder.partitioned(Duration::from_secs(86_400))
    }
}

tickr_conformance::suite!(support::Postgres<Partitioned>);
