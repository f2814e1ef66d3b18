//! The contract between the engine and a database.
//!
//! [`Storage`] is what a worker and a client need, [`Admin`] what an operator needs, [`EnqueueIn`] what a producer
//! needs inside its own transaction. All are batch-only; comfort lives in [`StorageExt`].
//!
//! Requests and answers may grow, so their structs are `#[non_exhaustive]`. All are made in one way: `new` takes what every value has,
//! or `Default` stands for nothing; all other fields are public and set afterwards. Requests that applications write also have
//! chained setters with the names of the fields. Enums that an adapter must match completely are exhaustive on purpose and say so.

mod admin;
mod auditor;
mod check;
mod claim;
mod dynamic;
mod enqueue;
mod ext;
mod pause;
mod schema;
mod settle;
mod stats;
mod upkeep;
mod worker;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use admin::{Acted, Admin, Audit, DeadLetter, DeadQuery, Finding, ListQuery, MessageRecord, Page, Selection, WorkerRecord};
pub use auditor::{AuditedSettlement, Auditor, Place};
pub use check::{LEASE_MIN, REASON_BYTES_MAX, check_lease, check_reason, check_settlements};
pub use claim::{BodyFault, Claim, ClaimRequest, ClaimedMessage, LaneRequest};
pub use dynamic::{AnyAdmin, AnyStorage, BoxFuture, DynAdmin, DynStorage};
pub use enqueue::{EnqueueIn, Enqueued, InspectIn};
pub use ext::StorageExt;
pub use pause::{Pause, PauseEnd, PauseRequest, PauseScope};
pub use schema::{Capabilities, Migrated, Migration, SchemaStatus};
pub use settle::{SettleOutcome, Settled, SettledMember, Settlement};
pub use stats::{Count, Stats, StatsRequest, TypeStats};
pub use upkeep::{Lock, Promoted, PurgeRequest, Purged, ReclaimRequest, Reclaimed, ReclaimedMessage, Retention, Retired};
pub use worker::{Beat, Heartbeat, OpenClaim, Registration};

use crate::error::Result;
use crate::id::{Token, WorkerId};
use crate::message::NewMessage;
use crate::notify::{Notifier, WakeHub};
use crate::time::Timestamp;

