//! What is right is not refused.
#![allow(dead_code)]

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tickr::{Event, Json};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed")]
struct OrderPlaced {
    order: u64,
}

#[derive(Event)]
#[event(type = "rows")]
struct Rows<T: Clone>(Vec<T>);

#[derive(Event)]
#[event(type = "any", crate = ::tickr)]
enum Any {
    One,
}

#[tickr::debug_handler]
async fn confirm(Json(placed): Json<OrderPlaced>, tickr::State(name): tickr::State<String>, context: tickr::Context) -> Result<(), tickr::Failure> {
    let rc = Rc::new(placed.order);
    drop(rc);
    context.client().enqueue(tickr::Message::new(name, "")).await?;
    Ok(())
}

#[tickr::debug_handler]
async fn nothing() {}

#[tickr::debug_handler]
pub(crate) async fn store(batch: tickr::Batch<Json<OrderPlaced>>, _: tickr::BatchContext) -> Vec<tickr::Verdict> {
    batch.iter().map(|_| Ok(tickr::Outcome::Done)).collect()
}

fn main() {
    assert_eq!((<Rows<u8> as Event>::TYPE, <Any as Event>::TYPE), ("rows", "any"));
    let _ = tickr::Registry::new().on_event(confirm).on("nothing", nothing).on_batch_event(store);
}
