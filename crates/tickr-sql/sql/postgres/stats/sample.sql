-- One row an event type that has a live or dead message. Thin tables only; each count looks at $2 rows at most, and
-- types are found by jumps in the indexes that begin with event_type. $1 offset of the clock in microseconds.
WITH RECURSIVE ready_type AS (
    (SELECT event_type FROM tickr_ready ORDER BY event_type LIMIT 1)
    UNION ALL
    SELECT (SELECT r.event_type FROM tickr_ready r WHERE r.event_type > t.event_type ORDER BY r.event_type LIMIT 1)
    FROM ready_type t
    WHERE t.event_type IS NOT NULL
),
scheduled_type AS (
    (SELECT event_type FROM tickr_scheduled ORDER BY event_type LIMIT 1)
    UNION ALL
    SELECT (SELECT s.event_type FROM tickr_scheduled s WHERE s.event_type > t.event_type ORDER BY s.event_type LIMIT 1)
    FROM scheduled_type t
    WHERE t.event_type IS NOT NULL
),
dead_type AS (
    (SELECT event_type FROM tickr_dead ORDER BY event_type LIMIT 1)
    UNION ALL
    SELECT (SELECT d.event_type FROM tickr_dead d WHERE d.event_type > t.event_type ORDER BY d.event_type LIMIT 1)
    FROM dead_type t
    WHERE t.event_type IS NOT NULL
),
leased AS MATERIALIZED (
    SELECT event_type, count(*) AS n
    FROM tickr_leased
    GROUP BY event_type
),
served AS MATERIALIZED (
    SELECT DISTINCT unnest(event_types) AS event_type
    FROM tickr_workers
    WHERE NOT lost
      AND expires_at > statement_timestamp() + $1::bigint * INTERVAL '1 microsecond'
),
type AS (
    SELECT event_type FROM ready_type WHERE event_type IS NOT NULL
    UNION SELECT event_type FROM scheduled_type WHERE event_type IS NOT NULL
    UNION SELECT event_type FROM dead_type WHERE event_type IS NOT NULL
    UNION SELECT event_type FROM leased
)
SELECT
    t.event_type,
    ready.fresh + scheduled.fresh AS created,
    ready.n - ready.fresh + scheduled.n - scheduled.fresh AS retrying,
    coalesce(l.n, 0) AS handling,
    (SELECT count(*) FROM (SELECT FROM tickr_dead d WHERE d.event_type = t.event_type LIMIT $2) d) AS dead,
    ready.n AS ready,
    ready.suspects,
    ready.oldest,
    (ready.n > 0 OR scheduled.n > 0) AND NOT EXISTS (SELECT FROM served v WHERE v.event_type = t.event_type) AS unserved,
    clock_timestamp() + $1::bigint * INTERVAL '1 microsecond' AS now
FROM type t
CROSS JOIN LATERAL (
    SELECT
        sum(c.n)::bigint AS n,
        sum(c.fresh)::bigint AS fresh,
        (sum(c.n) FILTER (WHERE i.lane = 4))::bigint AS suspects,
        min(c.oldest) AS oldest
    FROM generate_series(0, 4) i (lane)
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS n,
            count(*) FILTER (WHERE x.attempt = 0 AND x.crashes = 0) AS fresh,
            (
                -- Since it came back, was due, or was enqueued. A due time that has not come was brought forward.
                SELECT coalesce(
                    (SELECT max(x.at) FROM tickr_transitions x WHERE x.id = m.id AND x.at >= m.created_at),
                    CASE WHEN m.scheduled_at <= statement_timestamp() + $1::bigint * INTERVAL '1 microsecond' THEN m.scheduled_at END,
                    m.created_at
                )
                FROM tickr_messages m
                WHERE m.id = (
                    SELECT f.id
                    FROM tickr_ready f
                    WHERE f.event_type = t.event_type
                      AND f.lane = i.lane
                    ORDER BY f.seq
                    LIMIT 1
                )
            ) AS oldest
        FROM (
            SELECT r.attempt, r.crashes
            FROM tickr_ready r
            WHERE r.event_type = t.event_type
              AND r.lane = i.lane
            LIMIT $2
        ) x
    ) c
) ready
CROSS JOIN LATERAL (
    SELECT count(*) AS n, count(*) FILTER (WHERE x.attempt = 0 AND x.crashes = 0) AS fresh
    FROM (
        SELECT s.attempt, s.crashes
        FROM tickr_scheduled s
        WHERE s.event_type = t.event_type
        LIMIT $2
    ) x
) scheduled
LEFT JOIN leased l ON l.event_type = t.event_type
ORDER BY t.event_type
