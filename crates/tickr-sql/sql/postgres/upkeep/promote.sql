-- Moves due messages to ready, those first that are due longest. Answers when the next one is due and the types made ready.
-- $1 offset of the clock in microseconds, $2 the moment to look behind (index entries of what was promoted pile up before it),
-- $3 how many, $4 channel. Index on process_at; rows by ctid, which is safe because they are never updated.
WITH due AS MATERIALIZED (
    SELECT ctid AS tid
    FROM tickr_scheduled
    WHERE process_at > $2
      AND process_at <= statement_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    ORDER BY process_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
),
gone AS MATERIALIZED (
    DELETE FROM tickr_scheduled
    WHERE ctid = ANY (ARRAY(SELECT tid FROM due))
    RETURNING process_at, id, event_type, lane, attempt, crashes
),
ready AS (
    INSERT INTO tickr_ready (event_type, lane, id, attempt, crashes)
    -- No claim looks into a lane that there is not: what is in one would never run.
    SELECT event_type, CASE WHEN lane BETWEEN 0 AND 4 THEN lane ELSE 2 END, id, attempt, crashes
    FROM gone g
    -- One that is ready already, by a repair by hand, must not keep the others. ON CONFLICT would double the cost of the others.
    WHERE (SELECT true FROM tickr_ready r WHERE r.id = g.id) IS NULL
    ORDER BY process_at, id
),
told AS MATERIALIZED (
    SELECT pg_notify($4, r.event_type)
    FROM (SELECT DISTINCT event_type FROM gone) r
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
    (SELECT count(*) FROM gone) AS moved,
    (SELECT max(process_at) FROM gone) AS last,
    statement_timestamp() + $1::bigint * INTERVAL '1 microsecond' AS now,
    (
        SELECT process_at
        FROM tickr_scheduled
        WHERE process_at >= coalesce((SELECT max(process_at) FROM gone), $2)
          AND id <> ALL (ARRAY(SELECT id FROM gone))
        ORDER BY process_at
        LIMIT 1
    ) AS next,
    ARRAY(SELECT DISTINCT event_type FROM gone) AS made_ready,
    (SELECT count(*) FROM told) AS told
