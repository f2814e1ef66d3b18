-- As list_all, along the ids of ready and scheduled: a merge of two indexes.
SELECT
    m.payload, m.headers, m.content_type, m.idempotency_key, m.ordering_key, m.tenant, m.organisation, m.correlation_id,
    m.priority, m.max_attempts, m.scheduled_at, m.created_at, m.event_type, r.id
FROM tickr_ready r
CROSS JOIN tickr_messages m ON m.id = r.id
WHERE r.id < ?1
UNION ALL
SELECT
    m.payload, m.headers, m.content_type, m.idempotency_key, m.ordering_key, m.tenant, m.organisation, m.correlation_id,
    m.priority, m.max_attempts, m.scheduled_at, m.created_at, m.event_type, s.id
FROM tickr_scheduled s
CROSS JOIN tickr_messages m ON m.id = s.id
WHERE s.id < ?1
ORDER BY 14 DESC
