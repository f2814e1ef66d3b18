//! One table from PostgreSQL's codes to tickr's errors: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use std::fmt;
use std::time::Duration;

use deadpool_postgres::PoolError;
use tickr_core::{Error, ErrorKind, Retry};
use tokio_postgres::error::{DbError, Severity, SqlState};

/// The error of the driver, as the [source](std::error::Error::source) of tickr's.
///
/// It shows neither the server's DETAIL nor what belongs to it: the server repeats values of the row there, such as a payload, and what is
/// shown ends up in logs and dead letters. [`get`](Self::get) has all of it.
pub struct DriverError(tokio_postgres::Error);

impl DriverError {
    /// The error of the driver.
    pub const fn get(&self) -> &tokio_postgres::Error {
        &self.0
    }
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_db_error() {
            Some(db) => write!(f, "{}: {} ({})", db.severity(), db.message(), db.code().code()),
            None => f.write_str(&deepest(&self.0)),
        }
    }
}

impl fmt::Debug for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DriverError").field(&self.to_string()).finish()
    }
}

impl std::error::Error for DriverError {}

/// Why a piece of work on a connection failed, before it is known whose transaction it was in.
#[derive(Debug)]
pub(crate) enum Fault {
    /// PostgreSQL or the driver said so.
    Postgres(tokio_postgres::Error),
    /// The connection was inside a transaction that somebody left open: nothing was done on it.
    Foreign(tokio_postgres::Error),
    /// This adapter said so.
    Tickr(Error),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Tickr(error)
    }
}

impl From<PoolError> for Fault {
    /// Nothing was sent yet.
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Tickr(connecting(error)),
            PoolError::Timeout(_) => {
                Self::Tickr(Error::new(ErrorKind::Unavailable, "no connection of the pool became free in time").with_source(error))
            }
            PoolError::Closed => Self::Tickr(Error::new(ErrorKind::Closed, "the pool was closed")),
            error => Self::Tickr(Error::new(ErrorKind::Config, format!("the pool cannot be used: {error}")).with_source(error)),
        }
    }
}

impl Fault {
    /// The error of an operation in a transaction of our own, which was rolled back.
    pub(crate) fn during(self, operation: &str) -> Error {
        match self {
            Self::Postgres(error) => classify(error).during(operation),
            Self::Foreign(error) => Error::config("the pool gave a connection with an open transaction; nothing was done on it")
                .with_source(DriverError(error))
                .during(operation),
            Self::Tickr(error) => error.during(operation),
        }
    }

    /// The error of an operation in the caller's transaction: what may be repeated is the whole transaction.
    pub(crate) fn in_callers_transaction(self) -> Error {
        let error = self.during("enqueue in your transaction");
        if error.is_transient() { error.with_retry(Retry::Transaction) } else { error }
    }

    /// Says which rights the work needs, where one was lacking.
    pub(crate) fn if_rights_lack(self, needs: &str) -> Self {
        match self {
            Self::Postgres(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                let message = error.as_db_error().map_or("permission denied", DbError::message);
                let text = format!("the role lacks rights: {message}; {needs}");
                Error::config(text).with_source(DriverError(error)).into()
            }
            other => other,
        }
    }

    /// Whether the connection that brought this error can be used again. Only errors that belong to the statement and its values leave
    /// it usable; every other one may come from the connection itself, its role, its database or its server.
    pub(crate) fn spares_connection(&self) -> bool {
        match self {
            Self::Tickr(_) => true,
            Self::Foreign(_) => false,
            Self::Postgres(error) => error.as_db_error().is_some_and(|db| !ends_session(db) && is_of_the_statement(db.code())),
        }
    }

    /// The error of the script that begins a transaction. By these codes it says that there was one already: of its check, of a BEGIN
    /// with another isolation, and of a transaction that had failed.
    pub(crate) fn of_beginning(error: tokio_postgres::Error) -> Self {
        let inside = [&SqlState::DIVISION_BY_ZERO, &SqlState::ACTIVE_SQL_TRANSACTION, &SqlState::IN_FAILED_SQL_TRANSACTION];
        if error.code().is_some_and(|code| inside.contains(&code)) { Self::Foreign(error) } else { Self::Postgres(error) }
    }

    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign(_))
    }

    /// Whether a connection that somebody used before may be at fault: a transaction that failed, a role without rights, a read-only
    /// session, statements that it forgot. Nothing was written.
    pub(crate) fn may_be_of_the_connection(&self) -> bool {
        const CODES: [&SqlState; 4] = [
            &SqlState::IN_FAILED_SQL_TRANSACTION,
            &SqlState::INSUFFICIENT_PRIVILEGE,
            &SqlState::READ_ONLY_SQL_TRANSACTION,
            &SqlState::INVALID_SQL_STATEMENT_NAME,
        ];
        CODES.iter().any(|code| self.is(code))
    }

    /// Whether the tables are not where they were found.
    pub(crate) fn says_tables_are_elsewhere(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        error.code().is_some_and(|code| kind(code).0 == ErrorKind::Migration)
    }

    /// Whether PostgreSQL answered with this code.
    pub(crate) fn is(&self, state: &SqlState) -> bool {
        matches!(self, Self::Postgres(error) if error.code() == Some(state))
    }
}