/// A database that holds the queue.
///
/// A value is a cheap handle: clones share connections, and every method may be called from many tasks at once.
///
/// # Contract
/// Each rule names the conformance case that checks it.
///
/// - Every operation is atomic and durable when it answers `Ok`. (`promise::committed_messages_survive_reopen`)
/// - Every operation may be repeated with the same arguments after an error that says so.
///   (`enqueue::same_id_again_changes_nothing`, `settle::repeated_after_lost_answer_is_applied`)
/// - Live messages are in exactly one place: ready, scheduled, dead, or an unset bit of one open claim.
///   (`random::mask_invariant`)
/// - Every change of a lease writes the one fence row of its token. (`settle::part_races_reclaim_no_member_twice`)
/// - Times that decide come from the database's clock. (`schedule::client_clock_years_off`)
/// - An operation that is dropped before it answers either happens or does not. (`lease::late_commit_of_abandoned_claim_is_released`)
/// - A stored row that cannot be read (repaired by hand, written by another version) affects only its own message: the operation
///   succeeds for all others. [`claim`](Self::claim) and [`adopt`](Self::adopt) answer it as a member whose
///   [`body`](ClaimedMessage::body) is [`BodyFault::Unreadable`]; [`reclaim`](Self::reclaim), [`retire`](Self::retire),
///   [`promote`](Self::promote), [`purge`](Self::purge) and [`stats`](Self::stats) go on with the other rows.
///   (`audit::unreadable_row_dies_alone`)
/// - A worker whose runtime is blocked settles and adopts from its heartbeat's thread; connections that tasks of the blocked runtime
///   drive are of no use there ([`on_heartbeat_thread`](crate::on_heartbeat_thread)).
/// - No operation waits for ever: each has a deadline of the adapter's own and then fails as
///   [`Indeterminate`](crate::ErrorKind::Indeterminate) or [`Unavailable`](crate::ErrorKind::Unavailable).
pub trait Storage: Debug + Send + Sync + 'static {
    /// What this database can do.
    fn capabilities(&self) -> &Capabilities;

    /// The hub that wakes workers of this process. All clones of a handle share it.
    ///
    /// - [`enqueue`](Self::enqueue), [`promote`](Self::promote), requeue and run-now wake the types they made ready, after their commit.
    ///   (`notify::enqueue_wakes_in_process`)
    /// - [`EnqueueIn::enqueue_in`] cannot see the commit and starts a burst of polls. (`notify::enqueue_in_starts_a_burst`)
    fn wakeups(&self) -> &WakeHub;

    /// What wakes workers of other processes, if this database has something. Only latency depends on it.
    fn notifier(&self) -> Option<Arc<dyn Notifier>> {
        None
    }

    /// The database's clock, now.
    fn now(&self) -> impl Future<Output = Result<Timestamp>> + Send;

    /// How the schema stands to this library. Never changes anything. (`migrate::missing_schema_is_named`)
    fn schema(&self) -> impl Future<Output = Result<SchemaStatus>> + Send;

    /// Brings the schema up to date; safe when many processes do it at once. Answers the version before and the one after.
    /// (`migrate::ten_at_once`, `migrate::again_is_a_no_op`)
    fn migrate(&self) -> impl Future<Output = Result<Migrated>> + Send;

    /// The embedded migrations in order, to be printed for other tools. Empty when the storage has no schema.
    fn migrations(&self) -> &[Migration];

    /// Stores messages, all or none. The results are parallel to `batch`.
    ///
    /// - Equal ids in one batch are refused ([`check_batch`](crate::check_batch)). (`enqueue::equal_ids_in_one_batch_are_refused`)
    /// - An id that is stored already changes nothing and reads [`Enqueued::Stored`]. (`enqueue::same_id_again_changes_nothing`)
    /// - The first of a pair (event type, idempotency key) wins, also within the batch; later ones are
    ///   [`Enqueued::Duplicate`] and nothing of them is stored. (`dedupe::duplicates_in_one_batch_share_id`)
    /// - A message that is due later goes to scheduled, else to ready, in the order of the batch. (`enqueue::order_is_kept`)
    fn enqueue(&self, batch: &[NewMessage]) -> impl Future<Output = Result<Vec<Enqueued>>> + Send;

    /// Registers a worker's incarnation with a lease of `registration.lease` from now. Again with the same id: extends it.
    ///
    /// A worker that was condemned cannot be registered again: [`LeaseLost`](crate::ErrorKind::LeaseLost).
    fn register(&self, registration: &Registration) -> impl Future<Output = Result<()>> + Send;

    /// Leases ready messages to a worker.
    ///
    /// - The groups are walked in order, and within a group its lanes; each lane oldest first; at most `limit` of a
    ///   group, `total` of all. (`claim::groups_are_walked_in_order`, `limits::cap_holds_over_lanes`)
    /// - What another claim is taking at the same moment is skipped, not waited for, and never taken twice. (`concurrency::sixteen_claimers_share_without_overlap`)
    /// - What is paused is left out, until the pause ends by the database's clock. (`pause::paused_type_is_not_claimed`,
    ///   `pause::everything_stops_all_types`, `pause::ends_by_the_databases_clock`)
    /// - A worker that is unknown, expired or condemned takes nothing and gets an empty claim. (`lease::claim_by_removed_worker_takes_nothing`)
    /// - The attempt is counted; the effective maximum is stored with the claim. (`claim::attempt_is_counted`, `reclaim::uses_handler_max_of_claimer`)
    /// - Nothing ready: nothing is written. (`claim::empty_claim_writes_nothing`)
    /// - Then it may say how long nothing scheduled becomes due. (`claim::empty_claim_knows_what_is_due_next`)
    fn claim(&self, request: &ClaimRequest) -> impl Future<Output = Result<Claim>> + Send;

    /// Records outcomes. The results are parallel to `batch`; each member asked for is in exactly one of `applied`, `already`, `lost`.
    ///
    /// - A settle does not look at expiry: expired but not reclaimed is still exclusive. (`settle::by_expired_unreclaimed_worker_succeeds`)
    /// - A bit that was revoked, or whose claim was reclaimed, is lost, and nothing of it is written. (`settle::after_reclaim_reports_lost`)
    /// - A bit that was settled before is already settled, also after the claim was closed. (`settle::repeat_after_close_is_not_lost`)
    /// - The same token may be in the batch more than once; the same member may not.
    /// - Where members return to is [`protocol::returned`](crate::protocol::returned). (`release::runs_before_backlog`)
    fn settle(&self, batch: &[Settlement]) -> impl Future<Output = Result<Vec<Settled>>> + Send;

    /// Extends the lease of a worker and answers with every claim it has open, so that it can reconcile.
    ///
    /// Never waits behind other operations of this handle: it has a connection of its own.
    ///
    /// # Errors
    /// [`LeaseLost`](crate::ErrorKind::LeaseLost) when the worker is unknown or condemned. (`heartbeat::condemned_worker_learns_of_it`)
    fn heartbeat(&self, heartbeat: &Heartbeat) -> impl Future<Output = Result<Beat>> + Send;

    /// Reads an open claim again, as [`claim`](Self::claim) answered it, without the members that are settled or
    /// revoked. `None` when it is closed. (`lease::claim_with_lost_answer_is_recovered_by_heartbeat`)
    fn adopt(&self, token: Token) -> impl Future<Output = Result<Option<Claim>>> + Send;

    /// Ends the exclusivity of a claim that was made with [`ClaimRequest::solo`]: its worker is about to claim other work beside it, so
    /// that a crash of the worker proves nothing against this message alone. `true`: the claim is open, and not exclusive any more.
    /// `false`: it is closed, or its worker is condemned, and nothing changed.
    ///
    /// - After `true`, a reclaim treats the claim as shared, whatever else the worker does. (`exclusive::crash_after_the_end_is_shared`)
    /// - Again, or for a claim that never was exclusive: `true`. (`exclusive::end_may_be_repeated`)
    /// - A condemned worker cannot: what its crash proves is settled. (`exclusive::condemned_worker_cannot_end_it`)
    fn end_exclusive(&self, token: Token) -> impl Future<Output = Result<bool>> + Send;

    /// Ends an incarnation: releases what it still holds, attempts given back, and removes it. Unknown workers are fine.
    /// (`release::retire_releases_everything`)
    fn retire(&self, worker: WorkerId, reason: &str) -> impl Future<Output = Result<Retired>> + Send;

    /// Moves at most `limit` due messages from scheduled to ready, and says when the next one is due.
    /// (`schedule::promote_moves_due_in_order`, `schedule::promote_reports_next_due`)
    fn promote(&self, limit: u32) -> impl Future<Output = Result<Promoted>> + Send;

    /// Condemns expired workers (if asked to) and takes back at most `limit` claims of condemned ones.
    ///
    /// - Where members go is [`protocol::reclaimed`](crate::protocol::reclaimed). (`suspects::poison_with_63_neighbours_dies_alone`)
    /// - Condemned workers without open claims are removed. (`lease::worker_with_open_claim_cannot_be_removed`)
    /// - When a lease ends is [`protocol::lease_end`](crate::protocol::lease_end): a clock that is set back does not lengthen the lease of a
    ///   dead worker. (`lease::clock_set_back_does_not_lengthen_a_lease`)
    fn reclaim(&self, request: &ReclaimRequest) -> impl Future<Output = Result<Reclaimed>> + Send;

    /// Deletes what its retention has passed, in portions of at most `limit`. A kind that cannot be deleted does not keep the others:
    /// its error is the answer after they are done.
    ///
    /// - A body goes only because of a recorded success, or together with its dead letter. (`retention::body_needs_proof`)
    /// - The journal of an open claim is never touched. (`retention::journal_purge_never_touches_open_claims`)
    fn purge(&self, request: &PurgeRequest) -> impl Future<Output = Result<Purged>> + Send;

    /// Counts live and dead messages from thin tables only, with capped counts. (`stats::counts_are_capped`)
    ///
    /// - What is ready is told from what is scheduled for later. (`stats::ready_is_told_from_scheduled`)
    /// - The wait of the first message of a lane is [`protocol::waiting_since`](crate::protocol::waiting_since): from when it came back or was
    ///   due, not from its enqueue. (`stats::oldest_ready_counts_from_the_return`, `stats::oldest_ready_counts_from_the_due_time`,
    ///   `stats::oldest_ready_forgets_an_earlier_life`)
    /// - Paused types are listed with the end of their pause. (`pause::statistics_know_pauses`)
    fn stats(&self, request: &StatsRequest) -> impl Future<Output = Result<Stats>> + Send;

    /// Stops claims of a type, or of everything; what is leased goes on. `false` when the scope was paused already: then the new
    /// pause has replaced the old one, unless the request [keeps](PauseRequest::keep_longer) one that ends later.
    /// [`Admin::resume`] ends a pause.
    ///
    /// - Its end passes by the database's clock, without a write. (`pause::ends_by_the_databases_clock`)
    /// - A pause of everything is one of its own. (`pause::everything_and_types_are_independent`)
    /// - Call [`PauseRequest::check`] first. (`pause::wrong_pauses_are_refused`)
    fn pause(&self, request: &PauseRequest) -> impl Future<Output = Result<bool>> + Send;

    /// Takes the named lease (`ttl` above zero) if it is free or expired, or is `holder`'s own; `None` when another holds it. Each taking by
    /// another holder, or after an expiry, raises the term. (`locks::expired_lock_changes_hands_with_a_new_term`) When a lock ends is
    /// [`protocol::lease_end`](crate::protocol::lease_end). (`locks::clock_set_back_does_not_lengthen_a_lock`)
    fn acquire_lock(&self, name: &str, holder: WorkerId, ttl: Duration) -> impl Future<Output = Result<Option<Lock>>> + Send;

    /// Extends a named lease of that term. `false` when it is gone. (`locks::renewal_is_scoped_to_the_term`)
    fn renew_lock(&self, lock: &Lock, ttl: Duration) -> impl Future<Output = Result<bool>> + Send;

    /// Gives a named lease of that term back. `false` when it was gone.
    fn release_lock(&self, lock: &Lock) -> impl Future<Output = Result<bool>> + Send;
}
