-- Stores a batch of messages without keys that are due at once, as most are: what the other statement asks of keys and moments is
-- left out, because a single message pays for each table that is opened. One array a column, in the caller's order.
-- $1 offset of the clock in microseconds, $13 channel. Answers one row, with the types made ready. Primary key of messages.
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
        $2::uuid[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
        $11::smallint[], $12::integer[]
    ) u (
        id, event_type, payload, headers, content_type, ordering_key, tenant, organisation, correlation_id, priority, max_attempts
    )
    ON CONFLICT (id) DO NOTHING   -- the same id again: stored before, nothing more happens
    RETURNING id, event_type, priority
),
-- Rows are returned, and here inserted, in the order they were inserted in.
ready AS (
    INSERT INTO tickr_ready (event_type, lane, id, attempt, crashes)
    SELECT event_type, priority, id, 0, 0
    FROM stored
    RETURNING event_type
),
made_ready AS MATERIALIZED (
    SELECT DISTINCT event_type
    FROM ready
),
told AS MATERIALIZED (
    SELECT pg_notify($13, r.event_type)
    FROM made_ready r
    WHERE EXISTS (
        SELECT
        FROM tickr_workers w
        WHERE w.idle
          AND NOT w.lost
          AND w.expires_at > statement_timestamp() + $1::bigint * INTERVAL '1 microsecond'
          AND r.event_type = ANY (w.event_types)
    )
)
SELECT
    ARRAY(SELECT event_type FROM made_ready) AS made_ready,
    (SELECT count(*) FROM told) AS told
