//! What happens to a database besides its clients: the server crashes, the network stalls.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tickr_servers::{Cluster, Stop};
use tokio::task::JoinHandle;

use crate::door;
use crate::proxy::{Cut, Proxy};

/// The server and the network of a run, as far as this program has a hand in them. A file has neither.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    server: Option<Server>,
    proxy: Option<Proxy>,
    /// Until when each line stalls.
    stalls: Vec<Option<Instant>>,
    restarts: u32,
    stalled: u32,
}

#[derive(Debug)]
enum Server {
    Up(Box<Cluster>),
    Restarting(JoinHandle<Result<Box<Cluster>>>),
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) restarts: u32,
    pub(crate) stalls: u32,
    pub(crate) cut: Cut,
}

impl Outages {
    /// A server, if it is one's own, and the lines to it.
    pub(crate) fn new(cluster: Option<Cluster>, proxy: Proxy) -> Self {
        let stalls = vec![None; proxy.ports().count()];
        Self { server: cluster.map(|cluster| Server::Up(Box::new(cluster))), proxy: Some(proxy), stalls, ..Self::default() }
    }

    /// Whether there is anything to break.
    pub(crate) fn are_possible(&self) -> bool {
        self.proxy.is_some()
    }

    /// The server, while it runs.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        match &self.server {
            Some(Server::Up(cluster)) => Some(cluster),
            _ => None,
        }
    }

    /// Ends what is over; says whether anything was.
    pub(crate) async fn tend(&mut self) -> Result<bool> {
        let mut went_on = false;
        for (line, until) in self.stalls.iter_mut().enumerate() {
            if until.is_some_and(|until| door::now() >= until) {
                *until = None;
                self.proxy.iter().for_each(|proxy| proxy.stall(line, false));
                went_on = true;
            }
        }
        if matches!(&self.server, Some(Server::Restarting(task)) if task.is_finished()) {
            self.wait_for_server().await?;
            went_on = true;
        }
        Ok(went_on)
    }

    /// Whether the server is away, or a line stalls.
    pub(crate) fn any(&self) -> bool {
        matches!(self.server, Some(Server::Restarting(_))) || self.stalls.iter().any(Option::is_some)
    }

    /// Ends the server as a crash does, and starts it again after a while.
    pub(crate) fn restart(&mut self, away: Duration) {
        self.server = match self.server.take() {
            Some(Server::Up(mut cluster)) => {
                self.restarts += 1;
                Some(Server::Restarting(tokio::task::spawn_blocking(move || {
                    cluster.stop(Stop::Immediate);
                    door::sit(away);
                    cluster.start().context("the server does not start again")?;
                    Ok(cluster)
                })))
            }
            other => other,
        };
    }

    /// Stalls a line, or all of them, for a while. A line that stalls already is left alone.
    pub(crate) fn stall(&mut self, rng: &mut fastrand::Rng, duration: Duration) {
        let Some(proxy) = &self.proxy else { return };
        let one = (rng.u32(..3) > 0).then(|| rng.usize(..self.stalls.len()));
        self.stalled += 1;
        for (line, until) in self.stalls.iter_mut().enumerate() {
            if until.is_none() && one.is_none_or(|one| one == line) {
                *until = Some(door::now() + duration);
                proxy.stall(line, true);
            }
        }
    }

    /// Ends everything.
    pub(crate) async fn end(&mut self) -> Result<()> {
        for (line, until) in self.stalls.iter_mut().enumerate() {
            *until = None;
            self.proxy.iter().for_each(|proxy| proxy.stall(line, false));
        }
        self.wait_for_server().await
    }

    async fn wait_for_server(&mut self) -> Result<()> {
        self.server = match self.server.take() {
            Some(Server::Restarting(task)) => Some(Server::Up(task.await??)),
            other => other,
        };
        Ok(())
    }

    pub(crate) fn counts(&self) -> Counts {
        let cut = self.proxy.as_ref().map(Proxy::cut).unwrap_or_default();
        Counts { restarts: self.restarts, stalls: self.stalled, cut }
    }
}
