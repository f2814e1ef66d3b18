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
-- The key is kept for as long after the new due time; never for less than before. It is looked up by its primary key whatever the
-- planner believes: a join that was planned on an empty table would read every key.
kept AS (
    UPDATE tickr_dedupe d
    SET expires_at = greatest(d.expires_at, coalesce(c.due, c.now) + $6::bigint * INTERVAL '1 microsecond')
    FROM clock c
    WHERE d.ctid = ANY (ARRAY(
        SELECT k.tid
        FROM gone g
        CROSS JOIN LATERAL (SELECT * FROM tickr_messages b WHERE b.id = g.id OFFSET 0) m
        CROSS JOIN LATERAL (
            SELECT k.ctid AS tid
            FROM tickr_dedupe k
            WHERE k.event_type = m.event_type
              AND k.key = m.idempotency_key
              AND k.id = g.id
            OFFSET 0
        ) k
    ))
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
