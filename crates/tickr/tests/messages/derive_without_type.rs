//~ the event type is missing; name it with #[event(type = "order.placed")]
#[derive(tickr::Event)]
struct OrderPlaced;

fn main() {}
