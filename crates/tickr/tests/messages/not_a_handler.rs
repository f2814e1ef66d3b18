//~ is not a handler
//~ put `#[tickr::debug_handler]` on the function to learn which argument or value is wrong
async fn confirm(_: String) {}

fn main() {
    let _ = tickr::Registry::new().on("order.placed", confirm);
}
