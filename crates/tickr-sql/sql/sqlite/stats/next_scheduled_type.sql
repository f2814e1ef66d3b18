-- The next event type after ?1: a jump in the index on event_type.
SELECT event_type
FROM tickr_scheduled
WHERE event_type > ?1
ORDER BY event_type
LIMIT 1
