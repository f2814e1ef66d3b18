//! The application: a shop with a table of orders, the messages that it sends itself, and their handlers.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tickr::sqlite::SqliteStorage;
use tickr::sqlite::rusqlite::{self, Connection, Transaction, TransactionBehavior};
use tickr::{BoxError, Context, Event, Failure, Json, MessageId, Outcome, State, Timestamp, Worker};

/// How long a payment waits before it is tried again.
pub(crate) const PAYMENT_RETRY: Duration = Duration::from_millis(250);

// The bodies of messages. Each names its event type once, so that whoever sends one and whoever handles it cannot drift
// apart. They hold ids rather than copies: a handler reads what is true when it runs.

/// Somebody placed an order: confirm it.
#[derive(Serialize, Deserialize)]
pub(crate) struct OrderPlaced {
    pub(crate) order: i64,
}

/// The order is to be paid.
#[derive(Serialize, Deserialize)]
pub(crate) struct PaymentDue {
    pub(crate) order: i64,
    pub(crate) cents: i64,
}

/// The order is to be sent.
#[derive(Serialize, Deserialize)]
pub(crate) struct ParcelDue {
    pub(crate) order: i64,
}

/// Ask whether all went well.
#[derive(Serialize, Deserialize)]
pub(crate) struct SurveyDue {
    pub(crate) order: i64,
}

impl Event for OrderPlaced {
    const TYPE: &'static str = "order.placed";
}

impl Event for PaymentDue {
    const TYPE: &'static str = "payment.due";
}

impl Event for ParcelDue {
    const TYPE: &'static str = "parcel.due";
}

impl Event for SurveyDue {
    const TYPE: &'static str = "survey.due";
}

/// Registers every handler. `|o| o` means: default options.
pub(crate) fn worker(storage: SqliteStorage, shop: Shop) -> tickr::Result<Worker> {
    Worker::builder(storage)
        .name("quickstart")
        .state(shop)
        .on_event::<OrderPlaced, _>(confirm, |o| o)
        .on_event::<PaymentDue, _>(charge, |o| o.max_attempts(5).retry(PAYMENT_RETRY).timeout(Duration::from_secs(10)))
        .on_event::<ParcelDue, _>(send, |o| o)
        .on_event::<SurveyDue, _>(ask, |o| o.max_in_flight(2))
        .build()
}

/// Succeeds at once.
async fn confirm(Json(body): Json<OrderPlaced>, State(shop): State<Shop>, context: Context) {
    shop.note(&context, &format!("order {} is confirmed", body.order));
}

/// Fails twice. Any error will do: the handler's retry policy says when the next attempt follows.
async fn charge(Json(body): Json<PaymentDue>, State(shop): State<Shop>, context: Context) -> Result<(), Failure> {
    if context.attempt() < 3 {
        shop.note(&context, "fails: the bank is busy");
        return Err("the bank is busy".into());
    }
    shop.note(&context, &format!("order {} is paid, {}.{:02}", body.order, body.cents / 100, body.cents % 100));
    Ok(())
}

/// Dies while the address is missing: no further attempt could help, somebody has to look.
async fn send(Json(body): Json<ParcelDue>, State(shop): State<Shop>, context: Context) -> Result<(), Failure> {
    let Some(address) = shop.address(body.order)? else {
        shop.note(&context, "gives up: the address is missing");
        return Err(Failure::dead("the address is missing"));
    };
    shop.note(&context, &format!("order {} is sent to {address}", body.order));
    Ok(())
}

/// Skips who wants no mail: a success, with the reason in the history.
async fn ask(Json(body): Json<SurveyDue>, State(shop): State<Shop>, context: Context) -> Result<Outcome, Failure> {
    if !shop.wants_mail(body.order)? {
        shop.note(&context, "skips: the customer wants no mail");
        return Ok(Outcome::skip("the customer wants no mail"));
    }
    shop.note(&context, &format!("order {} is asked about", body.order));
    Ok(Outcome::Done)
}

/// What the handlers share. The worker hands each of them a clone.
#[derive(Clone)]
pub(crate) struct Shop {
    db: Arc<Mutex<Connection>>,
    calls: Arc<Mutex<HashMap<MessageId, u32>>>,
    opened: Timestamp,
}

impl Shop {
    pub(crate) fn new(db: Connection) -> Self {
        Self { db: Arc::new(Mutex::new(db)), calls: Arc::default(), opened: Timestamp::now() }
    }

    /// How often a handler was called with the message.
    pub(crate) fn calls(&self, id: MessageId) -> u32 {
        lock(&self.calls).get(&id).copied().unwrap_or(0)
    }

    /// Counts a call, and shows it while it happens.
    fn note(&self, context: &Context, what: &str) {
        *lock(&self.calls).entry(context.id).or_default() += 1;
        let seconds = Timestamp::now().since(self.opened).as_secs_f32();
        crate::report::line(&format!("{seconds:.2} s   {:<12}   attempt {}   {what}", context.event_type.as_str(), context.attempt()));
    }

    fn address(&self, order: i64) -> rusqlite::Result<Option<String>> {
        lock(&self.db).query_row("SELECT address FROM orders WHERE id = ?1", [order], |row| row.get(0))
    }

    fn wants_mail(&self, order: i64) -> rusqlite::Result<bool> {
        lock(&self.db).query_row("SELECT wants_mail FROM orders WHERE id = ?1", [order], |row| row.get(0))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An order as it is placed.
pub(crate) struct Order {
    pub(crate) customer: &'static str,
    pub(crate) item: &'static str,
    pub(crate) address: Option<&'static str>,
    pub(crate) wants_mail: bool,
}

impl Order {
    /// Writes the row, within the transaction that will also hold its messages.
    pub(crate) fn insert(&self, tx: &Transaction<'_>) -> rusqlite::Result<i64> {
        tx.prepare_cached("INSERT INTO orders (customer, item, address, wants_mail) VALUES (?1, ?2, ?3, ?4)")?.insert((
            self.customer,
            self.item,
            self.address,
            self.wants_mail,
        ))
    }
}

/// The application's own connection, to the same file as the queue.
pub(crate) fn open(path: &Path) -> Result<Connection, BoxError> {
    let mut db = Connection::open(path)?;
    // SQLite has one writer at a time. A transaction that is going to write takes its turn when it begins: one that has
    // only read so far is refused, rather than made to wait, if somebody else wrote meanwhile.
    db.set_transaction_behavior(TransactionBehavior::Immediate);
    db.busy_timeout(Duration::from_secs(10))?;
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS orders (
            id         INTEGER PRIMARY KEY,
            customer   TEXT NOT NULL,
            item       TEXT NOT NULL,
            address    TEXT,
            wants_mail BOOLEAN NOT NULL
        )",
    )?;
    Ok(db)
}
