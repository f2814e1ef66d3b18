//! What can be configured, and the URL form of it.

#[cfg(any(feature = "rustls", feature = "native-tls"))]
use std::path::PathBuf;
use std::time::Duration;

use deadpool_postgres::Pool;
use percent_encoding::percent_decode_str;
use tickr_core::{ClockOffset, Error, Result};
use tickr_sql::postgres::Names;
use tokio_postgres::Config;

use crate::storage::PostgresStorage;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Which library encrypts connections. `sslmode` of the URL or the configuration says whether a connection is encrypted:
///
/// - `disable`: never.
/// - `prefer` (the default): if the server offers TLS, without verifying its certificate. With a file of certificates to trust it
///   means `require`.
/// - `require`: always, and the certificate is verified. A server without TLS is refused before a password is sent.
///
/// `disable` together with a file of certificates is a `Config` error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tls {
    /// None: with `sslmode=require` connecting fails. The default without a TLS feature.
    Off,
    /// rustls with ring. Certificates are verified against Mozilla's roots, or those in `ca`.
    #[cfg(feature = "rustls")]
    Rustls {
        /// A PEM file of certificates to trust instead of Mozilla's (`sslrootcert` of a URL).
        ca: Option<PathBuf>,
    },
    /// The library of the operating system.
    #[cfg(feature = "native-tls")]
    Native {
        /// A PEM file of certificates to trust besides those of the system (`sslrootcert` of a URL).
        ca: Option<PathBuf>,
    },
}

impl Default for Tls {
    /// The library whose feature is on, rustls if both are.
    fn default() -> Self {
        #[cfg(feature = "rustls")]
        return Self::Rustls { ca: None };
        #[cfg(all(feature = "native-tls", not(feature = "rustls")))]
        return Self::Native { ca: None };
        #[cfg(not(any(feature = "rustls", feature = "native-tls")))]
        Self::Off
    }
}

/// Builds a [`PostgresStorage`].
///
/// ```no_run
/// use tickr_postgres::PostgresStorage;
///
/// # async fn open() -> tickr_core::Result<()> {
/// let storage = PostgresStorage::builder().url("postgres://app@db.internal/shop?sslmode=require")?.schema("queue").pool_size(4).connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(crate) config: Option<Config>,
    pub(crate) pool: Option<Pool>,
    pub(crate) pool_size: usize,
    pub(crate) tls: Tls,
    pub(crate) listen: bool,
    pub(crate) operation_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) schema: Option<String>,
    pub(crate) prefix: String,
    pub(crate) partition_period: Option<Duration>,
    pub(crate) settings: Settings,
}

/// What the statements need to know, also inside the caller's transaction.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dedupe_retention: Duration,
    pub(crate) history: bool,
    pub(crate) prepared: bool,
    pub(crate) clock: ClockOffset,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            config: None,
            pool: None,
            pool_size: 8,
            tls: Tls::default(),
            listen: true,
            operation_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(5),
            schema: None,
            prefix: Names::PREFIX.to_owned(),
            partition_period: None,
            settings: Settings { dedupe_retention: 7 * DAY, history: true, prepared: true, clock: ClockOffset::default() },
        }
    }
}

impl Builder {
    /// Where the server is and who connects, in the driver's own form. An application name of its own is kept, else it is `tickr`.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// The application's own pool. Statements go through its connections; each worker opens one more through its manager, for
    /// heartbeats. A pool does not reveal how it connects, so workers listen for NOTIFY only when [`url`](Self::url) or
    /// [`config`](Self::config) says it too; else they poll. A URL besides the pool brings its options as well (`schema`, `listen`,
    /// `prepared_statements`); its `pool_size` has no effect.
    ///
    /// ```no_run
    /// # use tickr_postgres::{PostgresStorage, deadpool_postgres::Pool};
    /// # async fn f(pool: Pool, url: &str) -> tickr_core::Result<()> {
    /// let storage = PostgresStorage::builder().pool(pool).url(url)?.connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// How many connections the pool has (default 8; one is enough). A running worker has two more, for heartbeats and LISTEN.
    /// Without effect on a pool of the application's own.
    pub const fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// Which library encrypts connections (default: the one whose feature is on, rustls if both are).
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Whether workers listen for NOTIFY (default yes). Turn it off behind a pooler in transaction mode, where LISTEN is not
    /// possible: what other processes enqueue is then found by polling, within two seconds when a worker was idle for long.
    pub const fn listen(mut self, listen: bool) -> Self {
        self.listen = listen;
        self
    }

    /// Whether statements are prepared once a connection (default yes). Turn it off behind a pooler in transaction mode that
    /// does not follow prepared statements (PgBouncer before 1.21): every statement is then planned each time. In a transaction of a pool
    /// that this storage did not make, statements are never prepared: connections may be recycled with `DISCARD ALL` there.
    pub const fn prepared_statements(mut self, prepared: bool) -> Self {
        self.settings.prepared = prepared;
        self
    }

