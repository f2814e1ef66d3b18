-- Whether a message is dead, and why. Primary key.
SELECT event_type, attempt, reason, died_at
FROM tickr_dead
WHERE id = ?1
