//! Threads that own a connection each and run jobs on it, so that no async thread ever blocks on a file.
//!
//! **Group commit.** The writing thread takes all jobs that wait (at most [`GROUP_JOBS_MAX`], for at most
//! [`GROUP_TIME_MAX`]), runs each in a savepoint of one `BEGIN IMMEDIATE` transaction, commits once, and answers after the
//! commit. A job that fails is rolled back alone. The price of a commit, a wait for the disk, is thus shared by all that came
//! while the last one was waited for.
//!
//! The queue of jobs has no bound of its own: each caller waits for its answer, so it holds at most one job a caller.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};
use tickr_core::{Error, ErrorKind, Result, WakeHub, caught};
use tokio::sync::oneshot;

use crate::config::{Builder, Settings};
use crate::connection::{self, Purpose};
use crate::deadline::{Deadlines, Limit};
use crate::door;
use crate::error::{Fault, at_begin, at_commit};
use crate::file::Open;
use crate::scope::Scope;

/// Jobs that share a commit, at most.
const GROUP_JOBS_MAX: usize = 64;
/// How long a group goes on taking further jobs, so that the lock is not held for long.
const GROUP_TIME_MAX: Duration = Duration::from_millis(20);
/// After writing this long without a pause, the lock is left alone for [`COURTESY`], so that others get their turn:
/// SQLite has no queue of waiters, they look again and again.
const STREAK_MAX: Duration = Duration::from_millis(20);
const COURTESY: Duration = Duration::from_micros(300);
/// A log longer than this is copied back as a whole, with a short wait for those who still read from it; when they do not
/// come to an end, again after a while.
const LOG_BYTES_MAX: u64 = 64 << 20;
const LOG_PATIENCE: Duration = Duration::from_millis(100);
const LOG_RETRY: Duration = Duration::from_secs(5);

/// A thread with a connection. It ends when this value is dropped and what was queued is done.
#[derive(Debug)]
pub(crate) struct Executor {
    jobs: Sender<Box<dyn Job>>,
    deadlines: Arc<Deadlines>,
    /// The process that the thread runs in. A child of it has this handle, but not its threads.
    process: u32,
}

/// What a job may find out before the write lock is taken: an answer, if there is nothing to write.
pub(crate) type Probe<T> = Box<dyn FnOnce(&Scope<'_>) -> Result<Option<T>, Fault> + Send>;
type Work<T> = Box<dyn FnOnce(&mut Scope<'_>) -> Result<T, Fault> + Send>;

impl Executor {
    /// Starts a thread for a connection that was opened already.
    pub(crate) fn start(name: &str, open: Open, config: &Builder, wakeups: WakeHub, deadlines: Arc<Deadlines>) -> Result<Self> {
        let (jobs, queue) = channel();
        let owner = Owner { open, config: config.clone(), wakeups, log_failed_at: None, streak: None };
        door::spawn(name, move || owner.run(&queue))?;
        Ok(Self { jobs, deadlines, process: std::process::id() })
    }

    /// Runs `work` in a transaction; its answer comes after the commit.
    pub(crate) async fn run<T, W>(&self, operation: &'static str, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Scope<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.send(operation, Limit::Short, None, Box::new(work)).await
    }

    /// As [`run`](Self::run), for work that reads or changes everything.
    pub(crate) async fn run_long<T, W>(&self, operation: &'static str, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Scope<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.send(operation, Limit::Long, None, Box::new(work)).await
    }

    /// As [`run`](Self::run), but asks `probe` first whether there is anything to write.
    pub(crate) async fn run_unless<T, W>(&self, operation: &'static str, probe: Probe<T>, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Scope<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.send(operation, Limit::Short, Some(probe), Box::new(work)).await
    }

    /// Refuses an operation in a forked child, which has none of the handle's threads. For before anything is locked or sent: a fork
    /// copies locks as they are, and nobody would answer.
    pub(crate) fn refuse_in_child(&self, operation: &'static str) -> Result<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Closed, "the storage was opened before a fork; open it in the child").during(operation))
    }

    async fn send<T: Send + 'static>(&self, operation: &'static str, limit: Limit, probe: Option<Probe<T>>, work: Work<T>) -> Result<T> {
        self.refuse_in_child(operation)?;
        let (answer, answered) = oneshot::channel();
        let task = Task { operation, probe, work: Some(work), result: None, answer, since: door::now() };
        let closed = || Error::new(ErrorKind::Closed, "the storage was shut down").during(operation);
        self.jobs.send(Box::new(task)).map_err(|_| closed())?;
        let mut expired = self.deadlines.begin(limit);
        let mut answered = answered;
        let outcome = poll_fn(|context| match Pin::new(&mut answered).poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => Pin::new(&mut expired).poll(context).map(|_| None),
        });
        match outcome.await {
            Some(outcome) => outcome.map_err(|_| closed())?,
            // What is not begun is left out; what has begun may still be written.
            None => Err(Error::new(ErrorKind::Indeterminate, "the database file did not answer in time").during(operation)),
        }
    }
}

