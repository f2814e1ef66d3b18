//~ no argument of this handler says which event it handles
//~ register a handler without one by its type: `.on("order.placed", handler)`
async fn confirm(_: tickr::Context, _: tickr::Raw) {}

fn main() {
    let _ = tickr::Registry::new().on_event(confirm);
}
