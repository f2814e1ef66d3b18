//! The servers of one run of the tests.

use std::env;

use anyhow::{Context, Result};
use tickr_servers::{Bouncer, Cluster};

use super::scratch::{Reach, Scratch};
use super::{Lack, Service, bouncer, newest, system};

/// The targets of the conformance suite that need a server. One that does not exist needs none.
const TARGETS: &[(&str, &[Service])] = &[
    ("postgres", &[Service::Postgres]),
    ("postgres_partitioned", &[Service::Postgres]),
    ("postgres_newest", &[Service::PostgresNewest]),
    ("pgbouncer", &[Service::Postgres, Service::Pgbouncer]),
    ("pgbouncer_prepared", &[Service::Postgres, Service::PgbouncerPrepared]),
];

/// The names of all targets that need a server.
pub(super) fn targets() -> impl Iterator<Item = &'static str> {
    TARGETS.iter().map(|(target, _)| *target)
}

/// The servers that the targets need, each after what it stands on.
pub(crate) fn needs<'a>(targets: impl Iterator<Item = &'a str>) -> Vec<Service> {
    let services = |target| TARGETS.iter().filter(move |(name, _)| *name == target).flat_map(|(_, services)| services.iter().copied());
    let mut needs: Vec<Service> = targets.flat_map(services).collect();
    needs.sort_unstable();
    needs.dedup();
    needs
}

/// Variables that tell tests where their servers are.
pub(crate) type Environment = Vec<(&'static str, String)>;

/// Servers that are there as long as this is. What it started is stopped, and what it made on others removed, when it is dropped, and
/// also when the process is ended.
#[derive(Debug, Default)]
pub(crate) struct Provision {
    environment: Environment,
    // Dropped in this order, what stands on others first.
    _bouncers: Vec<Bouncer>,
    _newest: Option<Cluster>,
    _scratch: Option<Scratch>,
    _cluster: Option<Cluster>,
}

impl Provision {
    /// Finds or starts a server for each need: one that a variable names, a database of its own on a server of this machine, or a
    /// throw-away server; what is missing for that is installed, if allowed, or fetched.
    pub(crate) fn of(needs: &[Service], install: bool) -> Result<Self> {
        let mut provision = Self::default();
        needs.iter().try_for_each(|&service| provision.add(service, needs, install))?;
        Ok(provision)
    }

    /// As [`Self::of`], without the servers that cannot be had. Those are returned, each with the reason.
    pub(crate) fn as_far_as_possible(needs: &[Service], install: bool) -> (Self, Vec<Lack>) {
        let (mut provision, mut lacks) = (Self::default(), Vec::new());
        for &service in needs {
            if let Err(error) = provision.add(service, needs, install) {
                lacks.push(Lack::of(service, &error));
            }
        }
        (provision, lacks)
    }

    fn add(&mut self, service: Service, needs: &[Service], install: bool) -> Result<()> {
        if given(service).is_some() {
            println!("{}: as {} says", service.name(), service.variable());
            return Ok(());
        }
        let url = match service {
            Service::Postgres => self.postgres(needs.iter().any(|need| need.is_bouncer()), install),
            Service::PostgresNewest => self.postgres_newest(install),
            Service::Pgbouncer | Service::PgbouncerPrepared => self.pgbouncer(service, install),
        };
        let url = url.with_context(|| service.missing())?;
        self.environment.push((service.variable(), url));
        Ok(())
    }

    /// The variables to set, beside those that are set already.
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The URL of a service: the one that is set, or that of the server that was found or started.
    pub(crate) fn url(&self, service: Service) -> Option<String> {
        let made = self.environment.iter().find(|(name, _)| *name == service.variable());
        given(service).or_else(|| made.map(|(_, url)| url.clone()))
    }

    /// PgBouncer runs as another user, whom a server on a unix socket may not let in.
    fn postgres(&mut self, by_tcp: bool, install: bool) -> Result<String> {
        let reach = if by_tcp { Reach::Tcp } else { Reach::Any };
        if let Some(scratch) = Scratch::make(reach)? {
            println!("postgres: {scratch}");
            let url = scratch.url();
            self._scratch = Some(scratch);
            return Ok(url);
        }
        let cluster = Cluster::builder().binaries(system(install)?).start()?;
        println!("postgres: a throw-away PostgreSQL {} on port {}", cluster.version(), cluster.port());
        let url = cluster.url("postgres");
        self._cluster = Some(cluster);
        Ok(url)
    }

    fn postgres_newest(&mut self, install: bool) -> Result<String> {
        let cluster = Cluster::builder().binaries(newest(install)?).start()?;
        println!("postgres-newest: a throw-away PostgreSQL {} on port {}", cluster.version(), cluster.port());
        let url = cluster.url("postgres");
        self._newest = Some(cluster);
        Ok(url)
    }

    fn pgbouncer(&mut self, service: Service, install: bool) -> Result<String> {
        let upstream = self.url(Service::Postgres).context("there is no server for PgBouncer to stand before")?;
        let (bouncer, _) = bouncer(service, &upstream, install)?;
        println!("{}: a throw-away PgBouncer {} on port {}", service.name(), bouncer.version(), bouncer.port());
        let (_, database) = tickr_servers::Address::parse(&upstream)?;
        let url = bouncer.url(&database);
        self._bouncers.push(bouncer);
        Ok(url)
    }
}

/// The URL that is set for a service.
pub(super) fn given(service: Service) -> Option<String> {
    env::var(service.variable()).ok().filter(|url| !url.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_targets_that_exist_need_servers() {
        assert_eq!(needs(["memory", "sqlite"].into_iter()), []);
        assert_eq!(needs(["memory", "postgres_newest"].into_iter()), [Service::PostgresNewest]);
    }

    #[test]
    fn a_server_is_needed_once_and_after_what_it_stands_on() {
        let all = ["pgbouncer_prepared", "pgbouncer", "postgres", "postgres_partitioned"];
        assert_eq!(needs(all.into_iter()), [Service::Postgres, Service::Pgbouncer, Service::PgbouncerPrepared]);
    }

    #[test]
    fn a_target_needs_the_bouncer_of_its_kind() {
        assert_eq!(needs(["pgbouncer"].into_iter()), [Service::Postgres, Service::Pgbouncer]);
        assert_eq!(needs(["pgbouncer_prepared"].into_iter()), [Service::Postgres, Service::PgbouncerPrepared]);
    }

    #[test]
    fn what_is_missing_is_told_with_the_variable_to_set() {
        let said = Service::PgbouncerPrepared.missing();
        assert_eq!(said, "no server for pgbouncer-prepared (set TICKR_TEST_PGBOUNCER_PREPARED_URL to use one of yours)");
    }

    #[test]
    fn throw_away_servers_are_gone_with_the_provision() {
        let mut provision = Provision::default();
        let cluster = Cluster::builder().start().unwrap();
        provision.environment.push((Service::Postgres.variable(), cluster.url("postgres")));
        let mut folders = vec![cluster.folder().to_path_buf()];
        provision._cluster = Some(cluster);
        if given(Service::Postgres).is_none() {
            provision.pgbouncer(Service::Pgbouncer, false).unwrap();
            folders.extend(provision._bouncers.iter().map(|bouncer| bouncer.folder().to_path_buf()));
        }
        assert!(folders.iter().all(|folder| folder.exists()));
        drop(provision);
        assert!(!folders.iter().any(|folder| folder.exists()));
    }
}
