//! Transactions of the application: a closure runs in one on a thread of the storage, where blocking harms nobody.
//!
//! The thread has a connection of its own and starts with the first transaction. It is not the thread that records outcomes: code of
//! the application must not delay them for longer than SQLite's lock does.

use std::future::Future;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use rusqlite::{Transaction, TransactionBehavior};
use tickr_core::{Client, Enqueued, Error, ErrorKind, IntoMessage, Result, Storage as _, caught};
use tokio::sync::oneshot;

use crate::config::Builder;
use crate::connection::{self, Purpose};
use crate::door;
use crate::error::Fault;
use crate::file::Open;
use crate::storage::SqliteStorage;

/// What the thread does next, with its connection, or with the reason why it has none.
pub(crate) type Job = Box<dyn FnOnce(Result<&mut Open>) + Send>;

/// Starts the thread when it is needed. It ends when this value is dropped and what was queued is done.
#[derive(Debug, Default)]
pub(crate) struct Application(Mutex<Option<Sender<Job>>>);

impl Application {
    pub(crate) fn send(&self, config: &Builder, job: Job) -> Result<()> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = match &*jobs {
            Some(jobs) => jobs,
            None => {
                let (sender, queue) = channel();
                let config = config.clone();
                door::spawn("tickr-sqlite-app", move || run(&config, &queue))?;
                jobs.insert(sender)
            }
        };
        jobs.send(job).map_err(|_| Error::new(ErrorKind::Closed, "the thread for transactions has ended"))
    }
}

fn run(config: &Builder, queue: &Receiver<Job>) {
    let mut open = None;
    for job in queue {
        if open.is_none() {
            match Open::new(config, Purpose::Write) {
                Ok(mut opened) => {
                    if let Err(error) = connection::wait_for_locks(&mut opened.connection, config.busy_timeout) {
                        tracing::error!(%error, "the busy handler cannot be set: waiting for locks is left to SQLite");
                    }
                    open = Some(opened);
                }
                Err(error) => {
                    answer(|| job(Err(error)));
                    continue;
                }
            }
        }
        let Some(current) = &mut open else { continue };
        // After a panic the next transaction begins on a connection of its own.
        if !answer(|| job(current.follow(config).map(|()| current)))
            && let Some(open) = open.take()
        {
            connection::close(open.connection);
        }
    }
    if let Some(open) = open {
        connection::close(open.connection);
    }
}

/// Runs a job; `false` if it panicked. Panics of the application's work go on in its caller. This one is of something that is dropped
/// here because nobody waits for it any more.
fn answer(job: impl FnOnce()) -> bool {
    let ran = caught(job);
    if let Err(panic) = &ran {
        tracing::error!(panic, "a value of the application panicked when it was dropped, in the thread for transactions");
    }
    ran.is_ok()
}

/// A transaction of [`Transactions::transaction`]: rusqlite's own, which it dereferences to, and the client.
#[derive(Debug)]
pub struct Tx<'c> {
    transaction: Transaction<'c>,
    client: &'c Client<SqliteStorage>,
    enqueued: bool,
}

impl<'c> Deref for Tx<'c> {
    type Target = Transaction<'c>;

    fn deref(&self) -> &Transaction<'c> {
        &self.transaction
    }
}

impl Tx<'_> {
    /// Enqueues one message within the transaction.
    ///
    /// # Errors
    /// As [`Client::enqueue_in`].
    pub fn enqueue(&mut self, message: impl IntoMessage) -> Result<Enqueued> {
        self.enqueued = true;
        at_once(self.client.enqueue_in(&mut self.transaction, message))
    }

    /// Enqueues many messages within the transaction, all or none. The results are in the same order.
    ///
    /// # Errors
    /// As [`Client::enqueue_all_in`].
    pub fn enqueue_all<M: IntoMessage>(&mut self, messages: impl IntoIterator<Item = M>) -> Result<Vec<Enqueued>> {
        self.enqueued = true;
        at_once(self.client.enqueue_all_in(&mut self.transaction, messages))
    }
}

/// The answer of a future that never waits, as those that enqueue in a transaction of SQLite do not.
fn at_once<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Error::new(ErrorKind::Internal, "an enqueue in a transaction of SQLite waits for something")),
    }
}

/// Transactions of the application in futures that must be `Send`, such as handlers of HTTP requests and of messages: rusqlite's
/// `Transaction` is not `Send`, and blocks the thread that it is used on.
pub trait Transactions {
    /// Runs `work` in a transaction on a thread of the storage, with a connection to the same file: commits what it answers `Ok` to,
    /// and rolls back for an error or a panic, which goes on in the caller. Workers of this process are woken after the commit.
    ///
    /// The transaction takes SQLite's write lock when it begins (`BEGIN IMMEDIATE`) and waits for it for the busy timeout of the
    /// storage. One runs at a time, so `work` should do nothing but use the database. Foreign keys are enforced. A future that is
    /// dropped early may leave a transaction that commits.
    ///
    /// ```
    /// use tickr_core::{BoxError, Client, Message};
    /// use tickr_sqlite::{SqliteStorage, Transactions};
    ///
    /// async fn place(client: &Client<SqliteStorage>, item: String) -> Result<i64, BoxError> {
    ///     client
    ///         .transaction(move |tx| {
    ///             tx.execute("INSERT INTO orders (item) VALUES (?1)", [&item])?;
    ///             let order = tx.last_insert_rowid();
    ///             tx.enqueue(Message::new("order.placed", order.to_string()))?;
    ///             Ok(order)
    ///         })
    ///         .await
    /// }
    /// ```
    ///
    /// # Errors
    /// What `work` answers. Else `Unavailable` when the lock cannot be had in time, `Config` for a file that is only read, and what
    /// the commit says.
    fn transaction<T, E>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static;
}

impl Transactions for Client<SqliteStorage> {
    fn transaction<T, E>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let (client, span) = (self.clone(), tracing::Span::current());
        let job = Box::new(move |open: Result<&mut Open>| {
            // Nobody waits any more: nothing has happened, and nothing will.
            if answer.is_closed() {
                return;
            }
            let done =
                span.in_scope(|| catch_unwind(AssertUnwindSafe(|| open.map_err(E::from).and_then(|open| within(open, &client, work)))));
            drop(answer.send(done));
        });
        let sent = self.storage().writer().and_then(|writer| {
            writer.refuse_in_child("transaction")?;
            self.storage().send_to_application(job)
        });
        async move {
            sent?;
            let closed = || Error::new(ErrorKind::Closed, "the thread for transactions has ended");
            answered.await.map_err(|_| closed())?.unwrap_or_else(|panic| resume_unwind(panic))
        }
    }
}

fn within<T, E: From<Error>>(
    open: &mut Open,
    client: &Client<SqliteStorage>,
    work: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let failed = |error: rusqlite::Error, operation| E::from(Fault::from(error).during(operation));
    let transaction =
        open.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|error| failed(error, "begin a transaction"))?;
    let mut tx = Tx { transaction, client, enqueued: false };
    let result = work(&mut tx)?;
    let Tx { transaction, enqueued, .. } = tx;
    transaction.commit().map_err(|error| failed(error, "commit a transaction"))?;
    if !open.file.is_current() {
        return Err(open.file.replaced_at_commit("commit a transaction").into());
    }
    if enqueued {
        client.storage().wakeups().wake_all();
    }
    Ok(result)
}
