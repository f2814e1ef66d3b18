-- Stops claims of a type; 0 rows when they were stopped already.
INSERT INTO tickr_paused (event_type)
VALUES ($1)
ON CONFLICT (event_type) DO NOTHING
RETURNING event_type
