-- Stores a batch of messages that nobody has stored before, without keys and due at once, as most are: alone, in the transaction that
-- every statement is. An id that is stored already refuses the batch (23505), and plain.sql asks: inserting without asking is faster
-- by a fifth.
-- Written for READ COMMITTED, and to be durable when it is answered. Where the database's default is another isolation, where commits
-- do not wait for the disk, in another encoding, and inside a transaction that somebody left open (mark.sql), it stores nothing.
-- $1 offset of the clock in microseconds, $2 channel. One array a column, NULL for one of NULLs, in the caller's order; $14 the
-- distinct types. Primary key of messages. An idle worker of a type is notified at commit; a busy one polls anyway.
WITH stored AS (
    INSERT INTO tickr_messages (
        id, created_at, max_attempts, priority, event_type, payload, headers, content_type, ordering_key, tenant, organisation,
        correlation_id
    )
    SELECT
        u.id, c.now, u.max_attempts, u.priority, u.event_type, u.payload, u.headers, u.content_type, u.ordering_key, u.tenant,
        u.organisation, u.correlation_id
    FROM (SELECT clock_timestamp() + $1::bigint * INTERVAL '1 microsecond' AS now) c
    CROSS JOIN unnest(
        $3::uuid[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
        $12::smallint[], $13::integer[]
    ) u (
        id, event_type, payload, headers, content_type, ordering_key, tenant, organisation, correlation_id, priority, max_attempts
    )
    WHERE current_setting('transaction_isolation') = 'read committed'
      AND current_setting('tickr.inside', true) IS DISTINCT FROM 'yes'
      AND current_setting('synchronous_commit') <> 'off'
      AND current_setting('client_encoding') = 'UTF8'
    RETURNING id, event_type, priority
),
told AS MATERIALIZED (
    SELECT pg_notify($2, r.event_type)
    FROM unnest($14::text[]) r (event_type)
    WHERE EXISTS (
        SELECT
        FROM tickr_workers w
        WHERE w.idle
          AND NOT w.lost
          AND w.expires_at > statement_timestamp() + $1::bigint * INTERVAL '1 microsecond'
          AND r.event_type = ANY (w.event_types)
    )
)
-- Rows are returned, and here inserted, in the order they were inserted in.
INSERT INTO tickr_ready (event_type, lane, id, attempt, crashes)
SELECT event_type, priority, id, 0, 0
FROM stored
WHERE (SELECT count(*) FROM told) >= 0
