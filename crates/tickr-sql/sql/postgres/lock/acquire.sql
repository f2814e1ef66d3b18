-- Takes a named lease if it is free, expired or the holder's own; no row when another holds it. A taking by another, or after an
-- expiry, raises the term. One that another holds for longer than its own length was written before the clock was set back: it ends
-- one length from now. $1 offset of the clock and $4 the time, in microseconds. Primary key.
WITH ahead AS (
    UPDATE tickr_locks h
    SET expires_at = clock_timestamp() + $1::bigint * INTERVAL '1 microsecond' + h.ttl
    WHERE h.name = $2
      AND h.holder <> $3
      AND h.expires_at - h.ttl > clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
)
INSERT INTO tickr_locks AS l (name, holder, term, expires_at, ttl)
SELECT
    $2, $3, 1, clock_timestamp() + ($1::bigint + $4::bigint) * INTERVAL '1 microsecond', $4::bigint * INTERVAL '1 microsecond'
WHERE NOT EXISTS (
    -- A look first: whoever asks in vain writes nothing.
    SELECT
    FROM tickr_locks h
    WHERE h.name = $2
      AND h.holder <> $3
      AND h.expires_at > statement_timestamp() + $1::bigint * INTERVAL '1 microsecond'
)
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder,
    term = CASE
        WHEN l.expires_at > clock_timestamp() + $1::bigint * INTERVAL '1 microsecond' THEN l.term
        ELSE l.term + 1
    END,
    expires_at = excluded.expires_at,
    ttl = excluded.ttl
WHERE l.holder = excluded.holder
   OR l.expires_at <= clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
RETURNING term
