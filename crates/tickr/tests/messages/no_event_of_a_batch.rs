//~ `Raw` does not say which event the handler is for
//~ `on_batch_event` wants `Batch<Json<E>>`
async fn store(_: tickr::Batch<tickr::Raw>) {}

fn main() {
    let _ = tickr::Registry::new().on_batch_event(store);
}
