//~ `OrderPlaced` cannot be an argument of a handler
//~ async fn confirm(_: tickr::Context, placed: OrderPlaced) {
//~ a codec's wrapper such as `Json<T>`
use serde::{Deserialize, Serialize};
use tickr::{Event, Json};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed")]
struct OrderPlaced {
    order: u64,
}

#[tickr::debug_handler]
async fn confirm(_: tickr::Context, placed: OrderPlaced) {
    let _ = (placed.order, Json(1));
}

fn main() {}
