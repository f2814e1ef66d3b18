//~ `OrderPlaced` cannot be an argument of a handler
//~ async fn store(batch: tickr::Batch<OrderPlaced>) {
use serde::{Deserialize, Serialize};
use tickr::{Event, Json};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed")]
struct OrderPlaced {
    order: u64,
}

#[tickr::debug_handler]
async fn store(batch: tickr::Batch<OrderPlaced>) {
    let _ = (batch, Json(1));
}

fn main() {}
