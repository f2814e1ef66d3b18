-- A page of expired keys by (expires_at, event_type, key), so that keys of live messages never hide those behind them.
-- The index on expires_at carries the primary key.
SELECT
    d.event_type,
    d.key,
    d.id,
    d.expires_at,
    EXISTS (SELECT 1 FROM tickr_ready r WHERE r.id = d.id)
        OR EXISTS (SELECT 1 FROM tickr_scheduled s WHERE s.id = d.id)
        OR EXISTS (SELECT 1 FROM tickr_dead x WHERE x.id = d.id) AS live
FROM tickr_dedupe d
WHERE d.expires_at <= ?1
  AND (d.expires_at, d.event_type, d.key) > (?2, ?3, ?4)
ORDER BY d.expires_at, d.event_type, d.key
LIMIT ?5
