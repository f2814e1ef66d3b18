-- Messages before ?1, newest first, along the primary key; read until the page is full or enough was scanned.
SELECT
    payload, headers, content_type, idempotency_key, ordering_key, tenant, organisation, correlation_id,
    priority, max_attempts, scheduled_at, created_at, event_type, id
FROM tickr_messages
WHERE id < ?1
ORDER BY id DESC
