-- Dead letters before ?1, newest message first. Primary key, or the index on event_type, which carries it.
SELECT id, event_type, attempt, reason, died_at
FROM tickr_dead
WHERE id < ?1
ORDER BY id DESC
LIMIT ?2
