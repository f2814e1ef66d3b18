//! What can be configured, and the URL form of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tickr_core::{ClockOffset, Error, ErrorKind, Result};

use crate::door;
use crate::storage::SqliteStorage;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How far a commit goes before it answers: <https://www.sqlite.org/pragma.html#pragma_synchronous>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Synchronous {
    /// Each commit is on the disk: it survives a power failure. The default.
    #[default]
    Full,
    /// Commits survive the process; the newest may be lost in a power failure, then none of them half.
    Normal,
}

/// How the file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenMode {
    /// Reads and writes, and makes the file if there is none. The default.
    #[default]
    Create,
    /// Reads and writes a file that exists.
    ReadWrite,
    /// Only reads: for tools that look. Everything that writes is a `Config` error.
    ReadOnly,
}

/// Builds a [`SqliteStorage`].
///
/// ```no_run
/// use tickr_sqlite::{SqliteStorage, Synchronous};
///
/// # fn main() -> tickr_core::Result<()> {
/// let storage = SqliteStorage::builder().path("app.sqlite").synchronous(Synchronous::Normal).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(crate) path: PathBuf,
    pub(crate) mode: OpenMode,
    pub(crate) synchronous: Synchronous,
    pub(crate) busy_timeout: Duration,
    pub(crate) max_page_count: Option<u32>,
    pub(crate) settings: Settings,
}

/// What the statements need to know, also inside the caller's transaction.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dedupe_retention: Duration,
    pub(crate) history: bool,
    pub(crate) clock: ClockOffset,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            mode: OpenMode::default(),
            synchronous: Synchronous::default(),
            busy_timeout: Duration::from_secs(5),
            max_page_count: None,
            settings: Settings { dedupe_retention: 7 * DAY, history: true, clock: ClockOffset::default() },
        }
    }
}

impl Builder {
    /// The database file; a relative path counts from the working directory at the time of the opening, which is the first poll of [`connect`](Self::connect). Several processes may open the same one; a network file system is not supported by SQLite's WAL.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = path.into();
        self
    }

    /// How the file is opened (default [`OpenMode::Create`]).
    pub const fn mode(mut self, mode: OpenMode) -> Self {
        self.mode = mode;
        self
    }

    /// How far a commit goes before it answers (default [`Synchronous::Full`]).
    pub const fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long an operation waits for the lock of another process (default 5 s); then it fails as `Unavailable`.
    pub const fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// How long an idempotency key is remembered after its message was due (default 7 days).
    pub const fn dedupe_retention(mut self, keep: Duration) -> Self {
        self.settings.dedupe_retention = keep;
        self
    }

    /// Whether errors, reasons, retries and requeues are recorded a message (default yes). Without it the history shows
    /// claims and how they ended, but no texts; claims and settlements are always recorded, because they prove successes.
    pub const fn history(mut self, record: bool) -> Self {
        self.settings.history = record;
        self
    }

    /// Moves this storage's clock, for tests.
    pub fn clock_offset(mut self, offset: ClockOffset) -> Self {
        self.settings.clock = offset;
        self
    }

    /// Limits the file to this many pages (of 4096 bytes, unless the file was made otherwise) for writes of this storage.
    pub const fn max_page_count(mut self, pages: u32) -> Self {
        self.max_page_count = Some(pages);
        self
    }

    /// Takes path and options of a URL: see [`SqliteStorage::connect`].
    ///
    /// # Errors
    /// `Config` naming the part that is wrong; `Unsupported` for a database in memory.
    pub fn url(mut self, url: &str) -> Result<Self> {
        let rest = url.strip_prefix("sqlite:").ok_or_else(|| wrong("it does not begin with `sqlite:`"))?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        self.path = decode(path).ok_or_else(|| wrong("its path has a broken % escape"))?.into();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            self = self.option(option)?;
        }
        check_path(&self.path)?;
        Ok(self)
    }

    fn option(self, option: &str) -> Result<Self> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        Ok(match (name, value) {
            ("mode", "rwc") => self.mode(OpenMode::Create),
            ("mode", "rw") => self.mode(OpenMode::ReadWrite),
            ("mode", "ro") => self.mode(OpenMode::ReadOnly),
            ("mode", "memory") => return Err(in_memory()),
            ("synchronous", "full") => self.synchronous(Synchronous::Full),
            ("synchronous", "normal") => self.synchronous(Synchronous::Normal),
            ("busy_timeout_ms", value) => match value.parse() {
                Ok(millis) => self.busy_timeout(Duration::from_millis(millis)),
                Err(_) => return Err(wrong("option busy_timeout_ms is not a number")),
            },
            ("mode", _) => return Err(wrong("option mode is none of rwc, rw, ro")),
            ("synchronous", _) => return Err(wrong("option synchronous is none of full, normal")),
            // Only what looks like a name is shown: the rest of a password with an unescaped `?` is read as an option too.
            _ if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !option.contains('@') => {
                return Err(wrong(&format!("there is no option `{name}`; there are mode, synchronous, busy_timeout_ms")));
            }
            _ => return Err(wrong("an option is unknown; there are mode, synchronous, busy_timeout_ms")),
        })
    }

    /// Opens the database like [`build`](Self::build), on a thread of its own: the caller's is not blocked.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn connect(self) -> Result<SqliteStorage> {
        // Before the other thread runs: the working directory may have changed by then.
        let this = self.resolved()?;
        let (answer, opened) = tokio::sync::oneshot::channel();
        // A caller that gave up waiting does not need the storage.
        door::spawn("tickr-sqlite-open", move || drop(answer.send(this.build())))?;
        opened.await.map_err(|_| Error::new(ErrorKind::Internal, "opening the database panicked"))?
    }

    /// Opens the database. Blocks for as long as that takes: usually a millisecond, at most the busy timeout.
    ///
    /// The schema is not looked at: see `Storage::schema` and `Storage::migrate`.
    ///
    /// # Errors
    /// `Config` when the file cannot be opened or written, naming it; `Unsupported` for a database in memory; `Corrupt` when it
    /// is no database; `Unavailable` when it is locked for longer than the busy timeout.
    pub fn build(self) -> Result<SqliteStorage> {
        let this = self.resolved()?;
        if this.busy_timeout.is_zero() || this.busy_timeout > DAY {
            return Err(Error::config(format!("busy timeout {:?} is not between 1 ns and a day", this.busy_timeout)));
        }
        SqliteStorage::start(this)
    }

    /// With an absolute path: connections that are opened later must not mean another file because the process changed its directory.
    fn resolved(mut self) -> Result<Self> {
        check_path(&self.path)?;
        self.path = std::path::absolute(&self.path).map_err(|source| {
            Error::config(format!("database path {} cannot be made absolute", self.path.display())).with_source(source)
        })?;
        Ok(self)
    }
}

