-- As list_all, along the primary key of dead.
SELECT
    m.payload, m.headers, m.content_type, m.idempotency_key, m.ordering_key, m.tenant, m.organisation, m.correlation_id,
    m.priority, m.max_attempts, m.scheduled_at, m.created_at, m.event_type, m.id
FROM tickr_dead d
CROSS JOIN tickr_messages m ON m.id = d.id
WHERE d.id < ?1
ORDER BY d.id DESC
