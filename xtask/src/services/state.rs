//! What `cargo xtask services up` has started, in a file of the target folder.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};
use tickr_servers::{Detached, Kind};

use super::Service;
use crate::shell::Workspace;

/// A server that was left running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) service: Service,
    pub(super) version: String,
    /// Its programs.
    pub(super) from: PathBuf,
    pub(super) url: String,
    pub(super) server: Detached,
}

/// The servers, and the file that knows them.
#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
    entries: Vec<Entry>,
}

impl State {
    pub(super) fn read(workspace: &Workspace) -> Result<Self> {
        let path = workspace.target().join("services.json");
        let entries = match fs::read_to_string(&path) {
            Ok(text) => parse(&text).with_context(|| format!("{} is damaged: stop what it names and remove it", path.display()))?,
            Err(_) => Vec::new(),
        };
        Ok(Self { path, entries })
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn get(&self, service: Service) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.service == service)
    }

    pub(super) fn add(&mut self, entry: Entry) -> Result<()> {
        self.entries.push(entry);
        self.write()
    }

    /// Stops a server; false if it was not started.
    pub(super) fn stop(&mut self, service: Service) -> Result<bool> {
        let Some(index) = self.entries.iter().position(|entry| entry.service == service) else {
            return Ok(false);
        };
        self.entries[index].server.stop()?;
        self.entries.remove(index);
        self.write()?;
        Ok(true)
    }

    /// Removes what is left of servers that ended otherwise, with the machine for instance.
    pub(super) fn forget_ended(&mut self) -> Result<()> {
        let ended: Vec<Service> = self.entries.iter().filter(|entry| !entry.server.is_running()).map(|entry| entry.service).collect();
        for service in ended {
            self.stop(service)?;
        }
        Ok(())
    }

    fn write(&self) -> Result<()> {
        let text = json!(self.entries.iter().map(to_json).collect::<Vec<_>>());
        let folder = self.path.parent().context("the target folder has no path")?;
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&self.path, format!("{text:#}\n")));
        written.with_context(|| format!("could not write {}", self.path.display()))
    }
}

fn to_json(entry: &Entry) -> Value {
    let Entry { service, version, from, url, server } = entry;
    json!({ "service": service.name(), "version": version, "from": from, "url": url, "pid": server.pid, "folder": server.folder })
}

fn parse(text: &str) -> Result<Vec<Entry>> {
    let entries: Vec<Value> = serde_json::from_str(text)?;
    entries.iter().map(|entry| from_json(entry).context("an entry is not complete")).collect()
}

fn from_json(entry: &Value) -> Option<Entry> {
    let text = |name: &str| entry[name].as_str();
    let service = Service::from_str(text("service")?, false).ok()?;
    let kind = match service {
        Service::Postgres | Service::PostgresNewest => Kind::Postgres,
        Service::Pgbouncer | Service::PgbouncerPrepared => Kind::Bouncer,
    };
    let pid = entry["pid"].as_u64()?.try_into().ok()?;
    let server = Detached { kind, pid, folder: text("folder")?.into() };
    Some(Entry { service, version: text("version")?.to_owned(), from: text("from")?.into(), url: text("url")?.to_owned(), server })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let server = Detached { kind: Kind::Bouncer, pid: 12, folder: "/tmp/tickr-1-0".into() };
        let (service, url) = (Service::Pgbouncer, "postgres://a@b:1/c".to_owned());
        let entry = Entry { service, version: "1.18".to_owned(), from: "/usr/sbin/pgbouncer".into(), url, server };
        assert_eq!(parse(&json!([to_json(&entry)]).to_string()).unwrap(), [entry]);
        assert!(parse("[{}]").is_err());
    }
}