/// Whether the server closes the connection after this error.
fn ends_session(error: &DbError) -> bool {
    matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

/// Whether a code blames the statement or its values: data, constraints, serialisation, resources, limits, locks, and what a trigger
/// raises. A code that is not listed closes the connection, which costs one handshake. To keep a connection that is wrong (a server that
/// became read-only, a role or a search path that changed, a database that was dropped) would fail every later operation on it.
fn is_of_the_statement(state: &SqlState) -> bool {
    matches!(&state.code()[..2], "22" | "23" | "40" | "44" | "53" | "54" | "55" | "P0")
}

/// The statement was sent and nothing came back in time.
pub(crate) fn timed_out() -> Fault {
    Error::new(ErrorKind::Indeterminate, "the server did not answer in time").into()
}

/// Nobody answered whoever wanted to connect.
pub(crate) fn no_answer(limit: Duration) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot connect: the server did not answer within {limit:?}"))
}

/// The error of opening a connection. Nothing was sent that could have had an effect.
pub(crate) fn connecting(error: tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        let text = deepest(&error);
        // The driver's own words for TLS that one side lacks.
        let kind = if text.contains("TLS") || text.contains("password") || text.contains("certificate") {
            ErrorKind::Config
        } else {
            ErrorKind::Unavailable
        };
        let advice = if text.contains("certificate") {
            "; name what to trust with the option sslrootcert"
        } else if text.contains("TLS") {
            "; see the feature `rustls` of tickr-postgres and the option sslmode"
        } else if text.contains("password missing") {
            "; the server asks for a password"
        } else {
            ""
        };
        return Error::new(kind, format!("cannot connect: {text}{advice}")).with_source(DriverError(error));
    };
    let kind = match kind(db.code()) {
        // `ALTER DATABASE ... ALLOW_CONNECTIONS false`: for maintenance, and so for a while.
        _ if db.code() == &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => ErrorKind::Unavailable,
        (ErrorKind::Internal, _) => ErrorKind::Config,
        (kind, _) => kind,
    };
    let advice = if db.message().contains("no encryption") || db.message().contains("SSL off") {
        "; the server may ask for TLS: see the feature `rustls` of tickr-postgres and the option sslmode"
    } else {
        ""
    };
    let text = format!("cannot connect: {}{advice}", db.message());
    Error::new(kind, text).with_source(DriverError(error))
}

/// The innermost cause: the driver's own text (`error connecting to server`) does not say why.
fn deepest(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{error}: {cause}");
        source = cause.source();
    }
    text
}

/// The table. What it does not name is a bug, here or in the schema.
fn kind(state: &SqlState) -> (ErrorKind, Retry) {
    use ErrorKind::{Config, Conflict, Corrupt, Indeterminate, Internal, Migration, Unavailable};
    match state {
        // The server ended the connection; whether a commit that was under way counts, nobody says.
        &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN => (Indeterminate, Retry::Operation),
        // A standby, or a server that is failing over: the next one to answer may be the primary.
        &SqlState::READ_ONLY_SQL_TRANSACTION => (Unavailable, Retry::Operation),
        // Two transactions in each other's way: nothing was written.
        &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => (Conflict, Retry::Operation),
        // Only the caller's transaction can be in this state: it goes on after an error of another statement.
        &SqlState::IN_FAILED_SQL_TRANSACTION => (Conflict, Retry::Operation),
        &SqlState::LOCK_NOT_AVAILABLE | &SqlState::QUERY_CANCELED => (Unavailable, Retry::Operation),
        // The server waited in vain for the next statement of a transaction, COMMIT or another, and rolled it back.
        &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => (Unavailable, Retry::Operation),
        // The schema is not the one that the statements were written for.
        &SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN | &SqlState::INVALID_SCHEMA_NAME | &SqlState::UNDEFINED_FUNCTION => {
            (Migration, Retry::Never)
        }
        // Rights, names, passwords, settings.
        &SqlState::INSUFFICIENT_PRIVILEGE
        | &SqlState::INVALID_PASSWORD
        | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        | &SqlState::INVALID_CATALOG_NAME
        // A text with a NUL, which PostgreSQL cannot store.
        | &SqlState::CHARACTER_NOT_IN_REPERTOIRE
        // A text that the database's encoding lacks.
        | &SqlState::UNTRANSLATABLE_CHARACTER
        // A table without a replica identity that is published.
        | &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => (Config, Retry::Never),
        &SqlState::FOREIGN_KEY_VIOLATION | &SqlState::UNIQUE_VIOLATION => (Conflict, Retry::Never),
        &SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED => (Corrupt, Retry::Never),
        // A prepared statement that a pooler lost, or whose tables were migrated meanwhile: the connection is replaced.
        &SqlState::INVALID_SQL_STATEMENT_NAME | &SqlState::FEATURE_NOT_SUPPORTED => (Unavailable, Retry::Operation),
        // By class: connection, resources, operator intervention (shutdown, recovery), system error.
        other => match &other.code()[..2] {
            // `transaction_timeout`, from PostgreSQL 17 on, for which the driver has no name; it may meet a COMMIT.
            _ if other.code() == "25P04" => (Indeterminate, Retry::Operation),
            "08" => (Indeterminate, Retry::Operation),
            "53" | "57" | "58" => (Unavailable, Retry::Operation),
            "40" => (Conflict, Retry::Operation),
            "XX" => (Corrupt, Retry::Never),
            _ => (Internal, Retry::Never),
        },
    }
}

