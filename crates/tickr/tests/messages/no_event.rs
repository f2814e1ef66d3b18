//~ `tickr::Context` does not say which event the handler is for
//~ register a handler without one by its type: `.on("order.placed", handler)`
async fn confirm(_: tickr::Context) {}

fn main() {
    let _ = tickr::Registry::new().on_event(confirm);
}
