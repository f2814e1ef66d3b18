//~ future cannot be sent between threads safely
//~ has type `Rc<i32>` which is not `Send`
//~ await occurs here, with `shared` maybe used later
use std::rc::Rc;

#[tickr::debug_handler]
async fn confirm(context: tickr::Context) {
    let shared = Rc::new(7);
    context.cancelled().cancelled().await;
    drop(shared);
}

fn main() {}