/// A job, whatever it answers.
trait Job: Send {
    /// Whether nobody waits for it any more, and for how long it has waited.
    fn is_abandoned(&self) -> bool;
    fn since(&self) -> Instant;
    fn has_probe(&self) -> bool;
    /// Looks whether there is anything to write. `true`: the job has its result.
    fn probe(&mut self, scope: &Scope<'_>) -> bool;
    /// Does the work; `false` when it failed and must be rolled back.
    fn work(&mut self, scope: &mut Scope<'_>) -> bool;
    /// Replaces the result by an error, unless it is one already.
    fn fail(&mut self, error: &dyn Fn(&str) -> Error);
    /// Sends the result.
    fn answer(self: Box<Self>);
}

struct Task<T> {
    operation: &'static str,
    probe: Option<Probe<T>>,
    work: Option<Work<T>>,
    result: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
    since: Instant,
}

impl<T> Task<T> {
    fn answer_of<V>(&self, call: impl FnOnce() -> Result<V, Fault>) -> Result<V> {
        match caught(call) {
            Ok(result) => result.map_err(|fault| fault.during(self.operation)),
            Err(panic) => {
                let error = Error::new(ErrorKind::Internal, "the adapter panicked; nothing was written");
                Err(error.with_source(panic).during(self.operation))
            }
        }
    }
}

impl<T: Send> Job for Task<T> {
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn has_probe(&self) -> bool {
        self.probe.is_some()
    }

    fn probe(&mut self, scope: &Scope<'_>) -> bool {
        let Some(probe) = self.probe.take() else { return false };
        self.result = self.answer_of(|| probe(scope)).transpose();
        self.result.is_some()
    }

    fn work(&mut self, scope: &mut Scope<'_>) -> bool {
        let Some(work) = self.work.take() else { return false };
        let result = self.answer_of(|| work(scope));
        let succeeded = result.is_ok();
        self.result = Some(result);
        succeeded
    }

    fn fail(&mut self, error: &dyn Fn(&str) -> Error) {
        if !matches!(self.result, Some(Err(_))) {
            self.result = Some(Err(error(self.operation)));
        }
    }

    fn answer(self: Box<Self>) {
        let internal = || Err(Error::new(ErrorKind::Internal, "the job was not run").during(self.operation));
        let result = self.result.unwrap_or_else(internal);
        // Whoever gave up waiting does not need the answer.
        drop(self.answer.send(result));
    }
}

/// What lives on the thread.
struct Owner {
    open: Open,
    config: Builder,
    wakeups: WakeHub,
    log_failed_at: Option<Instant>,
    /// Since when this thread has been writing, and when it last let the lock go.
    streak: Option<(Instant, Instant)>,
}

impl Owner {
    fn run(mut self, queue: &Receiver<Box<dyn Job>>) {
        if let Err(error) = connection::wait_for_locks(&mut self.open.connection, self.config.busy_timeout) {
            tracing::error!(%error, "the busy handler cannot be set: waiting for locks is left to SQLite");
        }
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                match queue.recv() {
                    Ok(job) => waiting.push_back(job),
                    Err(_) => return connection::close(self.open.connection),
                }
            }
            waiting.extend(queue.try_iter());
            waiting.retain(|job| !job.is_abandoned());
            if let Err(error) = self.open.follow(&self.config) {
                for mut job in waiting.drain(..) {
                    job.fail(&|operation| Error::new(error.kind(), error.to_string()).during(operation));
                    job.answer();
                }
                continue;
            }
            match self.open.purpose() {
                Purpose::Read => self.read(&mut waiting),
                Purpose::Write => {
                    self.answer_without_writing(&mut waiting);
                    self.write(&mut waiting);
                }
            }
        }
    }

