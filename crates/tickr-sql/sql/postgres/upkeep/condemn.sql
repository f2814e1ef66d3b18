-- Condemns workers whose lease has expired. $1 offset of the clock in microseconds. workers is tiny.
-- Expiry is looked at again once the row is locked: a heartbeat that came first keeps the worker.
WITH expired AS MATERIALIZED (
    SELECT id
    FROM tickr_workers
    WHERE expires_at <= statement_timestamp() + $1::bigint * INTERVAL '1 microsecond'
      AND NOT lost
    ORDER BY id
    FOR UPDATE SKIP LOCKED
)
UPDATE tickr_workers w
SET lost = true
FROM expired e
WHERE w.id = e.id
RETURNING w.id
