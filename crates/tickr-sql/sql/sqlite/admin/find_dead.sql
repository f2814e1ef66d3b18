SELECT event_type, attempt, reason, died_at
FROM tickr_dead
WHERE id = ?1
