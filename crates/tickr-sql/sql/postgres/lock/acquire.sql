-- Takes a named lease if it is free, expired or the holder's own; no row when another holds it. A taking by another, or after an
-- expiry, raises the term. $1 offset of the clock and $4 the time, in microseconds. Primary key.
INSERT INTO tickr_locks AS l (name, holder, term, expires_at)
SELECT $2, $3, 1, clock_timestamp() + ($1::bigint + $4::bigint) * INTERVAL '1 microsecond'
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
    expires_at = excluded.expires_at
WHERE l.holder = excluded.holder
   OR l.expires_at <= clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
RETURNING term
