-- A lease that ends more than its own length from now was written before the clock was set back: it ends one length from now.
-- $1 offset of the clock in microseconds. A row that is locked is being extended, and needs nothing. workers is tiny.
WITH ahead AS MATERIALIZED (
    SELECT id
    FROM tickr_workers
    WHERE expires_at - lease > clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
      AND NOT lost
    ORDER BY id
    FOR UPDATE SKIP LOCKED
)
UPDATE tickr_workers w
SET expires_at = clock_timestamp() + $1::bigint * INTERVAL '1 microsecond' + w.lease
FROM ahead a
WHERE w.id = a.id
