-- Dead letters of a type before ?1, newest message first. Index on event_type, which carries the id.
SELECT id, event_type, attempt, reason, died_at
FROM tickr_dead
WHERE event_type = ?3
  AND id < ?1
ORDER BY id DESC
LIMIT ?2
