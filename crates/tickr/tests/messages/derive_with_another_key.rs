//~ unknown key; there is `type`
#[derive(tickr::Event)]
#[event(name = "order.placed")]
struct OrderPlaced;

fn main() {}
