//! What an operator asks and does.

use std::future::Future;

use crate::error::Result;
use crate::event_type::EventType;
use crate::id::{MessageId, Token, WorkerId};
use crate::message::{Due, StoredMessage};
use crate::status::{Status, Transition};
use crate::storage::{Pause, PauseScope, Storage};
use crate::time::Timestamp;

/// Operations for people and tools: look up, list, requeue, kill, pause.
///
/// ```
/// use tickr_core::{Admin, Client, DeadQuery, Due, MemoryStorage, Message, Selection, Status};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> tickr_core::Result<()> {
/// let storage = MemoryStorage::new();
/// let id = Client::new(storage.clone()).enqueue(Message::new("mail", "")).await?.id();
/// storage.kill(&id.into(), "the address is wrong").await?;
///
/// let dead = storage.list_dead(&DeadQuery::default().event_type("mail")).await?;
/// assert_eq!(dead.items[0].reason, "killed: the address is wrong");
///
/// // Once the address is right:
/// storage.requeue(&Selection::event_type("mail").limit(100), Due::Now).await?;
/// assert_eq!(storage.get(id).await?.unwrap().status, Status::Created);
/// # Ok(()) }
/// ```
///
/// # Contract
/// - What was not found is said: [`Acted::missing`] names every id that nothing was done to. (`requeue::unknown_ids_are_reported`)
/// - A status is read in one snapshot: a message on the move is never absent, nor a success. (`status::during_move_is_never_success`)
/// - Lists are newest first and page by cursor. (`list::pages_by_cursor`)
/// - A page of [`list`](Self::list) has a bounded cost: it scans at most [`ListQuery::scan_max`] messages, however few of them match.
///   Such a page may be short or empty and still have a cursor. Pages that are followed to the end leave nothing out.
///   (`list::scan_is_bounded`, `list::short_pages_leave_nothing_out`)
/// - A stored row that cannot be read takes no other along: [`get`](Self::get), [`list`](Self::list) and
///   [`list_dead`](Self::list_dead) answer it as far as it can be read, marked by `unreadable`; [`history`](Self::history) leaves out
///   steps whose outcome this library does not know, [`workers`](Self::workers) the event types that it cannot read.
///   (`audit::unreadable_row_is_listed`)
pub trait Admin: Storage {
    /// One message with its status; `None` when its body is gone (purged or never stored).
    fn get(&self, id: MessageId) -> impl Future<Output = Result<Option<MessageRecord>>> + Send;

    /// Messages, newest first.
    fn list(&self, query: &ListQuery) -> impl Future<Output = Result<Page<MessageRecord>>> + Send;

    /// Every transition of a message that the journal still has, oldest first.
    fn history(&self, id: MessageId) -> impl Future<Output = Result<Vec<Transition>>> + Send;

    /// Dead letters, newest message first.
    fn list_dead(&self, query: &DeadQuery) -> impl Future<Output = Result<Page<DeadLetter>>> + Send;

    /// Brings dead messages back with attempt 0. (`requeue::dead_runs_again_from_attempt_zero`)
    /// Each keeps its idempotency key for the key's retention after its new due time, if that is later than before.
    /// (`dedupe::key_follows_a_later_due_time`)
    fn requeue(&self, selection: &Selection, due: Due) -> impl Future<Output = Result<Acted>> + Send;

    /// Makes messages DEAD, wherever they are; a running handler is told by the next heartbeat, and its result is refused.
    /// A filter selects what is ready, scheduled or leased. (`kill::claimed_message_is_lost_to_its_worker`) Call
    /// [`check_reason`](crate::check_reason) first. (`kill::too_long_reason_is_refused`)
    fn kill(&self, selection: &Selection, reason: &str) -> impl Future<Output = Result<Acted>> + Send;

    /// Deletes dead letters with their bodies. (`retention::discard_deletes_dead_and_body`)
    fn discard(&self, selection: &Selection) -> impl Future<Output = Result<Acted>> + Send;

    /// Moves waiting messages (ready or scheduled) to another time, keeping attempt and lane; [`Due::Now`] runs them now.
    /// A filter selects what is scheduled. (`schedule::reschedule_moves_both_ways`) A message that is ready already and shall run now
    /// keeps its place. (`schedule::ready_message_rescheduled_to_now_keeps_its_place`) Idempotency keys as in
    /// [`requeue`](Self::requeue). (`dedupe::key_follows_a_later_due_time`)
    fn reschedule(&self, selection: &Selection, due: Due) -> impl Future<Output = Result<Acted>> + Send;

    /// Ends a [pause](Storage::pause): allows claims of a type, or of everything, again. `false` when that scope was not paused, or
    /// its pause had ended. Types that were paused by name stay paused when everything is resumed.
    /// (`pause::again_says_so`, `pause::everything_and_types_are_independent`)
    fn resume(&self, scope: &PauseScope) -> impl Future<Output = Result<bool>> + Send;

