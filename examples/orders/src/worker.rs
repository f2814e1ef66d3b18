//! The handlers: what happens to an order after it was placed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tickr::{
    Alerter, Batch, BatchHandler, BoxFuture, Context, ErrorEvent, Event as _, ExponentialBackoff, Failure, Handler, Json, Outcome,
    Registry, State, Worker,
};

use crate::shop::{Card, OrderPlaced, Paid, ReceiptDue, Shop};
use crate::telemetry::Telemetry;

pub(crate) const EVENT_TYPES: [&str; 2] = [OrderPlaced::TYPE, ReceiptDue::TYPE];

/// How many receipts go out together.
const RECEIPTS: u32 = 50;

type Shared = Arc<dyn Shop>;

pub(crate) fn build(shop: &Shared, telemetry: &Telemetry, pool: u32, stats_interval: Duration) -> Result<Worker> {
    let soon = ExponentialBackoff::new(Duration::from_millis(200), Duration::from_secs(10))?;
    let handlers = Registry::new()
        .on_event(charge.max_attempts(5).timeout(Duration::from_secs(10)).retry(soon))
        .on_batch_event(send_receipts.max_batch(RECEIPTS));
    let mut builder = Worker::builder(shop.queue())
        .registry(handlers)
        .pool(pool)
        .stats_interval(Some(stats_interval))
        .state(Arc::clone(shop))
        .metrics(telemetry.metrics())
        .alerter(Arc::new(Log));
    if let Some(tracer) = telemetry.tracer() {
        builder = builder.tracer(tracer);
    }
    Ok(builder.build()?)
}

/// Charges the card. What is logged here belongs to the span of the attempt, with event type, message and attempt.
async fn charge(Json(placed): Json<OrderPlaced>, State(shop): State<Shared>, context: Context) -> Result<Outcome, Failure> {
    let OrderPlaced { order, card } = placed;
    shop.tries(order).await?;
    match card {
        Card::Flaky if context.attempt() == 1 => Err(anyhow!("the payment provider does not answer").into()),
        Card::Declined => {
            shop.decline(order).await?;
            Err(Failure::dead(anyhow!("the bank declines the card")))
        }
        Card::Good | Card::Flaky => match shop.pay(order).await? {
            Paid::Now => {
                tracing::debug!(order, "paid");
                Ok(Outcome::Done)
            }
            Paid::Before => Ok(Outcome::skip("paid before")),
        },
    }
}

/// Sends many receipts at once.
async fn send_receipts(Batch(receipts): Batch<Json<ReceiptDue>>, State(shop): State<Shared>) -> Result<(), Failure> {
    shop.send_receipts(receipts.iter().map(|receipt| receipt.body.order).collect()).await?;
    Ok(())
}

/// Alerts go to the log; a real service tells a pager or a chat.
#[derive(Debug)]
struct Log;

impl Alerter for Log {
    fn on_error(&self, event: ErrorEvent) -> BoxFuture<'_, ()> {
        let ErrorEvent { kind, event_type, message_id, attempt, error, count, .. } = event;
        let (event_type, message_id) = (event_type.map(|of| of.to_string()), message_id.map(|id| id.to_string()));
        tracing::warn!(target: "alert", kind = kind.as_str(), event_type, message_id, attempt, count, %error);
        Box::pin(std::future::ready(()))
    }
}
