//~ the event type is empty
#[derive(tickr::Event)]
#[event(type = "")]
struct OrderPlaced;

fn main() {}
