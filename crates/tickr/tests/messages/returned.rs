//~ a handler cannot return `u32`
//~ return `()`, `Outcome`, or a `Result` of `()` or `Outcome` with any error
#[tickr::debug_handler]
async fn confirm() -> u32 {
    7
}

fn main() {}
