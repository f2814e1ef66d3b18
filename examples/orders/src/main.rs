//! An HTTP service with an outbox.

fn main() {}
