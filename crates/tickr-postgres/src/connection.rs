//! Opens connections: the pool's, those for heartbeats, those for LISTEN.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Hook, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, StatementCache};
use futures_util::Stream;
use futures_util::stream::poll_fn;
use tickr_core::{Error, Result};
use tokio::runtime;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, NoTls, Socket};

use crate::config::Builder;
use crate::door;
use crate::error::{Fault, connecting, no_answer};
use crate::tls::{self, Encryption};

/// What a server says by itself, while somebody polls.
pub(crate) type Messages = Pin<Box<dyn Stream<Item = std::result::Result<AsyncMessage, tokio_postgres::Error>> + Send>>;

/// A configuration with what encrypts its connections.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Config,
    tls: Encryption,
    limit: Duration,
    made: Made,
}

/// The connections of the pool that this storage made, known by their caches of statements.
#[derive(Clone, Default)]
struct Made(Arc<Mutex<Vec<Weak<StatementCache>>>>);

impl Made {
    fn add(&self, cache: &Arc<StatementCache>) {
        let mut caches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        caches.retain(|cache| cache.strong_count() > 0);
        caches.push(Arc::downgrade(cache));
    }

    fn has(&self, cache: &Arc<StatementCache>) -> bool {
        let caches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        caches.iter().any(|made| std::ptr::eq(made.as_ptr(), Arc::as_ptr(cache)))
    }
}

impl std::fmt::Debug for Connector {
    /// Without the configuration, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// Calls a generic function with the connector that was chosen.
macro_rules! with_tls {
    ($connector:expr, $tls:ident => $call:expr) => {
        match &$connector.tls {
            Encryption::Off => {
                let $tls = NoTls;
                $call
            }
            #[cfg(feature = "rustls")]
            Encryption::Rustls(tls) => {
                let $tls = tls.clone();
                $call
            }
            #[cfg(feature = "native-tls")]
            Encryption::Native(tls) => {
                let $tls = tls.clone();
                $call
            }
        }
    };
}

impl Connector {
    /// `None` when the builder says nothing of the server.
    pub(crate) fn new(builder: &Builder) -> Result<Option<Self>> {
        let Some(mut config) = builder.config.clone() else { return Ok(None) };
        if config.get_application_name().is_none() {
            config.application_name("tickr");
        }
        let timeout = *config.get_connect_timeout().unwrap_or(&builder.connect_timeout);
        config.connect_timeout(timeout);
        // The driver's own time-out ends with the handshake of TCP; a server may be silent after that. Several hosts are tried in turn.
        let hosts = config.get_hosts().len().max(config.get_hostaddrs().len()).max(1);
        let limit = timeout.saturating_mul(u32::try_from(hosts).unwrap_or(u32::MAX));
        // A standby can do nothing that tickr needs. Of several hosts the first one that answers may be one.
        if hosts > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        // A peer that is gone is noticed before the application's own time-outs, not after the two hours of the default.
        config.keepalives(true).keepalives_idle(Duration::from_secs(30)).tcp_user_timeout(builder.operation_timeout);
        let mode = tls::mode(&builder.tls, config.get_ssl_mode())?;
        config.ssl_mode(mode);
        let tls = Encryption::new(&builder.tls, mode)?;
        Ok(Some(Self { config, tls, limit, made: Made::default() }))
    }

    /// A pool that makes connections when they are needed.
    pub(crate) fn pool(&self, size: usize) -> Result<Pool> {
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = with_tls!(self, tls => Manager::from_config(self.config.clone(), tls, config));
        let made = self.made.clone();
        let remember = Hook::sync_fn(move |client: &mut ClientWrapper, _| {
            made.add(&client.statement_cache);
            Ok(())
        });
        let pool = Pool::builder(manager).max_size(size).create_timeout(Some(self.limit)).runtime(Runtime::Tokio1).post_create(remember);
        let pool = pool.build();
        pool.map_err(|error| Error::config(format!("the pool cannot be built: {error}")))
    }

    /// Whether a connection with this cache is of the pool that [`pool`](Self::pool) made, which recycles connections as they are.
    pub(crate) fn made(&self, cache: &Arc<StatementCache>) -> bool {
        self.made.has(cache)
    }

    /// Asks the server to end what a connection waits for.
    pub(crate) async fn cancel(&self, token: CancelToken) -> std::result::Result<(), tokio_postgres::Error> {
        with_tls!(self, tls => token.cancel_query(tls).await)
    }

    /// A connection whose messages the caller reads: for LISTEN.
    pub(crate) async fn listener(&self) -> std::result::Result<(Client, Messages), Fault> {
        let opened = door::within(self.limit, async { with_tls!(self, tls => listener(&self.config, tls).await) });
        opened.await.unwrap_or_else(|| Err(no_answer(self.limit).into()))
    }
}

async fn listener<T>(config: &Config, tls: T) -> std::result::Result<(Client, Messages), Fault>
where
    T: MakeTlsConnect<Socket>,
    T::TlsConnect: TlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = config.connect(tls).await.map_err(connecting)?;
    let messages = poll_fn(move |context| connection.poll_message(context));
    Ok((client, Box::pin(messages)))
}

/// The connections for heartbeats: made through the pool's manager but not counted by the pool, so that a lease is extended while
/// every connection of the pool is busy. A worker beats on a runtime of its own, and its connection has to live there: on another
/// it would stand still with that one. So there is one a runtime.
#[derive(Debug, Default)]
pub(crate) struct Beats(Mutex<HashMap<runtime::Id, Beat>>);

/// The connection of one runtime; absent before the first heartbeat and after a failure.
pub(crate) type Beat = Arc<tokio::sync::Mutex<Option<ClientWrapper>>>;

impl Beats {
    /// The one of the current runtime. Those of runtimes that have ended are forgotten.
    pub(crate) fn here(&self) -> Beat {
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = runtime::Handle::current().id();
        if !beats.contains_key(&here) {
            // Whoever cannot be locked is in use.
            beats.retain(|_, beat| beat.try_lock().map_or(true, |client| client.as_ref().is_some_and(|client| !client.is_closed())));
        }
        Arc::clone(beats.entry(here).or_default())
    }
}
