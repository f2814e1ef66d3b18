-- Extends a lease, and answers with every open claim of the worker: one row with token NULL if there are none, no row when the
-- worker is unknown or condemned. $1 offset of the clock and $3 the lease, in microseconds; $4 whether it sleeps.
-- The last column: the most crashes among the first suspects of each type that is not paused, NULL if none waits.
-- Primary key of workers, index on worker of open_claims; one probe of the primary key of ready per type for suspects.
WITH me AS (
    UPDATE tickr_workers
    SET expires_at = clock_timestamp() + ($1::bigint + $3::bigint) * INTERVAL '1 microsecond',
        idle = $4
    WHERE id = $2
      AND NOT lost
    RETURNING id, event_types
),
suspect AS MATERIALIZED (   -- once, not once per open claim
    SELECT (
        SELECT max(r.crashes)
        FROM unnest(me.event_types) t (event_type)
        CROSS JOIN LATERAL (
            SELECT r.crashes
            FROM tickr_ready r
            WHERE r.event_type = t.event_type COLLATE "C"
              AND r.lane = 4
            ORDER BY r.seq
            LIMIT 1
        ) r
        WHERE NOT EXISTS (
            SELECT
            FROM tickr_paused p
            WHERE (p.event_type = t.event_type COLLATE "C" OR p.event_type = '')
              AND p.until > statement_timestamp() + $1::bigint * INTERVAL '1 microsecond'
        )
    ) AS crashes
    FROM me
)
SELECT o.token, o.settled, o.revoked, (SELECT crashes FROM suspect) AS suspects
FROM me
LEFT JOIN tickr_open_claims o ON o.worker = me.id
ORDER BY o.token
