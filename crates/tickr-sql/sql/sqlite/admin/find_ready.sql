-- Unique index on id.
SELECT event_type, lane, attempt, crashes
FROM tickr_ready
WHERE id = ?1
