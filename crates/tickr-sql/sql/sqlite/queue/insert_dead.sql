-- A dead letter.
-- One that is there already, by a repair by hand, must not keep others.
INSERT INTO tickr_dead (id, event_type, attempt, reason, died_at)
VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (id) DO NOTHING
