-- Forgets expired idempotency keys whose message does not live, from a page by (expires_at, event_type, key), so that keys of live
-- messages never hide those behind them. $1 offset of the clock in microseconds, $2-$4 where the page begins, $5 its length.
-- Answers where it ended, NULL at the end. Index on (expires_at, event_type, key), primary keys.
WITH page AS MATERIALIZED (
    SELECT event_type, key, id, expires_at
    FROM tickr_dedupe
    WHERE expires_at <= statement_timestamp() + $1::bigint * INTERVAL '1 microsecond'
      AND (expires_at, event_type, key) > ($2, $3, $4)
    ORDER BY expires_at, event_type, key
    LIMIT $5
),
gone AS (
    DELETE FROM tickr_dedupe d
    USING page p
    WHERE d.event_type = p.event_type
      AND d.key = p.key
      -- Not NOT EXISTS, which may be planned as scans of everything.
      AND (SELECT true FROM tickr_ready r WHERE r.id = p.id) IS NULL
      AND (SELECT true FROM tickr_scheduled s WHERE s.id = p.id) IS NULL
      AND (SELECT true FROM tickr_dead x WHERE x.id = p.id) IS NULL
      -- A hash of all that is leased, made once; an array would be read from its beginning for each key.
      AND p.id NOT IN (SELECT l.id FROM tickr_leased l)
    RETURNING d.key
),
last AS (
    SELECT expires_at, event_type, key
    FROM page
    ORDER BY expires_at DESC, event_type DESC, key DESC
    LIMIT 1
)
SELECT (SELECT count(*) FROM gone) AS rows, l.expires_at, l.event_type, l.key
FROM (SELECT count(*) >= $5 AS full FROM page) f
LEFT JOIN last l ON f.full
