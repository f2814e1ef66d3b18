-- Allows claims of a type (?1; empty: of everything) again; 0 rows when they were not stopped. Primary key.
DELETE FROM tickr_paused
WHERE event_type = ?1
