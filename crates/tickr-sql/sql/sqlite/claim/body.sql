-- One body by primary key. The same columns in the same order wherever bodies are read.
SELECT
    payload, headers, content_type, idempotency_key, ordering_key, tenant, organisation, correlation_id,
    priority, max_attempts, scheduled_at, created_at, event_type, id
FROM tickr_messages
WHERE id = ?1
