-- Stops claims of a type; no row changes when it was paused already.
INSERT INTO tickr_paused (event_type)
VALUES (?1)
ON CONFLICT (event_type) DO NOTHING
