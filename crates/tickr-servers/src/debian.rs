//! PgBouncer out of the packages of a newer Debian, which no older one has: with its own libraries and dynamic linker it runs on any,
//! and nothing is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, program};

/// The release that it is taken of.
const SUITE: &str = "trixie";

/// PgBouncer, and what has the libraries that it loads.
const PACKAGES: &[&str] = &[
    "pgbouncer",
    "libaudit1",
    "libc6",
    "libcap-ng0",
    "libcap2",
    "libcares2",
    "libevent-2.1-7t64",
    "libpam0g",
    "libssl3t64",
    "libsystemd0",
    "libzstd1",
    "zlib1g",
];

/// By what the packages are known to be Debian's.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What else than by its name a release is called in sources of apt.
const ALIASES: &[&str] = &["oldstable", "stable", "testing", "unstable", "sid"];

/// The file of apt's settings.
const CONFIGURATION: &str = "apt.conf";

/// The program, in the folder.
pub(crate) const PROGRAM: &str = "pgbouncer";

/// Where it is unpacked: it may be there or not.
pub(crate) fn folder() -> Result<PathBuf> {
    cache::folder(&format!("pgbouncer-{SUITE}"))
}

/// Unpacks it, unless it is there.
pub(crate) fn fetch() -> Result<()> {
    cache::fill(&folder()?, |part| {
        let work = part.join("fetch");
        fs::create_dir_all(&work).with_context(|| format!("could not make {}", work.display()))?;
        download(&work)?;
        trim(&unpack(&work)?, part)?;
        program::output(Command::new(part.join(PROGRAM)).arg("--version"))?;
        fs::remove_dir_all(&work).with_context(|| format!("could not remove {}", work.display()))
    })
}

/// Has apt fetch and verify the packages, from where this machine has its own.
fn download(work: &Path) -> Result<()> {
    if program::find("apt-get").is_none() {
        bail!("it comes by apt-get, which is not on this machine");
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = codename(&release).context("it comes from a mirror of Debian, and this machine has another system")?;
    // What they have is not known where their lists are not there, as in images of containers.
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--no-release-info", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages", "Component: main"]);
    let mut outcome = Err(anyhow::anyhow!("it comes from a mirror of Debian, and apt's sources here name none"));
    for mirror in mirrors(&program::output(&mut targets)?, codename) {
        outcome = update(work, mirror);
        if outcome.is_ok() {
            break;
        }
    }
    outcome?;
    program::output(apt(work).arg("download").args(PACKAGES))?;
    Ok(())
}

/// Gets to know what the release has on that mirror.
fn update(work: &Path, mirror: &str) -> Result<()> {
    for folder in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(work.join(folder)).context("could not make a folder for apt")?;
    }
    let source = format!("deb [signed-by={KEYRING} target=Packages] {mirror} {SUITE} main\n");
    let files = [("sources.list", source), ("status", String::new()), (CONFIGURATION, configuration(work))];
    for (name, text) in files {
        fs::write(work.join(name), text).with_context(|| format!("could not write apt's {name}"))?;
    }
    program::output(apt(work).arg("update"))?;
    Ok(())
}

/// An apt that knows of nothing outside of the folder.
fn apt(work: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command.current_dir(work).env("LC_ALL", "C").args(["-qq", "-c", CONFIGURATION]);
    command
}

/// Sources, lists and an empty system of its own; how to get through to a mirror stays as the machine has it.
/// Each is described in apt.conf(5).
fn configuration(work: &Path) -> String {
    let work = work.display();
    format!(
        r#"
Dir::Etc::sourcelist "{work}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "{work}/lists";
Dir::State::status "{work}/status";
Dir::Cache::archives "{work}/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Default-Release "{SUITE}";
// Else a failure is a warning.
APT::Update::Error-Mode "any";
// The user as whom root downloads otherwise cannot enter root's folders.
APT::Sandbox::User "root";
"#
    )
}

/// The name of this machine's release, if it is one of Debian.
fn codename(os_release: &str) -> Option<&str> {
    let value = |name: &str| os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(|v| v.trim_matches('"'));
    value("ID").filter(|&id| id == "debian").and_then(|_| value("VERSION_CODENAME"))
}

/// Addresses from which the machine gets its own release: Debian's mirror is one of them.
fn mirrors<'a>(targets: &'a str, codename: &str) -> Vec<&'a str> {
    let mut mirrors: Vec<&str> = Vec::new();
    for (mirror, release) in targets.lines().filter_map(|line| line.split_once(' ')) {
        if (release == codename || ALIASES.contains(&release)) && !mirrors.contains(&mirror) {
            mirrors.push(mirror);
        }
    }
    mirrors
}

fn unpack(work: &Path) -> Result<PathBuf> {
    let root = work.join("root");
    for package in entries(work)?.iter().filter(|file| file.extension().is_some_and(|extension| extension == "deb")) {
        program::output(Command::new("dpkg-deb").arg("-x").arg(package).arg(&root))?;
    }
    Ok(root)
}

