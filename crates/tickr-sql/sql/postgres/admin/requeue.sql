-- Brings dead messages back with attempt 0. One without a body stays dead. $1 offset of the clock in microseconds, $2 ids, $3 due at,
-- $4 due after so many microseconds (both absent: now), $5 whether transitions are recorded, $6 channel, $7 how long a key is kept, in
-- microseconds.
-- Primary keys of dead and messages. Ids carry their time: what was enqueued first runs first again.
WITH clock AS MATERIALIZED (
    SELECT
        n.now,
        CASE WHEN $3::timestamptz > n.now THEN $3 WHEN $4::bigint > 0 THEN n.now + $4::bigint * INTERVAL '1 microsecond' END AS due
    FROM (SELECT clock_timestamp() + $1::bigint * INTERVAL '1 microsecond' AS now) n
),
gone AS MATERIALIZED (
    DELETE FROM tickr_dead d
    USING tickr_messages m
    WHERE m.id = d.id
      AND d.id = ANY ($2)
    -- No claim looks into a lane that there is not.
    RETURNING d.id, m.event_type, CASE WHEN m.priority BETWEEN 1 AND 3 THEN m.priority ELSE 2 END AS priority, m.idempotency_key AS key
),
ready AS (
    INSERT INTO tickr_ready (event_type, lane, id, attempt, crashes)
    SELECT g.event_type, g.priority, g.id, 0, 0
    FROM gone g
    CROSS JOIN clock c
    WHERE c.due IS NULL
    ORDER BY g.id
    RETURNING event_type
),
later AS (
    INSERT INTO tickr_scheduled (process_at, id, event_type, lane, attempt, crashes)
    SELECT c.due, g.id, g.event_type, g.priority, 0, 0
    FROM gone g
    CROSS JOIN clock c
    WHERE c.due IS NOT NULL
),
transition AS (
    INSERT INTO tickr_transitions (id, outcome, attempt, at)
    SELECT g.id, 'requeued', 0, c.now
    FROM gone g
    CROSS JOIN clock c
    WHERE $5
    ORDER BY g.id
),
-- The key is kept for as long after the new due time; never for less than before. It is looked up by its primary key whatever the
-- planner believes: a join that was planned on an empty table would read every key.
kept AS (
    UPDATE tickr_dedupe d
    SET expires_at = greatest(d.expires_at, coalesce(c.due, c.now) + $7::bigint * INTERVAL '1 microsecond')
    FROM clock c
    WHERE d.ctid = ANY (ARRAY(
        SELECT k.tid
        FROM gone g
        CROSS JOIN LATERAL (
            SELECT k.ctid AS tid
            FROM tickr_dedupe k
            WHERE k.event_type = g.event_type
              AND k.key = g.key
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
    SELECT pg_notify($6, r.event_type)
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
    ARRAY(SELECT id FROM gone ORDER BY id) AS done,
    ARRAY(SELECT event_type FROM made_ready) AS made_ready,
    (SELECT count(*) FROM told) AS told
