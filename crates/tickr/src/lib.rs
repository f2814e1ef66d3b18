//! Transactional outbox, inbox and durable message queue whose queue is the application's own database
