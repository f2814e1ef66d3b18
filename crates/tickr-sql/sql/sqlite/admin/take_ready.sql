DELETE FROM tickr_ready
WHERE id = ?1
RETURNING event_type, lane, attempt, crashes