/// Takes what the program needs, and a script that starts it: as one program it can be run like any other.
fn trim(root: &Path, to: &Path) -> Result<()> {
    let (original, linker) = (root.join("usr/sbin/pgbouncer"), linker(root)?);
    let folder = linker.parent().context("a dynamic linker in no folder")?;
    let mut list = Command::new(&linker);
    list.arg("--inhibit-cache").arg("--library-path").arg(folder).arg("--list").arg(&original);
    for library in loaded(&program::output(&mut list)?) {
        if !library.starts_with(root) {
            bail!("PgBouncer of Debian {SUITE} loads {}, which none of its packages has", library.display());
        }
        copy(&library, &to.join("lib"))?;
    }
    copy(&linker, &to.join("lib"))?;
    copy(&original, &to.join("bin"))?;
    for package in PACKAGES {
        copy(&root.join("usr/share/doc").join(package).join("copyright"), &to.join("copyright").join(package))?;
    }
    let linker = linker.file_name().unwrap_or_default().to_string_lossy();
    let script = format!(
        "#!/bin/sh\n\
         # PgBouncer of Debian {SUITE}, with the libraries that it was built for.\n\
         here=${{0%/*}}\n\
         exec \"$here/lib/{linker}\" --inhibit-cache --library-path \"$here/lib\" \"$here/bin/pgbouncer\" \"$@\"\n"
    );
    let program = to.join(PROGRAM);
    fs::write(&program, script)
        .and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("could not write {}", program.display()))
}

/// The dynamic linker, in the folder of the libraries; both are named after the processor.
fn linker(root: &Path) -> Result<PathBuf> {
    let is_linker = |name: &str| (name.starts_with("ld-linux") || name.starts_with("ld64")) && name.contains(".so.");
    let folders = entries(&root.join("usr/lib"))?.into_iter().filter(|folder| folder.is_dir());
    let mut files = folders.flat_map(|folder| entries(&folder).unwrap_or_default());
    let found = files.find(|file| file.file_name().and_then(|name| name.to_str()).is_some_and(is_linker));
    found.with_context(|| format!("libc6 of Debian {SUITE} has no dynamic linker in /usr/lib/*"))
}

/// The libraries in what the dynamic linker lists.
fn loaded(list: &str) -> Vec<PathBuf> {
    list.lines().filter_map(|line| Some(PathBuf::from(line.split_once(" => ")?.1.rsplit_once(" (")?.0))).collect()
}

/// What is in a folder, in the order of names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut entries: Vec<PathBuf> = read.with_context(|| format!("could not read {}", folder.display()))?;
    entries.sort_unstable();
    Ok(entries)
}

/// Copies a file, or what a link leads to, into a folder.
fn copy(file: &Path, to: &Path) -> Result<()> {
    let name = file.file_name().unwrap_or_default();
    let copied = fs::create_dir_all(to).and_then(|()| fs::copy(file, to.join(name)));
    copied.with_context(|| format!("could not copy {} to {}", file.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    #[test]
    fn only_a_debian_has_a_mirror_of_it() {
        assert_eq!(codename("NAME=\"x\"\nVERSION_CODENAME=bookworm\nID=debian\n"), Some("bookworm"));
        assert_eq!(codename("VERSION_CODENAME=jammy\nID=ubuntu\nID_LIKE=debian\n"), None);
        assert_eq!(codename(""), None);
    }

    #[test]
    fn mirrors_are_those_of_the_machines_release() {
        let targets = "http://a/ nodistro\nhttp://b/ bookworm\nhttp://b/ bookworm\nhttp://b/ bookworm-updates\nhttp://c/ stable\n";
        assert_eq!(mirrors(targets, "bookworm"), ["http://b/", "http://c/"]);
        assert!(mirrors("", "bookworm").is_empty());
    }

    #[test]
    fn libraries_are_read_from_what_the_linker_lists() {
        let list = "\tlinux-vdso.so.1 (0x7f)\n\tlibz.so.1 => /a b/libz.so.1 (0x7f)\n\t/lib64/ld.so => /c/ld.so (0x7f)\n";
        assert_eq!(loaded(list), ["/a b/libz.so.1", "/c/ld.so"].map(PathBuf::from));
    }

    #[test]
    fn the_linker_is_found_on_any_processor() {
        for path in ["x86_64-linux-gnu/ld-linux-x86-64.so.2", "aarch64-linux-gnu/ld-linux-aarch64.so.1", "s390x-linux-gnu/ld64.so.1"] {
            let root = Folder::create().unwrap();
            let file = root.join("usr/lib").join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file.with_file_name("libc.so.6"), "").unwrap();
            assert!(linker(root.path()).is_err());
            fs::write(&file, "").unwrap();
            assert_eq!(linker(root.path()).unwrap(), file);
        }
    }
}
