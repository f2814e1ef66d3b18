//~ a handler has at most 4 arguments
use tickr::{Batch, BatchContext, Raw};

#[tickr::debug_handler]
async fn store(_: Batch<Raw>, _: BatchContext, _: BatchContext, _: BatchContext, _: BatchContext) {}

fn main() {}
