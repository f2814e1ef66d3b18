//! Single messages that wait at the same time share a statement.
//!
//! A message in a transaction of its own costs a wait for the disk. While a few such transactions of a handle are under way, the next
//! messages wait for one of them to end, and then go together. There are no timers: a message that finds no other on its way is sent
//! at once, and the more there are, the more go together. Each caller is answered after the commit that holds its message.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tickr_core::{ClockOffset, Error, ErrorKind, NewMessage};
use tokio::sync::oneshot;

use crate::door;
use crate::enqueue;
use crate::error::Fault;
use crate::executor::Executor;

/// How many transactions are under way before messages wait for each other.
const FLIGHTS: usize = 2;
/// How many messages go together at most, and how many bytes of payloads.
const GROUP: usize = 500;
const GROUP_BYTES: usize = 1 << 20;
/// The share of an operation's time that a message spends with others. If that was in vain, the rest is its own.
const SHARE: u32 = 4;

/// Whether a batch may go with others: it is a single message, which cannot refuse what belongs to others by its key.
pub(crate) fn single(batch: &[NewMessage]) -> Option<&NewMessage> {
    match batch {
        [message] if enqueue::is_plain(message) => Some(message),
        _ => None,
    }
}

/// The single messages of one handle.
#[derive(Debug)]
pub(crate) struct Singles {
    executor: Arc<Executor>,
    clock: ClockOffset,
    channel: String,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    flights: usize,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    message: NewMessage,
    reply: oneshot::Sender<Answer>,
}

/// What became of a message that was sent with others. No answer: nobody knows.
#[derive(Clone, Debug)]
enum Answer {
    Stored,
    /// Nothing was written, and it is not said because of whom.
    Refused,
    /// The server's answer was lost, for this reason.
    Unknown(Arc<Error>),
}

enum Turn {
    Now(Flight),
    With(oneshot::Receiver<Answer>),
}

impl Singles {
    pub(crate) fn new(executor: Arc<Executor>, clock: ClockOffset, channel: String) -> Arc<Self> {
        Arc::new(Self { executor, clock, channel, queue: Mutex::default() })
    }

    /// Stores a message, at once or together with others.
    pub(crate) async fn store(self: &Arc<Self>, message: &NewMessage) -> Result<(), Fault> {
        let reply = match self.turn(message) {
            Turn::Now(_flight) => return self.alone(message).await,
            Turn::With(reply) => reply,
        };
        match door::within(self.shared_limit(), reply).await {
            Some(Ok(Answer::Stored)) => Ok(()),
            Some(Ok(Answer::Refused)) => self.alone(message).await,
            Some(Ok(Answer::Unknown(why))) => Err(unknown(why)),
            // It may be on its way all the same. The same id again does no harm; but what fails now says nothing about then.
            Some(Err(_)) | None => self.alone(message).await.map_err(|fault| unknown(fault.during("sent again"))),
        }
    }

    fn shared_limit(&self) -> Duration {
        self.executor.limit() / SHARE
    }

    async fn alone(&self, message: &NewMessage) -> Result<(), Fault> {
        enqueue::one(&*self.executor, self.clock.as_micros(), &self.channel, message).await
    }

    fn turn(self: &Arc<Self>, message: &NewMessage) -> Turn {
        let mut queue = self.queue();
        if queue.flights < FLIGHTS {
            queue.flights += 1;
            return Turn::Now(Flight(Arc::clone(self)));
        }
        let (reply, answer) = oneshot::channel();
        queue.waiting.push_back(Waiting { message: message.clone(), reply });
        Turn::With(answer)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends messages together, and reports to the callers that wait for them.
    async fn together(&self, group: Vec<Waiting>) {
        let batch: Vec<&NewMessage> = group.iter().map(|waiting| &waiting.message).collect();
        let session = self.executor.limited(self.shared_limit());
        let stored = enqueue::plain(&session, self.clock.as_micros(), &self.channel, &batch).await;
        let answer = match stored.map_err(|fault| fault.during("of several messages")) {
            Ok(_) => Answer::Stored,
            Err(error) if error.kind() == ErrorKind::Indeterminate => Answer::Unknown(Arc::new(error)),
            Err(_) => Answer::Refused,
        };
        for Waiting { reply, .. } in group {
            // Whoever went away does not hear it.
            let _ = reply.send(answer.clone());
        }
    }
}

/// Nobody knows whether the message is stored.
fn unknown(why: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Error::new(ErrorKind::Indeterminate, "the answer to a statement that stores several messages was lost").with_source(why).into()
}

impl Queue {
    /// What goes next; empty if nobody waits. Whoever has gone away is left out.
    fn group(&mut self) -> Vec<Waiting> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(waiting) = self.waiting.pop_front() {
            if waiting.reply.is_closed() {
                continue;
            }
            bytes += waiting.message.payload.len();
            if !group.is_empty() && (group.len() == GROUP || bytes > GROUP_BYTES) {
                self.waiting.push_front(waiting);
                break;
            }
            group.push(waiting);
        }
        group
    }
}

/// One of the transactions under way. When it ends, however it ends, who waits goes next.
#[derive(Debug)]
struct Flight(Arc<Singles>);

impl Drop for Flight {
    fn drop(&mut self) {
        let group = {
            let mut queue = self.0.queue();
            let group = queue.group();
            queue.flights -= usize::from(group.is_empty());
            group
        };
        if !group.is_empty() {
            let next = Self(Arc::clone(&self.0));
            // A task, because none of those who wait may take the others along when it goes away.
            door::spawn(async move {
                next.0.together(group).await;
                drop(next);
            });
        }
    }
}
