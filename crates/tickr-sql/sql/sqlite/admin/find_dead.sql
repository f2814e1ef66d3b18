-- Reads one dead letter, by primary key.
SELECT event_type, attempt, reason, died_at
FROM tickr_dead
WHERE id = ?1
