-- A dead letter.
INSERT INTO tickr_dead (id, event_type, attempt, reason, died_at)
VALUES (?1, ?2, ?3, ?4, ?5)
