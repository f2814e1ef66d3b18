-- The pauses in force at ?1: that of everything first, whose event type is empty, then types by name. paused is tiny.
SELECT event_type, paused_at, until, actor, reason
FROM tickr_paused
WHERE until IS NULL
   OR until > ?1
ORDER BY event_type
