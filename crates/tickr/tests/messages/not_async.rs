//~ a handler is an `async fn`
#[tickr::debug_handler]
fn confirm() {}

fn main() {}
