INSERT INTO tickr_paused (event_type)
VALUES (?1)
ON CONFLICT (event_type) DO NOTHING
