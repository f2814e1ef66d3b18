DELETE FROM tickr_scheduled
WHERE id = ?1
RETURNING event_type, lane, attempt, crashes
