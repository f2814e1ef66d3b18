-- An open claim whose worker has no row, after rows were deleted or copied without foreign keys, would never be taken back: its worker gets
-- a row, as a condemned one. $1 offset of the clock in microseconds. Primary key of workers; reads open_claims, which is small.
INSERT INTO tickr_workers (id, name, event_types, idle, started_at, expires_at, lease, lost)
SELECT DISTINCT o.worker, '?', '{}'::text[], false, c.now, c.now, INTERVAL '0', true
FROM tickr_open_claims o
CROSS JOIN (SELECT clock_timestamp() + $1::bigint * INTERVAL '1 microsecond' AS now OFFSET 0) c
WHERE NOT EXISTS (SELECT FROM tickr_workers w WHERE w.id = o.worker)
ON CONFLICT (id) DO NOTHING
RETURNING id
