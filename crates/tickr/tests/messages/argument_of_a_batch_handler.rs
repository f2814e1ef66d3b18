//~ `Json<OrderPlaced>` cannot be a further argument of a batch handler
//~ after the `Batch<Json<T>>` come `State<T>` and `BatchContext`
use serde::{Deserialize, Serialize};
use tickr::{Event, Json};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed")]
struct OrderPlaced {
    order: u64,
}

#[tickr::debug_handler]
async fn store(batch: tickr::Batch<Json<OrderPlaced>>, one: Json<OrderPlaced>) {
    let _ = (batch, one);
}

fn main() {}
