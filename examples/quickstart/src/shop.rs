//! The application: a shop with a table of orders, the messages that it sends itself, and their handlers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tickr::{Context, Event, Failure, Handler, Json, MessageId, Outcome, State, Storage, Timestamp, Worker};

use crate::database::Orders;

/// How long a payment waits before it is tried again.
pub(crate) const PAYMENT_RETRY: Duration = Duration::from_millis(250);

// The bodies of messages. Each names its event type once, so that whoever sends one and whoever handles it cannot drift
// apart. They hold ids rather than copies: a handler reads what is true when it runs.

/// Somebody placed an order: confirm it.
#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed")]
pub(crate) struct OrderPlaced {
    pub(crate) order: i64,
}

/// The order is to be paid.
#[derive(Serialize, Deserialize, Event)]
#[event(type = "payment.due")]
pub(crate) struct PaymentDue {
    pub(crate) order: i64,
    pub(crate) cents: i64,
}

/// The order is to be sent.
#[derive(Serialize, Deserialize, Event)]
#[event(type = "parcel.due")]
pub(crate) struct ParcelDue {
    pub(crate) order: i64,
}

/// Ask whether all went well.
#[derive(Serialize, Deserialize, Event)]
#[event(type = "survey.due")]
pub(crate) struct SurveyDue {
    pub(crate) order: i64,
}

/// Registers every handler. The event type comes from its first argument, and options hang on it.
pub(crate) fn worker(storage: impl Storage, shop: Shop) -> tickr::Result<Worker> {
    Worker::builder(storage)
        .name("quickstart")
        .state(shop)
        .on_event(confirm)
        .on_event(charge.max_attempts(5).retry(PAYMENT_RETRY).timeout(Duration::from_secs(10)))
        .on_event(send)
        .on_event(ask.max_in_flight(2))
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
    let Some(address) = shop.orders.find(body.order).await?.address else {
        shop.note(&context, "gives up: the address is missing");
        return Err(Failure::dead("the address is missing"));
    };
    shop.note(&context, &format!("order {} is sent to {address}", body.order));
    Ok(())
}

/// Skips who wants no mail: a success, with the reason in the history.
async fn ask(Json(body): Json<SurveyDue>, State(shop): State<Shop>, context: Context) -> Result<Outcome, Failure> {
    if !shop.orders.find(body.order).await?.wants_mail {
        shop.note(&context, "skips: the customer wants no mail");
        return Ok(Outcome::skip("the customer wants no mail"));
    }
    shop.note(&context, &format!("order {} is asked about", body.order));
    Ok(Outcome::Done)
}

/// What the handlers share. The worker hands each of them a clone.
#[derive(Clone)]
pub(crate) struct Shop {
    orders: Arc<dyn Orders>,
    calls: Arc<Mutex<HashMap<MessageId, u32>>>,
    opened: Timestamp,
}

impl Shop {
    pub(crate) fn new(orders: Arc<dyn Orders>) -> Self {
        Self { orders, calls: Arc::default(), opened: Timestamp::now() }
    }

    /// How often a handler was called with the message.
    pub(crate) fn calls(&self, id: MessageId) -> u32 {
        self.counts().get(&id).copied().unwrap_or(0)
    }

    /// Counts a call, and shows it while it happens.
    fn note(&self, context: &Context, what: &str) {
        *self.counts().entry(context.id()).or_default() += 1;
        let seconds = Timestamp::now().since(self.opened).as_secs_f32();
        crate::report::line(&format!("{seconds:.2} s   {:<12}   attempt {}   {what}", context.event_type().as_str(), context.attempt()));
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<MessageId, u32>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
