//! One table from SQLite's result codes to tickr's errors: <https://www.sqlite.org/rescode.html>.

use rusqlite::ffi::ErrorCode;
use tickr_core::{Error, ErrorKind, Retry};

/// Why a piece of work on a connection failed, before it is known whose transaction it was in.
#[derive(Debug)]
pub(crate) enum Fault {
    /// SQLite or rusqlite said so.
    Sqlite(rusqlite::Error),
    /// This adapter said so.
    Tickr(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Tickr(error)
    }
}

impl Fault {
    /// The error of an operation in a transaction of our own, which was rolled back.
    pub(crate) fn during(self, operation: &str) -> Error {
        match self {
            Self::Sqlite(error) => classify(error).during(operation),
            Self::Tickr(error) => error.during(operation),
        }
    }

    /// The error of an operation in the caller's transaction: what may be repeated is the whole transaction.
    pub(crate) fn in_callers_transaction(self) -> Error {
        let error = self.during("enqueue in your transaction");
        if error.is_transient() { error.with_retry(Retry::Transaction) } else { error }
    }
}

/// The error of a `COMMIT`. Until it was tried nothing is durable; a failure to write the log leaves open whether it is.
pub(crate) fn at_commit(error: &rusqlite::Error, operation: &str) -> Error {
    let copy = copy(error);
    match copy.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) | None => {
            Error::new(ErrorKind::Indeterminate, format!("the commit failed half-way: {copy}")).with_source(copy).during(operation)
        }
        Some(_) => classify(copy).during(operation),
    }
}

/// The same for every job of a group that did not begin.
pub(crate) fn at_begin(error: &rusqlite::Error, operation: &str) -> Error {
    classify(copy(error)).during(operation)
}

fn copy(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => rusqlite::Error::SqliteFailure(*code, text.clone()),
        other => rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR), Some(other.to_string())),
    }
}

/// The table.
pub(crate) fn classify(error: rusqlite::Error) -> Error {
    let Some(code) = error.sqlite_error_code() else {
        return other(error);
    };
    let (kind, context) = match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            (ErrorKind::Unavailable, "the database is locked by another connection".to_owned())
        }
        ErrorCode::DiskFull => (
            ErrorKind::Unavailable,
            "the disk of the database file is full, or its limit of pages is reached; nothing was written".to_owned(),
        ),
        ErrorCode::OutOfMemory => (ErrorKind::Unavailable, "out of memory".to_owned()),
        ErrorCode::FileLockingProtocolFailed => (ErrorKind::Unavailable, format!("file locking failed: {error}")),
        ErrorCode::OperationInterrupted | ErrorCode::OperationAborted => (ErrorKind::Unavailable, format!("interrupted: {error}")),
        ErrorCode::SystemIoFailure => (ErrorKind::Unavailable, format!("the operating system could not read or write: {error}")),
        ErrorCode::ReadOnly => (ErrorKind::Config, format!("the database is read-only: {error}")),
        ErrorCode::CannotOpen => (ErrorKind::Config, format!("the database file cannot be opened: {error}")),
        ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            (ErrorKind::Config, format!("permission denied: {error}"))
        }
        ErrorCode::TooBig => (ErrorKind::Config, format!("larger than SQLite can store: {error}")),
        ErrorCode::DatabaseCorrupt => (ErrorKind::Corrupt, format!("the database file is damaged: {error}")),
        ErrorCode::NotADatabase => (ErrorKind::Corrupt, "the file is not an SQLite database".to_owned()),
        ErrorCode::TypeMismatch => (ErrorKind::Corrupt, format!("a stored value has the wrong type: {error}")),
        ErrorCode::ConstraintViolation => (ErrorKind::Conflict, format!("a constraint of the schema refused it: {error}")),
        ErrorCode::Unknown => return generic(error),
        _ => (ErrorKind::Internal, error.to_string()),
    };
    Error::new(kind, context).with_source(error)
}

/// SQLITE_ERROR has no finer code: a missing table is known by its message only.
fn generic(error: rusqlite::Error) -> Error {
    let text = error.to_string();
    if text.contains("no such table: tickr_") {
        Error::new(ErrorKind::Migration, "there is no tickr schema; call migrate()").with_source(error)
    } else if text.contains("no such column") || text.contains("has no column named") {
        Error::new(ErrorKind::Migration, format!("the schema is not the one that this library makes ({text}); call migrate()"))
            .with_source(error)
    } else {
        Error::new(ErrorKind::Internal, text).with_source(error)
    }
}

/// What rusqlite itself refuses: conversions of stored values, and misuse.
fn other(error: rusqlite::Error) -> Error {
    match &error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::InvalidColumnType(..) => {
            Error::new(ErrorKind::Corrupt, format!("a stored value cannot be read: {error}")).with_source(error)
        }
        rusqlite::Error::InvalidPath(path) => Error::config(format!("{} is not a usable path", path.display())).with_source(error),
        _ => Error::new(ErrorKind::Internal, error.to_string()).with_source(error),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn fault(code: i32) -> Fault {
        Fault::Sqlite(rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("text of the database".into())))
    }

    #[test]
    fn codes_become_kinds() {
        for (code, kind, retry) in [
            (ffi::SQLITE_BUSY, ErrorKind::Unavailable, Retry::Operation),
            (ffi::SQLITE_BUSY_SNAPSHOT, ErrorKind::Unavailable, Retry::Operation),
            (ffi::SQLITE_LOCKED, ErrorKind::Unavailable, Retry::Operation),
            (ffi::SQLITE_FULL, ErrorKind::Unavailable, Retry::Operation),
            (ffi::SQLITE_IOERR_WRITE, ErrorKind::Unavailable, Retry::Operation),
            (ffi::SQLITE_READONLY, ErrorKind::Config, Retry::Never),
            (ffi::SQLITE_CANTOPEN, ErrorKind::Config, Retry::Never),
            (ffi::SQLITE_CORRUPT, ErrorKind::Corrupt, Retry::Never),
            (ffi::SQLITE_NOTADB, ErrorKind::Corrupt, Retry::Never),
            (ffi::SQLITE_CONSTRAINT_FOREIGNKEY, ErrorKind::Conflict, Retry::Never),
        ] {
            let error = fault(code).during("claim");
            assert_eq!((error.kind(), error.retry()), (kind, retry), "code {code}");
            assert!(error.to_string().contains("claim: "), "{error}");
        }
    }

    #[test]
    fn busy_in_the_callers_transaction_repeats_the_transaction() {
        assert_eq!(fault(ffi::SQLITE_BUSY).in_callers_transaction().retry(), Retry::Transaction);
        assert_eq!(fault(ffi::SQLITE_READONLY).in_callers_transaction().retry(), Retry::Never);
    }

    #[test]
    fn a_commit_that_could_not_write_is_indeterminate() {
        let failed = |code| match fault(code) {
            Fault::Sqlite(error) => at_commit(&error, "settle").kind(),
            Fault::Tickr(error) => error.kind(),
        };
        assert_eq!(failed(ffi::SQLITE_IOERR_FSYNC), ErrorKind::Indeterminate);
        assert_eq!(failed(ffi::SQLITE_BUSY), ErrorKind::Unavailable);
        assert_eq!(failed(ffi::SQLITE_FULL), ErrorKind::Unavailable);
    }

    #[test]
    fn the_driver_error_stays_reachable() {
        use std::error::Error as _;
        assert!(fault(ffi::SQLITE_FULL).during("enqueue").source().unwrap().is::<rusqlite::Error>());
    }
}
