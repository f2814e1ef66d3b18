-- What the transaction sees of a type, oldest id first; for tests, whose tables are small.
SELECT
    id, event_type, payload, headers, content_type, idempotency_key, ordering_key, tenant, organisation, correlation_id,
    priority, max_attempts, scheduled_at, created_at
FROM tickr_messages
WHERE event_type = $1
ORDER BY id
