SELECT event_type
FROM tickr_paused
ORDER BY event_type
