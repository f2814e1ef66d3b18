//! The folder that holds everything of one server, and belongs to the user as whom it runs.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::user::User;

/// A folder whose path is no longer leaves room for the name of a unix socket, of which some systems take 104 bytes.
const PATH_LENGTH_MAX: usize = 60;

/// How many folders of one process are tried before it is given up.
const FOLDERS_MAX: u32 = 10_000;

/// The number of the next folder: the name of one that is gone is not given to another.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A folder of its own, removed when dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Whom to be instead of root; none if this process is not root.
    user: Option<User>,
    kept: bool,
}

impl Folder {
    /// Makes an empty folder that nobody else may enter.
    pub(crate) fn create() -> Result<Self> {
        let path = make(&base())?;
        // Whoever made it owns it: the only way to one's own user id that needs no system call of C.
        let owner = fs::metadata(&path).with_context(|| format!("could not look at {}", path.display()))?.uid();
        let mut folder = Self { path, user: None, kept: false };
        if owner == 0 {
            folder.user = Some(User::unprivileged()?);
            folder.hand_over(&folder.path)?;
        }
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// True if the user of the servers can read and run the file.
    pub(crate) fn can_run(&self, program: &Path) -> bool {
        self.user.is_none() || fs::metadata(program).is_ok_and(|file| file.mode() & 0o005 == 0o005) && is_open_to_all(program)
    }

    /// A command as the user of the servers, in this folder, with nothing of the environment that PostgreSQL reads.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.path).stdin(Stdio::null()).env("LC_ALL", "C");
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid).env("HOME", &self.path).env("USER", &user.name);
        }
        command
    }

    /// Writes a file that only the user of the servers may read.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("could not write {}", path.display()))?;
        self.hand_over(&path)?;
        Ok(path)
    }

    /// Makes the file that of the servers' user.
    pub(crate) fn hand_over(&self, path: &Path) -> Result<()> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        chown(path, Some(user.uid), Some(user.gid)).with_context(|| format!("could not give {} to the user {}", path.display(), user.name))
    }

    /// Copies a tree of programs into the folder, by hard links where it can, for the servers' user to read.
    pub(crate) fn adopt(&self, tree: &Path) -> Result<PathBuf> {
        let copy = self.join("programs");
        copy_tree(tree, &copy).with_context(|| format!("could not copy {} for the user of the servers", tree.display()))?;
        Ok(copy)
    }

    /// Leaves the folder where it is when this is dropped.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // A server that was killed hard may write for a moment longer; what then stays is for the system to clear.
            let _ = fs::remove_dir_all(&self.path).or_else(|_| fs::remove_dir_all(&self.path));
        }
    }
}

/// Where folders are made: where temporary files go, if that is near and open, else where they always can.
fn base() -> PathBuf {
    let configured = env::temp_dir();
    let fits = configured.is_absolute() && configured.as_os_str().len() <= PATH_LENGTH_MAX && is_open_to_all(&configured);
    if fits { configured } else { PathBuf::from("/tmp") }
}

fn make(base: &Path) -> Result<PathBuf> {
    for _ in 0..FOLDERS_MAX {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("tickr-{}-{number}", process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("could not make the folder {}", path.display())),
        }
    }
    bail!("{} is full of folders tickr-{}-*: remove them", base.display(), process::id());
}

/// True if every folder on the way may be passed by anybody.
fn is_open_to_all(path: &Path) -> bool {
    path.ancestors().all(|folder| fs::metadata(folder).is_ok_and(|metadata| metadata.mode() & 0o001 != 0))
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    if !fs::metadata(from)?.is_dir() {
        // Links share the bytes, and the rights; what cannot be linked, on another disk, is copied.
        let readable = fs::metadata(from)?.mode() & 0o004 != 0;
        return if readable && fs::hard_link(from, to).is_ok() {
            Ok(())
        } else {
            fs::copy(from, to)?;
            let mode = fs::metadata(to)?.mode();
            fs::set_permissions(to, fs::Permissions::from_mode(mode | (mode & 0o500) >> 6))
        };
    }
    DirBuilder::new().mode(0o755).create(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        copy_tree(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_and_goes_when_dropped() {
        let folder = Folder::create().unwrap();
        let path = folder.path().to_path_buf();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        folder.write("secret", "text").unwrap();
        assert_eq!(fs::metadata(path.join("secret")).unwrap().mode() & 0o777, 0o600);
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_closed_tree_is_copied_to_where_it_can_be_run() {
        let (closed, folder) = (Folder::create().unwrap(), Folder::create().unwrap());
        let bin = closed.join("bin");
        fs::create_dir(&bin).unwrap();
        let program = bin.join("program");
        fs::write(&program, "#!/bin/sh\necho done\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let copy = folder.adopt(&bin).unwrap().join("program");
        let output = folder.command(&copy).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n");
    }

    #[test]
    fn commands_do_not_see_what_points_to_other_servers() {
        let folder = Folder::create().unwrap();
        let mut command = folder.command("sh");
        let output = command.args(["-c", "pwd; env | grep ^PG; true"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(Path::new(text.trim()).file_name(), folder.path().file_name());
    }
}
