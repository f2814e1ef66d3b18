-- Reads one message that is due later, by primary key.
SELECT event_type, lane, attempt, crashes, process_at
FROM tickr_scheduled
WHERE id = ?1
