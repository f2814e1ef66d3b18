-- Messages before ?1, newest first, along the primary key; read until the page is full.
SELECT
    payload, headers, content_type, idempotency_key, ordering_key, tenant, organisation, correlation_id,
    priority, max_attempts, scheduled_at, created_at, event_type, id
FROM tickr_messages
WHERE id < ?1
  AND (?2 IS NULL OR event_type = ?2)
  AND (?3 IS NULL OR tenant = ?3)
  AND (?4 IS NULL OR created_at >= ?4)
ORDER BY id DESC
