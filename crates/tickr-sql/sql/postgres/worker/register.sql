-- Introduces an incarnation, or extends its lease; no row when it was condemned.
-- $1 offset of the clock and $5 the lease, in microseconds. Primary key.
INSERT INTO tickr_workers AS w (id, name, event_types, idle, started_at, expires_at, lease, lost)
SELECT $2, $3, $4, false, c.now, c.now + $5::bigint * INTERVAL '1 microsecond', $5::bigint * INTERVAL '1 microsecond', false
FROM (SELECT clock_timestamp() + $1::bigint * INTERVAL '1 microsecond' AS now) c
ON CONFLICT (id) DO UPDATE
SET name = excluded.name,
    event_types = excluded.event_types,
    expires_at = excluded.expires_at,
    lease = excluded.lease
WHERE NOT w.lost
RETURNING id
