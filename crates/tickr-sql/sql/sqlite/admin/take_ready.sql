-- Takes one message out of the queue, by the unique index on id.
DELETE FROM tickr_ready
WHERE id = ?1
RETURNING event_type, lane, attempt, crashes