    /// Runs one job on a snapshot of its own.
    fn read(&mut self, waiting: &mut VecDeque<Box<dyn Job>>) {
        let Some(mut job) = waiting.pop_front() else { return };
        match self.open.connection.transaction_with_behavior(connection::behavior(Purpose::Read)) {
            Ok(transaction) => {
                job.work(&mut Scope::new(&transaction, &self.config.settings));
            }
            Err(error) => job.fail(&|operation| at_begin(&error, operation)),
        }
        job.answer();
    }

    /// When everything that waits may turn out to have nothing to write, looks: an idle worker takes no write lock.
    fn answer_without_writing(&self, waiting: &mut VecDeque<Box<dyn Job>>) {
        if !waiting.iter().all(|job| job.has_probe()) {
            return;
        }
        let mut left = VecDeque::with_capacity(waiting.len());
        for mut job in waiting.drain(..) {
            if job.probe(&Scope::new(&self.open.connection, &self.config.settings)) {
                job.answer();
            } else {
                left.push_back(job);
            }
        }
        *waiting = left;
    }

    /// Runs a group of jobs in one transaction.
    fn write(&mut self, waiting: &mut VecDeque<Box<dyn Job>>) {
        if waiting.is_empty() {
            return;
        }
        self.let_others_write();
        let began = door::now();
        let mut done = Vec::new();
        match self.open.connection.transaction_with_behavior(connection::behavior(Purpose::Write)) {
            Ok(mut transaction) => {
                let committed = run_group(&mut transaction, &self.config.settings, waiting, &mut done).and_then(|ready| {
                    transaction.commit().map_err(GroupError::Commit)?;
                    Ok(ready)
                });
                match committed {
                    Ok(_) if !self.open.file.is_current() => {
                        fail_all(&mut done, &|operation| self.open.file.replaced_at_commit(operation));
                    }
                    Ok(ready) => self.wakeups.wake(&ready),
                    Err(GroupError::Commit(error)) => fail_all(&mut done, &|operation| at_commit(&error, operation)),
                    Err(GroupError::RolledBack) => fail_all(&mut done, &|operation| {
                        Error::new(ErrorKind::Unavailable, "the database rolled the transaction back because of another job")
                            .during(operation)
                    }),
                }
            }
            Err(error) => {
                // Nobody waits for the lock twice.
                let now = door::now();
                let patience = self.config.busy_timeout;
                let (late, left): (VecDeque<_>, VecDeque<_>) =
                    std::mem::take(waiting).into_iter().partition(|job| now.duration_since(job.since()) >= patience);
                *waiting = left;
                done = late.into();
                if done.is_empty() {
                    done.extend(waiting.pop_front());
                }
                fail_all(&mut done, &|operation| at_begin(&error, operation));
            }
        }
        self.note_freed(began);
        for job in done {
            job.answer();
        }
        self.keep_log_short();
    }

    /// Leaves the lock alone for a moment when it was hardly free for a while.
    fn let_others_write(&mut self) {
        let now = door::now();
        match self.streak {
            Some((_, freed)) if now.duration_since(freed) >= COURTESY => self.streak = None,
            Some((began, _)) if now.duration_since(began) >= STREAK_MAX => {
                door::sleep(COURTESY);
                self.streak = None;
            }
            _ => {}
        }
    }