    /// The pauses in force: that of everything first, then types by name. (`pause::pauses_are_listed`)
    fn paused(&self) -> impl Future<Output = Result<Vec<Pause>>> + Send;

    /// Every registered worker, oldest first.
    fn workers(&self) -> impl Future<Output = Result<Vec<WorkerRecord>>> + Send;

    /// Compares all tables with the invariants I1 and I2 of the protocol. Reads everything: for doctors and tests.
    /// (`audit::lost_row_is_reported`)
    fn audit(&self) -> impl Future<Output = Result<Audit>> + Send;
}

/// A message with its status.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageRecord {
    /// The message as it was stored.
    pub stored: StoredMessage,
    /// Where it stands.
    pub status: Status,
    /// Attempts made, the running one included.
    pub attempt: u16,
    /// When it is due, while it is scheduled.
    pub due_at: Option<Timestamp>,
    /// The worker that holds it, while it is leased.
    pub worker: Option<String>,
    /// The newest recorded error or reason; of a dead message, why it died.
    pub last_error: Option<String>,
    /// When it succeeded or died.
    pub finished_at: Option<Timestamp>,
    /// Which column of its row cannot be read, and why. `stored` then holds what could be read, and the default of each column that
    /// could not.
    pub unreadable: Option<String>,
}

impl MessageRecord {
    /// A record with nothing but a status and an attempt.
    pub const fn new(stored: StoredMessage, status: Status, attempt: u16) -> Self {
        Self { stored, status, attempt, due_at: None, worker: None, last_error: None, finished_at: None, unreadable: None }
    }
}

/// What to list.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListQuery {
    /// Only this status (`FAILED` matches nothing: it is a label of the history).
    pub status: Option<Status>,
    /// Only this event type.
    pub event_type: Option<String>,
    /// Only this tenant.
    pub tenant: Option<String>,
    /// Only messages created at this moment or later.
    pub since: Option<Timestamp>,
    /// Only messages before this one: [`Page::next`] of the page before.
    pub before: Option<MessageId>,
    /// How many at most (default 50, at most 1000).
    pub limit: u32,
    /// How many messages one page scans at most while it searches for those that match (default 20,000, at least 1).
    pub scan_max: u32,
}

impl Default for ListQuery {
    fn default() -> Self {
        Self { status: None, event_type: None, tenant: None, since: None, before: None, limit: 50, scan_max: 20_000 }
    }
}

impl ListQuery {
    /// The largest page.
    pub const LIMIT_MAX: u32 = 1000;

    /// Only this status.
    #[must_use]
    pub const fn status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    /// Only this event type.
    #[must_use]
    pub fn event_type(mut self, event_type: impl Into<String>) -> Self {
        self.event_type = Some(event_type.into());
        self
    }

    /// Only this tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Only messages created at this moment or later.
    #[must_use]
    pub const fn since(mut self, since: Timestamp) -> Self {
        self.since = Some(since);
        self
    }

    /// Only messages before this one.
    #[must_use]
    pub const fn before(mut self, before: MessageId) -> Self {
        self.before = Some(before);
        self
    }

    /// How many at most.
    #[must_use]
    pub const fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// How many messages one page scans at most.
    #[must_use]
    pub const fn scan_max(mut self, messages: u32) -> Self {
        self.scan_max = messages;
        self
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// The cursor for the next page; `None` when this was the last. A page may be short or empty and still have one: it ended because
    /// it had scanned as much as it may.
    pub next: Option<MessageId>,
}

impl<T> Page<T> {
    /// A page with the cursor for the next one.
    pub const fn new(items: Vec<T>, next: Option<MessageId>) -> Self {
        Self { items, next }
    }
}

/// Which dead letters to list.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadQuery {
    /// Only this event type.
    pub event_type: Option<String>,
    /// Only messages before this one: [`Page::next`] of the page before.
    pub before: Option<MessageId>,
    /// How many at most (default 50, at most 1000).
    pub limit: u32,
}

impl Default for DeadQuery {
    fn default() -> Self {
        Self { event_type: None, before: None, limit: 50 }
    }
}

impl DeadQuery {
    /// Only this event type.
    #[must_use]
    pub fn event_type(mut self, event_type: impl Into<String>) -> Self {
        self.event_type = Some(event_type.into());
        self
    }

    /// Only messages before this one.
    #[must_use]
    pub const fn before(mut self, before: MessageId) -> Self {
        self.before = Some(before);
        self
    }

    /// How many at most.
    #[must_use]
    pub const fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The message.
    pub id: MessageId,
    /// Its event type.
    pub event_type: EventType,
    /// Attempts made.
    pub attempt: u16,
    /// Why it died.
    pub reason: String,
    /// When, by the database's clock.
    pub died_at: Timestamp,
    /// The message as it was stored; `None` when its body is missing.
    pub stored: Option<StoredMessage>,
    /// Which column of the message's row cannot be read, and why. `stored` then holds what could be read, and the default of each
    /// column that could not.
    pub unreadable: Option<String>,
}