fn check_path(path: &Path) -> Result<()> {
    let text = path.to_string_lossy();
    if text.is_empty() {
        return Err(Error::config("no database file: set a path, such as `sqlite:app.sqlite`"));
    }
    if text.contains(":memory:") {
        return Err(in_memory());
    }
    if text.contains('\0') {
        return Err(Error::config(format!("database path {text:?} has a NUL byte")));
    }
    Ok(())
}

pub(crate) fn in_memory() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "an SQLite database in memory has one connection only, and tickr needs several; use tickr_core::MemoryStorage or a temporary file",
    )
}

/// Without the URL: one for another database may have been given here, with its password.
fn wrong(why: &str) -> Error {
    Error::config(format!("not an SQLite URL such as `sqlite:app.sqlite?mode=rwc`: {why}"))
}

/// Replaces `%41` by `A`, so that a path may have a `?`, `%` or `#`.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = tail.get(..2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> Error {
        Builder::default().url(url).unwrap_err()
    }

    #[test]
    fn urls_say_path_and_options() {
        for (url, path) in [
            ("sqlite:app.db", "app.db"),
            ("sqlite://app.db", "app.db"),
            ("sqlite:///var/lib/app.db?mode=rw", "/var/lib/app.db"),
            ("sqlite:/var/lib/app.db", "/var/lib/app.db"),
            ("sqlite:a%20b%3F.db", "a b?.db"),
        ] {
            assert_eq!(Builder::default().url(url).unwrap().path, Path::new(path), "{url}");
        }
        let builder = Builder::default().url("sqlite:a?mode=ro&synchronous=normal&busy_timeout_ms=250").unwrap();
        assert_eq!((builder.mode, builder.synchronous), (OpenMode::ReadOnly, Synchronous::Normal));
        assert_eq!(builder.busy_timeout, Duration::from_millis(250));
    }

    #[test]
    fn a_wrong_url_names_the_part() {
        for (url, part) in [
            ("postgres://x", "does not begin"),
            ("sqlite:a?cache=shared", "`cache`"),
            ("sqlite:a?mode=s3cret", "option mode"),
            ("sqlite:a?busy_timeout_ms=s3cret", "option busy_timeout_ms"),
            ("sqlite:a?synchronous=s3cret", "option synchronous"),
            ("sqlite:a?s3cret@db/shop", "an option is unknown"),
            ("postgres://app:s3cret@db/shop", "does not begin"),
            ("sqlite:%zz", "% escape"),
            ("sqlite:", "no database file"),
        ] {
            let error = refused(url);
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(error.to_string().contains(part), "{error}");
            assert!(!format!("{error} {error:#?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    fn a_database_in_memory_is_unsupported_with_a_hint() {
        for url in ["sqlite::memory:", "sqlite://:memory:", "sqlite:x?mode=memory"] {
            let error = refused(url);
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("MemoryStorage"));
        }
    }
}
