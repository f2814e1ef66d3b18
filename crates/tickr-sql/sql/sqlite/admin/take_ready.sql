-- Takes a message out of the queue by its id. Unique index on id.
DELETE FROM tickr_ready
WHERE id = ?1
RETURNING event_type, lane, attempt, crashes
