//~ is not a batch handler
//~ a batch handler is an `async fn(Batch<Json<T>>, ...)`
async fn confirm(_: tickr::Raw) {}

fn main() {
    let _ = tickr::Registry::new().on_batch("rows", confirm);
}