    fn note_freed(&mut self, began: Instant) {
        let freed = door::now();
        self.streak = Some((self.streak.map_or(began, |(began, _)| began), freed));
    }

    /// Commits copy the log back beside other writers and readers, so under steady load it never is copied as a whole, and
    /// would grow for ever (<https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files>). This holds the write lock
    /// for the copy.
    fn keep_log_short(&mut self) {
        let bytes = std::fs::metadata(self.open.file.log_path()).map_or(0, |metadata| metadata.len());
        let now = door::now();
        if bytes <= LOG_BYTES_MAX || self.log_failed_at.is_some_and(|failed| now.duration_since(failed) < LOG_RETRY) {
            return;
        }
        connection::set_patience(LOG_PATIENCE);
        let restarted = self.open.connection.pragma_update_and_check(None, "wal_checkpoint", "RESTART", |row| row.get::<_, i64>(0));
        connection::set_patience(self.config.busy_timeout);
        self.log_failed_at = match restarted {
            Ok(0) => None,
            Ok(_) => {
                tracing::warn!(bytes, "the write-ahead log grows: another connection reads without a pause");
                Some(now)
            }
            Err(error) => {
                tracing::warn!(bytes, %error, "the write-ahead log cannot be copied back");
                Some(now)
            }
        };
    }
}

enum GroupError {
    /// The commit failed.
    Commit(rusqlite::Error),
    /// A full disk or the like made SQLite roll everything back: <https://www.sqlite.org/lang_transaction.html#immediate>.
    RolledBack,
}

/// Runs jobs until the group is large or old enough; gives the types that they made ready.
fn run_group(
    transaction: &mut Transaction<'_>,
    settings: &Settings,
    waiting: &mut VecDeque<Box<dyn Job>>,
    done: &mut Vec<Box<dyn Job>>,
) -> Result<Vec<tickr_core::EventType>, GroupError> {
    let began = door::now();
    let alone = waiting.len() == 1;
    let mut ready = Vec::new();
    while let Some(mut job) = waiting.pop_front() {
        let mut made = Vec::new();
        let succeeded = if alone {
            run_job(&mut *job, transaction, settings, &mut made)
        } else {
            run_in_savepoint(&mut *job, transaction, settings, &mut made)
        };
        done.push(job);
        if transaction.is_autocommit() || (alone && !succeeded) {
            return Err(GroupError::RolledBack);
        }
        for event_type in made {
            if !ready.contains(&event_type) {
                ready.push(event_type);
            }
        }
        if done.len() >= GROUP_JOBS_MAX || door::now().duration_since(began) >= GROUP_TIME_MAX {
            break;
        }
    }
    Ok(ready)
}

fn run_job(job: &mut dyn Job, connection: &Connection, settings: &Settings, made: &mut Vec<tickr_core::EventType>) -> bool {
    let mut scope = Scope::new(connection, settings);
    let succeeded = job.work(&mut scope);
    *made = scope.into_made_ready();
    succeeded
}

fn run_in_savepoint(
    job: &mut dyn Job,
    transaction: &mut Transaction<'_>,
    settings: &Settings,
    made: &mut Vec<tickr_core::EventType>,
) -> bool {
    let outcome = transaction.savepoint().and_then(|mut savepoint| {
        if run_job(job, &savepoint, settings, made) {
            savepoint.commit()?;
            return Ok(true);
        }
        made.clear();
        if !savepoint.is_autocommit() {
            savepoint.rollback()?;
            savepoint.commit()?;
        }
        Ok(false)
    });
    outcome.unwrap_or_else(|error| {
        made.clear();
        job.fail(&|operation| at_begin(&error, operation));
        false
    })
}

fn fail_all(jobs: &mut [Box<dyn Job>], error: &dyn Fn(&str) -> Error) {
    for job in jobs {
        job.fail(error);
    }
}

#[cfg(test)]
mod tests {
    use tickr_core::{EventType, Hint};
    use tickr_sql::sqlite::{admin, queue};