    /// How long an operation may take, waiting for a connection and for locks included (default 20 s). The server gives up a
    /// little earlier (`statement_timeout`; plain enqueues are cancelled), so that it rarely stays open whether an operation happened.
    pub const fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// How long connecting may take (default 5 s), unless the configuration says it.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The schema of the tables (default: the first of the role's search path). `migrate` makes it if there is none.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// What names of tables begin with (default `tickr_`): a-z, 0-9 and _.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Chooses the partitioned layout, with a partition of each growing table for so long (default: none; at least a minute, a day
    /// or a week is usual). It counts when the first migration makes the schema, and never again.
    ///
    /// Workers make partitions ahead and drop empty ones when they purge, for which their role must own the tables. What comes
    /// without a partition goes to a default one ([`PostgresStorage::default_partition_rows`]).
    pub const fn partitioned(mut self, period: Duration) -> Self {
        self.partition_period = Some(period);
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

    /// Takes everything from a URL: see [`PostgresStorage::connect`].
    ///
    /// # Errors
    /// `Config` naming the part that is wrong. Never with the URL itself, which may hold a password.
    pub fn url(mut self, url: &str) -> Result<Self> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(wrong("it does not begin with `postgres://`"));
        }
        // Behind the user and the password, which the driver takes up to the first `@`: a `?` in a password begins no options.
        let login = url.find('@').map_or(0, |at| at + 1);
        let (address, query) = url[login..].find('?').map_or((url, ""), |at| (&url[..login + at], &url[login + at + 1..]));
        let mut drivers = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let decoded = percent_decode_str(value).decode_utf8();
            let Ok(value) = decoded else { return Err(wrong("an option is not UTF-8")) };
            if !self.option(name, &value)? {
                drivers.push(option);
            }
        }
        let drivers = format!("{address}?{}", drivers.join("&"));
        let config: tokio_postgres::Config = drivers.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            wrong(&shown(cause, query))
        })?;
        // Otherwise the driver finds it when it connects, by an error that looks as if it passed by itself.
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(wrong("it names no host"));
        }
        self.config = Some(config);
        Ok(self)
    }

    /// Takes an option that is ours. `false`: it is for the driver.
    fn option(&mut self, name: &str, value: &str) -> Result<bool> {
        match name {
            "schema" => self.schema = Some(value.to_owned()),
            "prefix" => value.clone_into(&mut self.prefix),
            "pool_size" => self.pool_size = value.parse().map_err(|_| wrong("option pool_size is not a number"))?,
            "partition_seconds" => {
                let seconds = value.parse().map_err(|_| wrong("option partition_seconds is not a number"))?;
                self.partition_period = Some(Duration::from_secs(seconds));
            }
            "listen" => self.listen = switch(name, value)?,
            "prepared_statements" => self.settings.prepared = switch(name, value)?,
            "operation_timeout_ms" => {
                let millis = value.parse().map_err(|_| wrong("option operation_timeout_ms is not a number"))?;
                self.operation_timeout = Duration::from_millis(millis);
            }
            "sslrootcert" => self.trust(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    #[cfg_attr(not(any(feature = "rustls", feature = "native-tls")), expect(unused_variables, reason = "there is no TLS to trust it"))]
    fn trust(&mut self, file: &str) -> Result<()> {
        match &mut self.tls {
            #[cfg(feature = "rustls")]
            Tls::Rustls { ca } => {
                *ca = Some(PathBuf::from(file));
                Ok(())
            }
            #[cfg(feature = "native-tls")]
            Tls::Native { ca } => {
                *ca = Some(PathBuf::from(file));
                Ok(())
            }
            Tls::Off => Err(wrong("option sslrootcert needs the feature `rustls` or `native-tls` of tickr-postgres")),
        }
    }

    /// Opens the storage and connects once, so that a wrong address or password is found here. The schema is not checked: see
    /// `Storage::schema` and `Storage::migrate`.
    ///
    /// # Errors
    /// `Config` for a wrong setting, password, database or certificate; `Unavailable` when the server cannot be reached, is
    /// starting or in recovery, or has no connection to spare.
    pub async fn connect(self) -> Result<PostgresStorage> {
        let storage = self.build()?;
        storage.ping().await?;
        Ok(storage)
    }

    /// Opens the storage without connecting; connections are made when they are needed.
    ///
    /// # Errors
    /// `Config` for a wrong setting, or an unreadable file of certificates.
    pub fn build(self) -> Result<PostgresStorage> {
        for (name, timeout) in [("operation", self.operation_timeout), ("connect", self.connect_timeout)] {
            if timeout < Duration::from_millis(10) || timeout > DAY {
                return Err(Error::config(format!("{name} timeout {timeout:?} is not between 10 ms and a day")));
            }
        }
        if let Some(period) = self.partition_period.filter(|period| *period < Duration::from_secs(60) || *period > 3_660 * DAY) {
            return Err(Error::config(format!("a partition for {period:?} is not between a minute and ten years")));
        }
        if self.pool_size == 0 {
            return Err(Error::config("pool_size is 0; it must be at least 1"));
        }
        PostgresStorage::start(self)
    }
}

fn switch(name: &str, value: &str) -> Result<bool> {
    match value {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err(wrong(&format!("option {name} is neither on nor off"))),
    }
}

/// The driver's reason without what may be a part of a password: one with an unescaped `?` ends up in the query, and its rest is
/// then read as options.
fn shown(cause: String, query: &str) -> String {
    if query.contains('@') {
        return "an option is wrong, or the user or password has a `?`, `#`, `/` or `@` that is not percent-encoded".to_owned();
    }
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let names = query.split('&').map(|option| option.split_once('=').map_or(option, |(name, _)| name));
    if names.filter(|name| !name.is_empty()).all(is_name) { cause } else { "an option is unknown".to_owned() }
}

fn wrong(why: &str) -> Error {
    Error::config(format!("not a PostgreSQL URL such as postgres://user@host/database: {why}"))
}

#[cfg(test)]
mod tests {
    use tickr_core::ErrorKind;
    use tokio_postgres::config::SslMode;

    use super::*;

    #[test]
    fn urls_say_server_and_options() {
        let url = "postgres://app:s3cret@db:6432/shop?sslmode=require&schema=My%20queue&prefix=q_&pool_size=2&listen=off\
                   &prepared_statements=off&operation_timeout_ms=700";
        let builder = Builder::default().url(url).unwrap();
        let config = builder.config.as_ref().unwrap();
        assert_eq!((config.get_user(), config.get_dbname(), config.get_ports()), (Some("app"), Some("shop"), &[6432][..]));
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        assert_eq!((builder.schema.as_deref(), builder.prefix.as_str()), (Some("My queue"), "q_"));
        assert_eq!((builder.pool_size, builder.listen, builder.settings.prepared), (2, false, false));
        assert_eq!(builder.operation_timeout, Duration::from_millis(700));
    }

    #[test]
    fn a_wrong_url_names_the_part_and_never_the_password() {
        for (url, part) in [
            ("sqlite:x", "does not begin"),
            ("postgres://", "names no host"),
            ("postgres:///shop", "names no host"),
            ("postgres://app:s3cret@db:x/shop", "port"),
            ("postgres://app:s3cret@db/shop?pool_size=many", "option pool_size is not a number"),
            ("postgres://app:s3cret@db/shop?listen=perhaps", "option listen is neither on nor off"),
            ("postgres://app:s3cret@db/shop?colour=red", "colour"),
            ("postgres://app:s3cret@db/shop?sslmode=verify", "sslmode"),
            ("postgres://app:s3cret@db/shop?connect_timeout=s3cret", "connect_timeout"),
            ("postgres://app:s3cret@db/shop?operation_timeout_ms=s3cret", "option operation_timeout_ms is not a number"),
            ("postgres://app:s3cret@db/shop?partition_seconds=s3cret", "option partition_seconds is not a number"),
            ("postgres://app:s3cret@db/shop?prepared_statements=s3cret", "option prepared_statements is neither"),
            ("postgres://app:s3cret@db/shop?colour=s3cret%FF", "UTF-8"),
            // What follows an `@` in a password is read as the host and so on.
            ("postgres://app:pass@s3?cret=x@db/shop", "percent-encoded"),
            ("postgres://app:pass@s3?s3cret@db/shop", "percent-encoded"),
            ("postgres://app:pass@s3?pool_size=s3cret@db/shop", "option pool_size"),
            ("postgres://db/shop?S3CRET-s3cret", "unknown"),
        ] {
            let error = Builder::default().url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(error.to_string().contains(part), "{url}: {error}");
            assert!(!format!("{error} {error:#?}").contains("s3cret"), "{error:#?}");
        }
    }

    #[test]
    fn a_password_may_have_a_question_mark() {
        for password in ["a?s3cret", "?pool_size=many", "a?listen=x&b=c", "a?b?c"] {
            let builder = Builder::default().url(&format!("postgres://app:{password}@db/shop?pool_size=2")).unwrap();
            assert_eq!(builder.config.as_ref().unwrap().get_password(), Some(password.as_bytes()));
            assert_eq!(builder.pool_size, 2);
        }
    }

    #[test]
    fn what_is_refused_later_is_not_shown_either() {
        for url in [
            "postgres://app:pass@s3?prefix=s3cret@db/shop",
            "postgres://db/shop?prefix=s3cret.s3cret.s3cret.s3cret.s3cret.s3cret.s3cret",
            "postgres://db/shop?schema=s3cret.s3cret.s3cret.s3cret.s3cret.s3cret.s3cret.s3cret.s3cret.s3cret",
            "postgres://app:x@db/shop?sslrootcert=s3cret",
        ] {
            let error = Builder::default().url(url).and_then(Builder::build).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(!format!("{error} {error:#?}").contains("s3cret"), "{error:#?}");
        }
    }

    #[test]
    fn senseless_settings_are_refused() {
        let builder = || Builder::default().config(Config::new());
        for refused in [
            builder().pool_size(0).build(),
            builder().operation_timeout(Duration::ZERO).build(),
            builder().connect_timeout(2 * DAY).build(),
            builder().prefix("Q").build(),
            builder().schema("").build(),
            Builder::default().build(),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
