-- Takes a message out of what is due later by its id. Primary key.
DELETE FROM tickr_scheduled
WHERE id = ?1
RETURNING event_type, lane, attempt, crashes
