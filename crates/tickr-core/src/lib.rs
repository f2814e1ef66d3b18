//! Traits, types and engine of tickr: the transactional outbox and durable queue in your own database
