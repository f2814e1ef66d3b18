-- Allows claims of a type again; no row goes when it was not paused.
DELETE FROM tickr_paused
WHERE event_type = ?1