/// The error of a statement.
pub(crate) fn classify(error: tokio_postgres::Error) -> Error {
    if let Some(db) = error.as_db_error() {
        let (kind, retry) = kind(db.code());
        return Error::new(kind, sentence(kind, db)).with_retry(retry).with_source(DriverError(error));
    }
    if error.is_closed() || std::error::Error::source(&error).is_some_and(|source| source.is::<std::io::Error>()) {
        return Error::new(ErrorKind::Indeterminate, format!("the connection broke: {}", deepest(&error))).with_source(DriverError(error));
    }
    let text = deepest(&error);
    // Values that cannot be read: the driver has no finer kind.
    let kind = if text.contains("deserializing") { ErrorKind::Corrupt } else { ErrorKind::Internal };
    Error::new(kind, text).with_source(DriverError(error))
}

fn sentence(kind: ErrorKind, error: &DbError) -> String {
    let (message, code) = (error.message(), error.code().code());
    match kind {
        ErrorKind::Migration => format!(
            "the tables are not those that this library makes ({message}); call migrate(), or name their schema if it is in no search path"
        ),
        _ if error.code() == &SqlState::READ_ONLY_SQL_TRANSACTION => {
            format!("the server is in recovery or read-only: {message}")
        }
        _ if error.code() == &SqlState::IN_FAILED_SQL_TRANSACTION => {
            format!("an earlier statement of your transaction failed; roll it back and run it again ({code})")
        }
        ErrorKind::Config if error.code() == &SqlState::INSUFFICIENT_PRIVILEGE => {
            format!("the role lacks rights: {message}")
        }
        ErrorKind::Config if error.code() == &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => {
            format!(
                "{message} ({code}); if a publication covers the table, run ALTER TABLE ... REPLICA IDENTITY FULL on it, \
                 or leave it out of the publication"
            )
        }
        _ => format!("{message} ({code})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_kinds() {
        for (code, expected, retry) in [
            ("40001", ErrorKind::Conflict, Retry::Operation),
            ("40P01", ErrorKind::Conflict, Retry::Operation),
            ("55P03", ErrorKind::Unavailable, Retry::Operation),
            ("57014", ErrorKind::Unavailable, Retry::Operation),
            ("57P01", ErrorKind::Indeterminate, Retry::Operation),
            ("57P03", ErrorKind::Unavailable, Retry::Operation),
            ("53300", ErrorKind::Unavailable, Retry::Operation),
            ("53100", ErrorKind::Unavailable, Retry::Operation),
            ("08006", ErrorKind::Indeterminate, Retry::Operation),
            ("25006", ErrorKind::Unavailable, Retry::Operation),
            ("25P02", ErrorKind::Conflict, Retry::Operation),
            ("25P03", ErrorKind::Unavailable, Retry::Operation),
            ("25P04", ErrorKind::Indeterminate, Retry::Operation),
            ("28P01", ErrorKind::Config, Retry::Never),
            ("3D000", ErrorKind::Config, Retry::Never),
            ("42501", ErrorKind::Config, Retry::Never),
            ("22P05", ErrorKind::Config, Retry::Never),
            ("55000", ErrorKind::Config, Retry::Never),
            ("42P01", ErrorKind::Migration, Retry::Never),
            ("3F000", ErrorKind::Migration, Retry::Never),
            ("23503", ErrorKind::Conflict, Retry::Never),
            ("XX001", ErrorKind::Corrupt, Retry::Never),
            ("22003", ErrorKind::Internal, Retry::Never),
        ] {
            assert_eq!(kind(&SqlState::from_code(code)), (expected, retry), "{code}");
        }
    }

    #[test]
    fn only_errors_of_the_statement_spare_the_connection() {
        for code in ["22021", "23505", "23503", "40001", "40P01", "53100", "54000", "55P03", "P0001"] {
            assert!(is_of_the_statement(&SqlState::from_code(code)), "{code}");
        }
        for code in [
            "25006", "25P02", "25P03", "57P01", "57P02", "57P03", "57P05", "57014", "3D000", "28000", "28P01", "08006", "0A000", "26000",
            "42501", "42P01", "42704", "3F000", "58030", "XX000",
        ] {
            assert!(!is_of_the_statement(&SqlState::from_code(code)), "{code}");
        }
    }

    #[test]
    fn what_may_be_repeated_in_the_callers_transaction_is_the_whole_of_it() {
        let lost: Fault = Error::new(ErrorKind::Unavailable, "x").into();
        assert_eq!(lost.in_callers_transaction().retry(), Retry::Transaction);
        let wrong: Fault = Error::config("x").into();
        assert_eq!(wrong.in_callers_transaction().retry(), Retry::Never);
    }
}
