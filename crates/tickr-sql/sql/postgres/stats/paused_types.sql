-- Every paused type, by name. paused is tiny.
SELECT event_type
FROM tickr_paused
ORDER BY event_type
