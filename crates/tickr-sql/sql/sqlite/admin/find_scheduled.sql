-- Whether a message is due later, and when. Primary key.
SELECT event_type, lane, attempt, crashes, process_at
FROM tickr_scheduled
WHERE id = ?1
