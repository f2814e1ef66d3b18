-- Moves waiting messages to another time, keeping attempt and lane; what is ready and due now keeps its place.
-- $1 offset of the clock in microseconds, $2 ids, $3 due at, $4 due after so many microseconds (both absent: now), $5 channel,
-- $6 how long a key is kept, in microseconds.
-- Index on id of ready, primary key of scheduled. Rows are deleted and inserted, never updated.
WITH clock AS MATERIALIZED (
    SELECT
        n.now,
        CASE WHEN $3::timestamptz > n.now THEN $3 WHEN $4::bigint > 0 THEN n.now + $4::bigint * INTERVAL '1 microsecond' END AS due
    FROM (SELECT clock_timestamp() + $1::bigint * INTERVAL '1 microsecond' AS now) n
),
stays AS MATERIALIZED (
    SELECT r.id
    FROM tickr_ready r
    CROSS JOIN clock c
    WHERE r.id = ANY ($2)
      AND c.due IS NULL
    FOR UPDATE OF r
),
from_ready AS (
    DELETE FROM tickr_ready r
    USING clock c
    WHERE r.id = ANY ($2)
      AND c.due IS NOT NULL
    RETURNING r.id, r.event_type, CASE WHEN r.lane BETWEEN 0 AND 4 THEN r.lane ELSE 2 END AS lane, r.attempt, r.crashes
),
from_scheduled AS (
    DELETE FROM tickr_scheduled
    WHERE id = ANY ($2)
    RETURNING id, event_type, CASE WHEN lane BETWEEN 0 AND 4 THEN lane ELSE 2 END AS lane, attempt, crashes
),
gone AS MATERIALIZED (
    SELECT * FROM from_ready
    UNION ALL
    SELECT * FROM from_scheduled
),
ready AS (
    INSERT INTO tickr_ready (event_type, lane, id, attempt, crashes)
    SELECT g.event_type, g.lane, g.id, g.attempt, g.crashes
    FROM gone g
    CROSS JOIN clock c
    WHERE c.due IS NULL
    ORDER BY array_position($2, g.id)
    RETURNING event_type
),
later AS (
    INSERT INTO tickr_scheduled (process_at, id, event_type, lane, attempt, crashes)
    SELECT c.due, g.id, g.event_type, g.lane, g.attempt, g.crashes
    FROM gone g
    CROSS JOIN clock c
    WHERE c.due IS NOT NULL
),
-- The key is kept for as long after the new due time; never for less than before. Not as a condition on expires_at, for whose index
-- a plan of empty tables would read every key that expires before.
kept AS (
    UPDATE tickr_dedupe d
    SET expires_at = greatest(d.expires_at, k.expires_at)
    FROM (
        SELECT m.event_type, m.idempotency_key AS key, g.id, coalesce(c.due, c.now) + $6::bigint * INTERVAL '1 microsecond' AS expires_at
        FROM gone g
        CROSS JOIN clock c
        CROSS JOIN LATERAL (SELECT * FROM tickr_messages b WHERE b.id = g.id OFFSET 0) m
        WHERE m.idempotency_key IS NOT NULL
    ) k
    WHERE d.event_type = k.event_type
      AND d.key = k.key
      AND d.id = k.id
),
made_ready AS MATERIALIZED (
    SELECT DISTINCT event_type
    FROM ready
),
told AS MATERIALIZED (
    SELECT pg_notify($5, r.event_type)
    FROM made_ready r
    CROSS JOIN clock c
    WHERE EXISTS (
        SELECT
        FROM tickr_workers w
        WHERE w.idle
          AND NOT w.lost
          AND w.expires_at > c.now
          AND r.event_type = ANY (w.event_types)
    )
)
SELECT
    ARRAY(SELECT id FROM gone UNION ALL SELECT id FROM stays) AS done,
    ARRAY(SELECT event_type FROM made_ready) AS made_ready,
    (SELECT count(*) FROM told) AS told
