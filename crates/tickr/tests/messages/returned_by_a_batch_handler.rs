//~ a batch handler cannot return `u32`
//~ return `()`, `Outcome`, or a `Result` of `()` or `Outcome` with any error for all members
//~ return `Vec<Verdict>` or `BatchResults` to give each member its own verdict
#[tickr::debug_handler]
async fn store(_: tickr::Batch<tickr::Raw>) -> u32 {
    7
}

fn main() {}
