-- Lists the paused types, by primary key.
SELECT event_type
FROM tickr_paused
ORDER BY event_type
