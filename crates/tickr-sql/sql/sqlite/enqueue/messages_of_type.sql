-- Every message of a type, oldest id first. A scan: for tests.
SELECT
    payload, headers, content_type, idempotency_key, ordering_key, tenant, organisation, correlation_id,
    priority, max_attempts, scheduled_at, created_at, event_type, id
FROM tickr_messages
WHERE event_type = ?1
ORDER BY id
