-- Index on process_at.
SELECT min(process_at)
FROM tickr_scheduled
