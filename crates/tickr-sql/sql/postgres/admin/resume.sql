-- Allows claims of a type again; 0 rows when they were not stopped.
DELETE FROM tickr_paused
WHERE event_type = $1
RETURNING event_type
