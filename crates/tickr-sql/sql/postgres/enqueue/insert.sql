-- Stores a batch: keys first, then the bodies, then the thin rows. One array a column, NULL for one of NULLs; k is the caller's
-- order.
-- $1 offset of the clock, $16 delays, $17 how long a key is kept: microseconds; $15 moments, $2 channel. Answers one row: the messages whose
-- key belongs to another row (the second statement tells to whom: here the winner may be invisible), and the types made ready.
-- Primary keys of dedupe and messages. An idle worker of a type made ready is notified at commit; a busy one polls anyway.
WITH want AS MATERIALIZED (
    SELECT
        u.*,
        c.now,
        CASE
            WHEN u.at > c.now THEN u.at
            WHEN u.delay > 0 THEN c.now + u.delay * INTERVAL '1 microsecond'
        END AS due   -- NULL: now
    FROM (SELECT clock_timestamp() + $1::bigint * INTERVAL '1 microsecond' AS now) c
    CROSS JOIN unnest(
        $3::uuid[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
        $12::smallint[], $13::integer[], $14::text[], $15::timestamptz[], $16::bigint[]
    ) WITH ORDINALITY u (
        id, event_type, payload, headers, content_type, ordering_key, tenant, organisation, correlation_id,
        priority, max_attempts, key, at, delay, k
    )
),
-- In the order of the key, so that two batches lock in the same order. What is stored already takes no key.
won AS (
    INSERT INTO tickr_dedupe (event_type, key, id, expires_at)
    SELECT w.event_type, w.key, w.id, coalesce(w.due, w.now) + $17::bigint * INTERVAL '1 microsecond'
    FROM want w
    WHERE w.key IS NOT NULL
      -- Not NOT EXISTS, which may be planned as a scan of all bodies.
      AND (SELECT true FROM tickr_messages m WHERE m.id = w.id) IS NULL
    ORDER BY w.event_type, w.key, w.k
    ON CONFLICT DO NOTHING
    RETURNING id
),
stored AS (
    INSERT INTO tickr_messages (
        id, created_at, scheduled_at, max_attempts, priority, event_type, payload, headers, content_type, idempotency_key,
        ordering_key, tenant, organisation, correlation_id
    )
    SELECT
        id, now, due, max_attempts, priority, event_type, payload, headers, content_type, key,
        ordering_key, tenant, organisation, correlation_id
    FROM want
    WHERE key IS NULL
       OR id IN (SELECT id FROM won)
    ORDER BY k
    ON CONFLICT (id) DO NOTHING   -- the same id again: stored before, nothing more happens
    RETURNING id, event_type, priority, scheduled_at AS due, created_at AS now
),
-- Rows are returned in the order they were inserted in. A join with want may be planned as a loop in a loop.
new AS MATERIALIZED (
    SELECT row_number() OVER () AS k, s.*
    FROM stored s
),
ready AS (
    INSERT INTO tickr_ready (event_type, lane, id, attempt, crashes)
    SELECT event_type, priority, id, 0, 0
    FROM new
    WHERE due IS NULL
    ORDER BY k
),
later AS (
    INSERT INTO tickr_scheduled (process_at, id, event_type, lane, attempt, crashes)
    SELECT due, id, event_type, priority, 0, 0
    FROM new
    WHERE due IS NOT NULL
),
made_ready AS MATERIALIZED (
    SELECT DISTINCT event_type, now
    FROM new
    WHERE due IS NULL
),
told AS MATERIALIZED (
    SELECT pg_notify($2, r.event_type)
    FROM made_ready r
    WHERE EXISTS (
        SELECT
        FROM tickr_workers w
        WHERE w.idle
          AND NOT w.lost
          AND w.expires_at > r.now
          AND r.event_type = ANY (w.event_types)
    )
)
SELECT
    ARRAY(SELECT (k - 1)::integer FROM want WHERE key IS NOT NULL AND id NOT IN (SELECT id FROM won)) AS refused,
    ARRAY(SELECT event_type FROM made_ready) AS made_ready,
    (SELECT count(*) FROM told) AS told
