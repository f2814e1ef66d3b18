-- Dead letters with their bodies, newest message first. $1 before which id (absent: from the newest), $2 how many.
-- Primary key of dead.
SELECT
    m.id, m.event_type, m.payload, m.headers, m.content_type, m.idempotency_key, m.ordering_key, m.tenant, m.organisation,
    m.correlation_id, m.priority, m.max_attempts, m.scheduled_at, m.created_at,
    d.id, d.event_type, d.attempt, d.reason, d.died_at
FROM tickr_dead d
LEFT JOIN LATERAL (SELECT * FROM tickr_messages b WHERE b.id = d.id OFFSET 0) m ON true
WHERE d.id < coalesce($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
ORDER BY d.id DESC
LIMIT $2
