//! Wakes workers by LISTEN and NOTIFY: <https://www.postgresql.org/docs/current/sql-listen.html>.
//!
//! A notification is sent by the statement that makes messages ready, only while a worker of the type sleeps, because it takes a
//! lock that all commits of the server wait for. Losing one costs latency only.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use tickr_core::{BoxFuture, Error, ErrorKind, EventType, Listener, Notifier, Result};
use tickr_sql::postgres::notify;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client};

use crate::connection::{Connector, Messages};
use crate::door;
use crate::error::{Fault, timed_out};
use crate::executor::{Executor, Plan};

/// How often a silent connection is asked whether it is still there: a firewall that forgot it says nothing.
const PROBE_EVERY: Duration = Duration::from_secs(30);

/// The notifier of one storage handle.
#[derive(Debug)]
pub(crate) struct PostgresNotifier {
    pub(crate) executor: std::sync::Arc<Executor>,
    pub(crate) connector: Connector,
    pub(crate) channel: String,
    pub(crate) limit: Duration,
}

impl Notifier for PostgresNotifier {
    fn listen<'a>(&'a self, event_types: &'a [EventType]) -> BoxFuture<'a, Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let opened = door::within(self.limit, self.open(event_types)).await.unwrap_or_else(|| Err(timed_out()));
            opened.map(|listener| Box::new(listener) as Box<dyn Listener>).map_err(|fault| fault.during("listen"))
        })
    }

    fn notify<'a>(&'a self, event_types: &'a [EventType]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let names: Vec<&str> = event_types.iter().map(EventType::as_str).collect();
            let params = [(&self.channel as _, Type::TEXT), (&names as _, Type::TEXT_ARRAY)];
            self.executor.run("notify", self.executor.once(Plan::Free, notify::TELL, &params)).await.map(drop)
        })
    }
}

impl PostgresNotifier {
    async fn open(&self, event_types: &[EventType]) -> std::result::Result<PostgresListener, Fault> {
        let (client, mut messages) = self.connector.listener().await?;
        let listen = format!("LISTEN \"{}\"", self.channel.replace('"', "\"\""));
        // What is said meanwhile is found by the claim that follows.
        drive(&mut messages, client.batch_execute(&listen)).await?;
        Ok(PostgresListener {
            connection: Some((client, messages)),
            channel: self.channel.clone(),
            event_types: event_types.iter().map(|event_type| event_type.as_str().to_owned()).collect(),
            limit: self.limit,
        })
    }
}

/// Reads the connection while a request on it is under way; gives what it says meanwhile.
async fn drive<T>(
    messages: &mut Messages,
    request: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
) -> std::result::Result<Vec<AsyncMessage>, Fault> {
    let mut request = Box::pin(request);
    let mut said = Vec::new();
    loop {
        match select(&mut request, messages.next()).await {
            Either::Left((answer, _)) => return answer.map(|_| said).map_err(Fault::from),
            Either::Right((Some(message), _)) => said.push(message?),
            Either::Right((None, _)) => return Err(closed().into()),
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection for notifications was closed")
}

/// One connection that listens. Dropping it closes the connection.
struct PostgresListener {
    connection: Option<(Client, Messages)>,
    channel: String,
    event_types: HashSet<String>,
    limit: Duration,
}

impl std::fmt::Debug for PostgresListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresListener").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl PostgresListener {
    async fn hint(&mut self) -> std::result::Result<(), Fault> {
        let Some((client, messages)) = &mut self.connection else {
            return Err(Error::new(ErrorKind::Closed, "the listener was closed").into());
        };
        loop {
            let said = match door::within(PROBE_EVERY, messages.next()).await {
                Some(Some(message)) => vec![message?],
                Some(None) => return Err(closed().into()),
                // Silence: whether anybody is there.
                None => {
                    let probe = drive(messages, client.batch_execute(""));
                    door::within(self.limit, probe).await.unwrap_or_else(|| Err(timed_out()))?
                }
            };
            let is_hint = |message: &AsyncMessage| match message {
                AsyncMessage::Notification(heard) => heard.channel() == self.channel && self.event_types.contains(heard.payload()),
                _ => false,
            };
            if said.iter().any(is_hint) {
                return Ok(());
            }
        }
    }
}

impl Listener for PostgresListener {
    fn next(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let heard = self.hint().await;
            if heard.is_err() {
                self.connection = None;
            }
            heard.map_err(|fault| fault.during("listen"))
        })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<()>> {
        self.connection = None;
        Box::pin(std::future::ready(Ok(())))
    }
}
