//~ the trait bound `Plain: Event` is not satisfied
//~ `Plain` has no event type
//~ #[event(type = "order.placed")]
#[derive(serde::Deserialize)]
struct Plain {}

async fn confirm(_: tickr::Json<Plain>) {}

fn main() {
    let _ = tickr::Registry::new().on_event(confirm);
}
