//! The database file behind a connection.
//!
//! A connection goes on with the file that it opened, also after another one was moved to its place, such as a restored backup: it
//! would answer messages as stored that no other process ever sees, and wait for messages that are written elsewhere. So each thread
//! with a connection compares the file at the path with the one that it opened, before it begins and after it has committed, and
//! opens the new one. The same goes for the write-ahead log: what is committed to one that was removed is gone with the process. SQLite says what else can go wrong: <https://www.sqlite.org/howtocorrupt.html#_unlinking_or_renaming_a_database_file_while_in_use>.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tickr_core::{Error, ErrorKind, Result};

use crate::config::{Builder, OpenMode};
use crate::connection::{self, Purpose};
use crate::error::classify;

/// How often a file is opened that is replaced at the very moment.
const ATTEMPTS_MAX: u32 = 3;

/// A connection, and the file that it leads to.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) connection: Connection,
    pub(crate) file: File,
    purpose: Purpose,
}

/// Which file a path meant when it was opened, and which write-ahead log belongs to it.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    identity: Option<Identity>,
    /// Beside the file itself, not beside a link to it.
    log_path: PathBuf,
    log: Option<Identity>,
}

/// What tells a file from others. A path with another file, or with none, has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// `None` where there is no file, and on systems without inodes, where an open file cannot be replaced.
    fn at(path: &Path) -> Option<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let metadata = std::fs::metadata(path).ok()?;
            Some(Self { device: metadata.dev(), inode: metadata.ino() })
        }
        #[cfg(not(unix))]
        {
            let _ = path;
            None
        }
    }
}

impl File {
    /// Whether the path still means the file that was opened, and the log beside it is the one that this connection writes.
    pub(crate) fn is_current(&self) -> bool {
        self.identity.is_none() || (Identity::at(&self.path) == self.identity && Identity::at(&self.log_path) == self.log)
    }

    pub(crate) fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// What is answered for a commit that went to a file or a log which was replaced meanwhile.
    pub(crate) fn replaced_at_commit(&self, operation: &str) -> Error {
        let text = format!("database file {} or its log was replaced or removed while this was written", self.path.display());
        Error::new(ErrorKind::Indeterminate, text).during(operation)
    }
}

impl Open {
    /// Opens what is configured. Waiting for locks is left to [`connection::wait_for_locks`], on the thread that will use it.
    pub(crate) fn new(config: &Builder, purpose: Purpose) -> Result<Self> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let before = Identity::at(&config.path);
            let connection = connection::open(config, purpose)?;
            // SQLite makes the log with the first statement that reads: from then on it is known whose log is beside the file.
            connection.pragma_query_value(None, "schema_version", |_| Ok(())).map_err(classify)?;
            let identity = Identity::at(&config.path);
            // It may have been created just now.
            if before.is_none() || before == identity || attempts == ATTEMPTS_MAX {
                let log_path = log_path(connection.path().map_or(&*config.path, Path::new));
                let file = File { path: config.path.clone(), identity, log: Identity::at(&log_path), log_path };
                return Ok(Self { connection, file, purpose });
            }
        }
    }

    pub(crate) fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Opens the file that is at the path by now, if it is another one.
    ///
    /// # Errors
    /// `Unavailable` while there is no file, and while the write-ahead log is still that of the file before: SQLite would copy it into
    /// the new file.
    pub(crate) fn follow(&mut self, config: &Builder) -> Result<()> {
        if self.file.is_current() {
            return Ok(());
        }
        let path = self.file.path.display();
        let unavailable = |text: String| Error::new(ErrorKind::Unavailable, text);
        if Identity::at(&self.file.path).is_none() {
            return Err(unavailable(format!("database file {path} was removed while it was open")));
        }
        let is_another = Identity::at(&self.file.path) != self.file.identity;
        if is_another && self.file.log.is_some() && Identity::at(&self.file.log_path) == self.file.log {
            return Err(unavailable(format!(
                "database file {path} was replaced while it was open, but the log beside it is of the old one: stop the processes that \
                 use it, remove {path}-wal and {path}-shm, and start them again"
            )));
        }
        let mode = if config.mode == OpenMode::Create { OpenMode::ReadWrite } else { config.mode };
        let config = Builder { mode, ..config.clone() };
        let mut open = Self::new(&config, self.purpose)?;
        if let Err(error) = connection::wait_for_locks(&mut open.connection, config.busy_timeout) {
            tracing::error!(%error, "the busy handler cannot be set: waiting for locks is left to SQLite");
        }
        tracing::warn!(path = %path, "the database file or its log was replaced or removed; what is there now is open from now on");
        connection::close(std::mem::replace(self, open).connection);
        Ok(())
    }
}

/// The write-ahead log of a database file.
fn log_path(path: &Path) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}
