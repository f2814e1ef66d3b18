-- Messages, newest first, along the primary key: all, or those that succeeded.
-- $1 before which id (absent: from the newest), $2 type, $3 tenant, $4 created at or after, $5 how many, $6 status (absent: all),
-- $7 the last id to scan (absent: to the end).
-- OFFSET 0: a look-up a row, as long as the LIMIT asks for more, and never a join that reads everything.
SELECT
    m.id, m.event_type, m.payload, m.headers, m.content_type, m.idempotency_key, m.ordering_key, m.tenant, m.organisation,
    m.correlation_id, m.priority, m.max_attempts, m.scheduled_at, m.created_at,
    v.status, v.attempt, v.due_at, v.worker, v.last_error, v.finished_at
FROM tickr_messages m
CROSS JOIN LATERAL (SELECT * FROM tickr_message_status s WHERE s.id = m.id OFFSET 0) v
WHERE m.id < coalesce($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
  AND m.id >= coalesce($7, '00000000-0000-0000-0000-000000000000'::uuid)
  AND ($2::text IS NULL OR m.event_type = $2)
  AND ($3::text IS NULL OR m.tenant = $3)
  AND ($4::timestamptz IS NULL OR m.created_at >= $4)
  AND v.status <> 'LOST'
  AND ($6::text IS NULL OR v.status = $6)
ORDER BY m.id DESC
LIMIT $5
