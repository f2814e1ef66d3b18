//~ is not a handler
//~ a function of a `Batch<Json<T>>` is a batch handler: register it with `on_batch`
async fn store(_: tickr::Batch<tickr::Raw>) {}

fn main() {
    let _ = tickr::Registry::new().on("rows", store);
}
