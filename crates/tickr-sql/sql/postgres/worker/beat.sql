-- Extends a lease, and answers with every open claim of the worker: one row with token NULL if there are none, no row when the
-- worker is unknown or condemned. $1 offset of the clock and $3 the lease, in microseconds; $4 whether it sleeps; $5 the table of
-- ready messages, as a name. Every row has the most crashes among the first suspects of each type that is not paused, NULL if none
-- waits, and the last place that the sequence has given out: 0 after a restart, NULL where the role may not read the sequence.
-- Primary key of workers, index on worker of open_claims; one probe of the primary key of ready per type for suspects.
WITH me AS (
    UPDATE tickr_workers
    SET expires_at = clock_timestamp() + ($1::bigint + $3::bigint) * INTERVAL '1 microsecond',
        lease = $3::bigint * INTERVAL '1 microsecond',
        idle = $4
    WHERE id = $2
      AND NOT lost
    RETURNING id, event_types
),
once AS MATERIALIZED (   -- not once per open claim
    SELECT
        (
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
        ) AS suspects,
        CASE
            WHEN has_sequence_privilege(s.name, 'SELECT, USAGE') THEN coalesce(pg_sequence_last_value(s.name::regclass), 0)
        END AS place
    FROM me
    CROSS JOIN (SELECT pg_get_serial_sequence($5::text, 'seq') AS name OFFSET 0) s
)
SELECT o.token, o.settled, o.revoked, once.suspects, once.place
FROM me
CROSS JOIN once
LEFT JOIN tickr_open_claims o ON o.worker = me.id
ORDER BY o.token
