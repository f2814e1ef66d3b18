-- As list_all, along the ids of ready and scheduled: a merge of two indexes.
SELECT
    m.payload, m.headers, m.content_type, m.idempotency_key, m.ordering_key, m.tenant, m.organisation, m.correlation_id,
    m.priority, m.max_attempts, m.scheduled_at, m.created_at, m.event_type, m.id
FROM (
    SELECT id FROM tickr_ready WHERE id < ?1
    UNION ALL
    SELECT id FROM tickr_scheduled WHERE id < ?1
    ORDER BY id DESC
) w
CROSS JOIN tickr_messages m ON m.id = w.id
WHERE (?2 IS NULL OR m.event_type = ?2)
  AND (?3 IS NULL OR m.tenant = ?3)
  AND (?4 IS NULL OR m.created_at >= ?4)
