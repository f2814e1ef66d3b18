-- Scoped to holder and term; an expired lease is gone. Releasing it (no time) keeps the row: terms only grow.
-- $1 offset of the clock and $5 the time, in microseconds. Primary key.
UPDATE tickr_locks
SET expires_at = CASE
        WHEN $5::bigint > 0 THEN clock_timestamp() + ($1::bigint + $5::bigint) * INTERVAL '1 microsecond'
        ELSE '-infinity'
    END,
    ttl = $5::bigint * INTERVAL '1 microsecond'
WHERE name = $2
  AND holder = $3
  AND term = $4
  AND expires_at > clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
RETURNING name
