//! What a storage can do, and how its schema stands.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// What a storage can do. Differences between databases are data, not conditions in the engine or the suite.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The name of the database, such as `sqlite`.
    pub name: &'static str,
    /// Whether another process that enqueues wakes this one ([`Storage::notifier`](crate::Storage::notifier)).
    pub notify: bool,
    /// Whether messages can be enqueued in the caller's transaction ([`EnqueueIn`](crate::EnqueueIn)).
    pub transactions: bool,
    /// Whether a transaction can have savepoints.
    pub savepoints: bool,
    /// Whether what was written survives the process.
    pub persistent: bool,
    /// Whether several connections write at the same time (else they take turns).
    pub concurrent_writers: bool,
    /// The smallest difference between two stored times.
    pub time_precision: Duration,
}

impl Capabilities {
    /// The capabilities of a storage that can do everything, with microseconds. Change what differs.
    pub const fn all(name: &'static str) -> Self {
        Self {
            name,
            notify: true,
            transactions: true,
            savepoints: true,
            persistent: true,
            concurrent_writers: true,
            time_precision: Duration::from_micros(1),
        }
    }
}

/// One step of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migration {
    /// The version it leads to, from 1.
    pub version: u32,
    /// What it does, in a few words.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

impl Migration {
    /// The step to `version`.
    pub const fn new(version: u32, name: &'static str, sql: &'static str) -> Self {
        Self { version, name, sql }
    }
}

/// What [`migrate`](crate::Storage::migrate) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// The version before; 0 for none.
    pub from: u32,
    /// The version after.
    pub to: u32,
}

impl Migrated {
    /// Nothing: the schema has `version`. Set `from` of a schema that was older.
    pub const fn new(version: u32) -> Self {
        Self { from: version, to: version }
    }
}

/// How the schema of the database stands to this library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaStatus {
    /// There is none.
    Missing {
        /// The version that this library makes.
        wanted: u32,
    },
    /// As this library makes it, or newer and still readable for it.
    Current {
        /// The version found.
        version: u32,
    },
    /// Older than this library needs: migrate.
    Older {
        /// The version found.
        version: u32,
        /// The version that this library makes.
        wanted: u32,
    },
    /// Newer, and it says that this library cannot work with it.
    Newer {
        /// The version found.
        version: u32,
        /// The newest version that this library knows.
        wanted: u32,
    },
}

impl SchemaStatus {
    /// Compares a found version (0 = none) with the newest one known; `readable_from` is the oldest library schema
    /// version that the found schema admits.
    pub const fn of(found: u32, readable_from: u32, wanted: u32) -> Self {
        if found == 0 {
            Self::Missing { wanted }
        } else if found < wanted {
            Self::Older { version: found, wanted }
        } else if found > wanted && readable_from > wanted {
            Self::Newer { version: found, wanted }
        } else {
            Self::Current { version: found }
        }
    }

    /// Says what to do unless the schema can be worked with.
    ///
    /// # Errors
    /// [`Migration`](ErrorKind::Migration).
    pub fn usable(self) -> Result<()> {
        let text = match self {
            Self::Current { .. } => return Ok(()),
            Self::Missing { wanted } => format!("there is no tickr schema; call migrate() to make version {wanted}"),
            Self::Older { version, wanted } => format!("the schema has version {version}, this library needs {wanted}; call migrate()"),
            Self::Newer { version, wanted } => {
                format!("the schema has version {version}, which this library (version {wanted}) cannot read; update tickr")
            }
        };
        Err(Error::new(ErrorKind::Migration, text))
    }
}
