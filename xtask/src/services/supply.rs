//! Programs that tests start by themselves: found, or fetched before anything is compiled.

use anyhow::Error;
use tickr_servers::{Bouncer, Package};

use super::{Service, has, newest, provision};

/// What tests need beside a compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A server that a variable names or that `cargo xtask test` starts.
    Server(Service),
    /// The programs of PostgreSQL, for tests that start servers of their own.
    Postgres,
    /// The program of PgBouncer, for the same.
    Bouncer,
    /// `prometheus` and `promtool`.
    Prometheus,
}

/// Tests that start programs, by the id of their binary and the beginning of their paths. The targets of the conformance suite are in
/// `provision`.
const TESTS: &[(&str, &str, Need)] = &[
    ("orders::observed", "observed::prometheus::", Need::Prometheus),
    ("tickr-crash::crash", "crash::postgres::", Need::Postgres),
    ("tickr-postgres::postgres", "", Need::Postgres),
    ("tickr-servers::it", "", Need::Postgres),
    ("tickr-servers::it", "bouncer::", Need::Bouncer),
    ("xtask::bin/xtask", "services::provision::tests::throw_away_servers_", Need::Postgres),
    ("xtask::bin/xtask", "services::provision::tests::throw_away_servers_", Need::Bouncer),
];

/// Something that tests need, and this machine has not.
#[derive(Clone, Debug)]
pub(crate) struct Lack {
    need: Need,
    /// What was tried, and how to get it by hand.
    pub(crate) reason: String,
}

impl Lack {
    /// Why a server cannot be had.
    pub(super) fn of(service: Service, error: &Error) -> Self {
        let command = match service {
            Service::Postgres => Package::Postgres.command(),
            Service::Pgbouncer => Package::Bouncer.command(),
            Service::PostgresNewest if !Package::Pip.is_there() => Package::Pip.command(),
            Service::PostgresNewest | Service::PgbouncerPrepared => format!("cargo xtask services up {}", service.name()),
        };
        Self { need: Need::Server(service), reason: reason(error, &command) }
    }

    /// True if all tests of a target of the conformance suite need it.
    fn is_of_target(&self, target: &str) -> bool {
        matches!(self.need, Need::Server(service) if provision::needs([target].into_iter()).contains(&service))
    }
}

/// What is lacking for the tests of a binary: each with the beginning of the paths of those tests.
pub(crate) fn lacks<'a>(lacks: &'a [Lack], binary: &str, conformance: Option<&str>) -> Vec<(&'static str, &'a Lack)> {
    let of_tests = TESTS.iter().filter(|(id, ..)| *id == binary);
    let of_tests = of_tests.flat_map(|(_, prefix, need)| lacks.iter().filter(|lack| lack.need == *need).map(|lack| (*prefix, lack)));
    let of_target = lacks.iter().filter(|lack| conformance.is_some_and(|target| lack.is_of_target(target))).map(|lack| ("", lack));
    of_target.chain(of_tests).collect()
}

/// Has all programs: installed, if that is allowed, or fetched into the user's cache folder. Returns what cannot be had.
pub(crate) fn supply(install: bool) -> Vec<Lack> {
    let mut lacks = Vec::new();
    for (need, package) in [(Need::Postgres, Package::Postgres), (Need::Bouncer, Package::Bouncer), (Need::Prometheus, Package::Prometheus)]
    {
        if let Err(error) = get(package, install) {
            lacks.push(Lack { need, reason: reason(&error, &package.command()) });
        }
    }
    for service in [Service::PostgresNewest, Service::PgbouncerPrepared] {
        let fetched = match service {
            _ if provision::given(service).is_some() => Ok(()),
            Service::PostgresNewest => newest(install).map(drop),
            _ => Bouncer::fetch_newest().map(drop),
        };
        if let Err(error) = fetched {
            lacks.push(Lack::of(service, &error));
        }
    }
    lacks
}

fn get(package: Package, install: bool) -> anyhow::Result<()> {
    if !install && !package.is_there() {
        println!("{} is not installed: it is taken from the cache folder, or fetched", package.name());
    }
    has(package, install)
}

/// On one line, as it stands in the report.
fn reason(error: &Error, command: &str) -> String {
    let error = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{error}. To run these tests: {command}")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn lack(need: Need) -> Lack {
        Lack { need, reason: String::new() }
    }

    #[test]
    fn only_the_tests_that_need_it_lack_it() {
        let all = [lack(Need::Prometheus), lack(Need::Bouncer)];
        assert_eq!(lacks(&all, "tickr-servers::it", None).iter().map(|(prefix, _)| *prefix).collect::<Vec<_>>(), ["bouncer::"]);
        assert!(lacks(&all, "tickr-core", None).is_empty());
    }

    #[test]
    fn a_target_lacks_what_its_server_stands_on() {
        let all = [lack(Need::Server(Service::Postgres))];
        assert_eq!(lacks(&all, "tickr-conformance::pgbouncer", Some("pgbouncer")).len(), 1);
        assert_eq!(lacks(&all, "tickr-conformance::sqlite", Some("sqlite")).len(), 0);
    }

    #[test]
    fn the_reason_is_one_line_with_the_command() {
        let lack = Lack::of(Service::PgbouncerPrepared, &anyhow!("no\n  network"));
        assert_eq!(lack.reason, "no network. To run these tests: cargo xtask services up pgbouncer-prepared");
    }
}
