-- The next event type after ?1: a jump in the primary key, not a scan.
SELECT event_type
FROM tickr_ready
WHERE event_type > ?1
ORDER BY event_type
LIMIT 1
