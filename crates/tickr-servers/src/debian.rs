//! Programs out of the packages of a newer Debian, into a cache folder. With the libraries and the dynamic linker of that release they
//! run on any Debian, and nothing is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, program};

/// The release that the packages are of.
const SUITE: &str = "trixie";

/// What is fetched together.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// What it is called.
    name: &'static str,
    /// The packages, those included that have the libraries.
    packages: &'static [&'static str],
    /// The programs, as files of the packages.
    programs: &'static [&'static str],
    /// A folder of the packages that is taken as it is.
    tree: Option<&'static str>,
}

/// PgBouncer. Prepared statements came with a version that older releases do not have.
pub(crate) const BOUNCER: Bundle = Bundle {
    name: "pgbouncer",
    packages: &[
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
    ],
    programs: &["usr/sbin/pgbouncer"],
    tree: None,
};

/// Prometheus, and promtool with it.
pub(crate) const PROMETHEUS: Bundle = Bundle {
    name: "prometheus",
    packages: &["prometheus", "promtool", "libc6"],
    programs: &["usr/bin/prometheus", "usr/bin/promtool"],
    tree: None,
};

/// Python's installer, for a Python that comes without.
pub(crate) const PIP: Bundle =
    Bundle { name: "pip", packages: &["python3-pip"], programs: &[], tree: Some("usr/lib/python3/dist-packages/pip") };

/// By what the packages are known to be Debian's.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What else than by its name a release is called in sources of apt.
const ALIASES: &[&str] = &["oldstable", "stable", "testing", "unstable", "sid"];

/// The file of apt's settings.
const CONFIGURATION: &str = "apt.conf";

/// Where a bundle is unpacked: it may be there or not.
pub(crate) fn folder(bundle: &Bundle) -> Result<PathBuf> {
    cache::folder(&format!("{}-{SUITE}", bundle.name))
}

/// A program of a bundle, if it has been fetched.
pub(crate) fn program(bundle: &Bundle, name: &str) -> Option<PathBuf> {
    folder(bundle).ok().map(|folder| folder.join(name)).filter(|program| program.is_file())
}

/// Unpacks a bundle, unless it is there.
pub(crate) fn fetch(bundle: &Bundle) -> Result<()> {
    cache::fill(&folder(bundle)?, |part| {
        let work = part.join("fetch");
        fs::create_dir_all(&work).with_context(|| format!("could not make {}", work.display()))?;
        download(bundle, &work)?;
        trim(bundle, &unpack(&work)?, part)?;
        for program in bundle.programs {
            program::output(Command::new(part.join(file_name(program))).arg("--version"))?;
        }
        fs::remove_dir_all(&work).with_context(|| format!("could not remove {}", work.display()))
    })
}

/// Has apt fetch and verify the packages, from where this machine has its own.
fn download(bundle: &Bundle, work: &Path) -> Result<()> {
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
    program::output(apt(work).arg("download").args(bundle.packages))?;
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

/// Takes what the programs need, and for each a script that starts it, so that it can be run like any other.
fn trim(bundle: &Bundle, root: &Path, to: &Path) -> Result<()> {
    for program in bundle.programs {
        trim_program(root, program, to)?;
    }
    if let Some(tree) = bundle.tree {
        program::output(Command::new("cp").arg("-R").arg(root.join(tree)).arg(to))?;
    }
    for package in bundle.packages {
        copy(&root.join("usr/share/doc").join(package).join("copyright"), &to.join("copyright").join(package))?;
    }
    Ok(())
}

fn trim_program(root: &Path, program: &str, to: &Path) -> Result<()> {
    let (original, linker) = (root.join(program), linker(root)?);
    let folder = linker.parent().context("a dynamic linker in no folder")?;
    let mut list = Command::new(&linker);
    list.arg("--inhibit-cache").arg("--library-path").arg(folder).arg("--list").arg(&original);
    for library in loaded(&program::output(&mut list)?) {
        if !library.starts_with(root) {
            bail!("{program} of Debian {SUITE} loads {}, which none of its packages has", library.display());
        }
        copy(&library, &to.join("lib"))?;
    }
    copy(&linker, &to.join("lib"))?;
    copy(&original, &to.join("bin"))?;
    let (name, linker) = (file_name(program), linker.file_name().unwrap_or_default().to_string_lossy());
    let script = format!(
        "#!/bin/sh\n\
         # {name} of Debian {SUITE}, with the libraries that it was built for.\n\
         here=${{0%/*}}\n\
         exec \"$here/lib/{linker}\" --inhibit-cache --library-path \"$here/lib\" \"$here/bin/{name}\" \"$@\"\n"
    );
    let path = to.join(name);
    fs::write(&path, script)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("could not write {}", path.display()))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
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
