-- One message with its status, from one snapshot. Primary keys, index on (span, id_max, id_min) of claims.
SELECT
    m.id, m.event_type, m.payload, m.headers, m.content_type, m.idempotency_key, m.ordering_key, m.tenant, m.organisation,
    m.correlation_id, m.priority, m.max_attempts, m.scheduled_at, m.created_at,
    v.status, v.attempt, v.due_at, v.worker, v.last_error, v.finished_at
FROM tickr_messages m
JOIN tickr_message_status v ON v.id = m.id
WHERE m.id = $1