    use super::*;

    fn executor(folder: &tempfile::TempDir) -> Executor {
        waking(folder, WakeHub::default())
    }

    fn waking(folder: &tempfile::TempDir, wakeups: WakeHub) -> Executor {
        let config = Builder::default().path(folder.path().join("app.db"));
        let open = Open::new(&config, Purpose::Write).unwrap();
        open.connection.execute_batch(tickr_migrations::sqlite::MIGRATIONS[0].sql).unwrap();
        let deadlines = Arc::new(Deadlines::start(Duration::ZERO).unwrap());
        Executor::start("test", open, &config, wakeups, deadlines).unwrap()
    }

    /// A fork cannot be made here without unsafe code, so the process that is remembered is changed instead of the one that runs.
    #[tokio::test]
    async fn handle_of_another_process_answers_closed_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut executor = executor(&folder);
        executor.process = std::process::id().wrapping_add(1);
        let error = executor.run("enqueue", places).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.to_string().contains("open it in the child"), "{error}");
    }

    fn places(scope: &mut Scope<'_>) -> Result<i64, Fault> {
        Ok(scope.prepare(queue::LAST_SEQ)?.query_row([], |row| row.get(0))?)
    }

    /// Also in a group: while the first job sleeps, the others collect.
    #[tokio::test]
    async fn panic_is_an_error_of_its_own_job() {
        let folder = tempfile::tempdir().unwrap();
        let executor = executor(&folder);
        let reserve = |scope: &mut Scope<'_>| scope.reserve(1);
        let slow = executor.run("slow", |_| {
            door::sleep(Duration::from_millis(50));
            Ok(())
        });
        let panicking = executor.run("panicking", |scope| {
            scope.reserve(1)?;
            panic!("on purpose, by a test")
        });
        let (_, first, failed, second): (_, _, Result<()>, _) =
            tokio::join!(slow, executor.run("first", reserve), panicking, executor.run("second", reserve));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!((first.unwrap(), second.unwrap()), (1, 2));
        assert_eq!(executor.run("read", places).await.unwrap(), 2);

        let alone: Result<()> = executor.run("alone", |_| panic!("on purpose, by a test")).await;
        assert_eq!(alone.unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(executor.run("read", places).await.unwrap(), 2);
    }

    /// Of jobs that share a commit, only those that are in it wake workers.
    #[tokio::test]
    async fn failed_job_of_a_group_wakes_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, undone) = (EventType::new("kept").unwrap(), EventType::new("undone").unwrap());
        let hub = WakeHub::default();
        let (of_kept, of_undone) = (hub.subscribe([&kept]), hub.subscribe([&undone]));
        let executor = waking(&folder, hub);
        let slow = executor.run("slow", |_| {
            door::sleep(Duration::from_millis(50));
            Ok(())
        });
        let fails = executor.run("fails", move |scope| {
            scope.note_ready(&undone);
            Err::<(), _>(crate::row::corrupt("on purpose, by a test"))
        });
        let succeeds = executor.run("succeeds", move |scope| {
            scope.note_ready(&kept);
            Ok(())
        });
        let (_, failed, succeeded) = tokio::join!(slow, fails, succeeds);
        assert!(failed.is_err() && succeeded.is_ok());
        assert_eq!((of_kept.take(), of_undone.take()), (Some(Hint::Ready), None));
    }

    #[tokio::test]
    async fn probe_answers_without_a_transaction() {
        let folder = tempfile::tempdir().unwrap();
        let executor = executor(&folder);
        let answered = executor.run_unless("probe", Box::new(|_| Ok(Some(7))), |_| Err(crate::row::corrupt("not reached"))).await;
        assert_eq!(answered.unwrap(), 7);
        let written = executor.run_unless("probe", Box::new(|_| Ok(None)), |scope| {
            scope.writes(admin::RESUME, ["a"])?;
            Ok(8)
        });
        assert_eq!(written.await.unwrap(), 8);
    }
}
