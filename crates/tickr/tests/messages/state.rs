//~ the trait bound `Pool: Clone` is not satisfied
struct Pool;

#[tickr::debug_handler]
async fn confirm(pool: tickr::State<Pool>) {
    drop(pool);
}

fn main() {}