impl DeadLetter {
    /// A dead letter without its body; set `stored`.
    pub const fn new(id: MessageId, event_type: EventType, attempt: u16, reason: String, died_at: Timestamp) -> Self {
        Self { id, event_type, attempt, reason, died_at, stored: None, unreadable: None }
    }
}

/// Which messages an operation acts on: ids, or what a filter selects.
///
/// ```
/// use tickr_core::{Admin, Client, MemoryStorage, Message, Selection};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> tickr_core::Result<()> {
/// let storage = MemoryStorage::new();
/// let id = Client::new(storage.clone()).enqueue(Message::new("mail", "").tenant("acme")).await?.id();
/// storage.kill(&id.into(), "sent by hand").await?;
/// let discarded = storage.discard(&Selection::event_type("mail").tenant("acme").limit(100)).await?;
/// assert_eq!(discarded.done, [id]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Selection {
    /// These.
    Ids(Vec<MessageId>),
    /// Those of this type (all when absent) and tenant, oldest first.
    Filter {
        /// Only this event type.
        event_type: Option<String>,
        /// Only this tenant.
        tenant: Option<String>,
        /// How many at most.
        limit: u32,
    },
}

impl Selection {
    /// How many messages a filter selects at most, unless [`limit`](Self::limit) says otherwise.
    pub const LIMIT: u32 = 1_000;

    /// Everything, oldest first.
    pub const fn all() -> Self {
        Self::Filter { event_type: None, tenant: None, limit: Self::LIMIT }
    }

    /// Everything of one event type, oldest first.
    pub fn event_type(event_type: impl Into<String>) -> Self {
        Self::Filter { event_type: Some(event_type.into()), tenant: None, limit: Self::LIMIT }
    }

    /// Only messages of this tenant.
    ///
    /// # Panics
    /// When this is a list of ids, which no filter applies to.
    #[must_use]
    pub fn tenant(mut self, name: impl Into<String>) -> Self {
        match &mut self {
            Self::Filter { tenant, .. } => *tenant = Some(name.into()),
            Self::Ids(_) => panic!("a selection by ids takes no tenant"),
        }
        self
    }

    /// How many messages at most (default 1000).
    ///
    /// # Panics
    /// When this is a list of ids, which no filter applies to.
    #[must_use]
    pub fn limit(mut self, messages: u32) -> Self {
        match &mut self {
            Self::Filter { limit, .. } => *limit = messages,
            Self::Ids(_) => panic!("a selection by ids takes no limit"),
        }
        self
    }
}

impl From<MessageId> for Selection {
    fn from(id: MessageId) -> Self {
        Self::Ids(vec![id])
    }
}

impl FromIterator<MessageId> for Selection {
    fn from_iter<I: IntoIterator<Item = MessageId>>(ids: I) -> Self {
        Self::Ids(ids.into_iter().collect())
    }
}

/// What an operation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acted {
    /// The messages it acted on.
    pub done: Vec<MessageId>,
    /// The ids that it did nothing to: unknown, or not in a state that allows it. Always empty for a filter.
    pub missing: Vec<MessageId>,
}

/// A registered worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerRecord {
    /// The incarnation.
    pub id: WorkerId,
    /// Its name.
    pub name: String,
    /// The event types it handles.
    pub event_types: Vec<EventType>,
    /// Whether it sleeps.
    pub idle: bool,
    /// When it was registered.
    pub started_at: Timestamp,
    /// Until when its lease holds.
    pub expires_at: Timestamp,
    /// Whether it was condemned.
    pub lost: bool,
    /// How many claims it has open.
    pub open_claims: u32,
}

impl WorkerRecord {
    /// A live worker without claims.
    pub const fn new(id: WorkerId, name: String, event_types: Vec<EventType>, started_at: Timestamp, expires_at: Timestamp) -> Self {
        Self { id, name, event_types, idle: false, started_at, expires_at, lost: false, open_claims: 0 }
    }
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// Bodies looked at.
    pub messages: u64,
    /// Claims looked at.
    pub claims: u64,
    /// What is wrong; empty when all is well.
    pub findings: Vec<Finding>,
}

/// Something that contradicts an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A body without a state and without the proof of a success (I1, I6).
    Lost(MessageId),
    /// A message that is in more than one place (I1).
    Doubled {
        /// The message.
        id: MessageId,
        /// The places: `ready`, `scheduled`, `dead`, `claimed`, `success`.
        places: Vec<&'static str>,
    },
    /// A live or dead row without a body (I6).
    MissingBody(MessageId),
    /// Settlements of one claim that overlap (I2).
    Overlap(Token),
    /// A closed claim whose settlements do not cover it, or an open one whose settlements do (I2), or whose fence row
    /// disagrees with them.
    Mismatch(Token),
    /// An open claim of a worker that has no row: nobody extends its lease, and nothing expires it.
    Unowned(Token),
    /// A row whose id cannot be read, in this table (a live or dead row, or a body): it belongs to no message.
    UnreadableId(&'static str),
}
